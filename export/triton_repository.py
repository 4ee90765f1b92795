"""Models of a Triton repository on disk: assembled beside their place, then renamed."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import wagi_rt
from export.triton_configs import (
    GRAPH_FILES,
    MODEL,
    PLATFORMS,
    PYTHON,
    SHIFT,
    Options,
    configs,
    names,
    steps,
    text,
)
from wagi_rt.chain import Step
from wagi_rt.directions import SUFFIX
from wagi_rt.engines import trt_plans
from wagi_rt.engines.trt_plans import Record, Target
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest

CONFIG = "config.pbtxt"
_PYTHON_MODEL = Path(__file__).with_name("triton_model.py")
Source = Path | bytes


def check_target(manifest: Manifest, options: Options, out: Path, version: int, overwrite: bool) -> None:
    """UserError (status 2) when the repository may not be written, or holds this model otherwise."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"-o {out}: exists and is not a folder; name a new folder", 2)
    if overwrite:
        return
    for name, config in configs(manifest, options).items():
        folder = out / name
        if not folder.exists():
            continue
        try:
            same = (folder / CONFIG).read_text(encoding="utf-8") == text(config)
        except (OSError, ValueError):
            same = False
        if not same:
            line = f"-o {out}: holds a model {name} of other settings, and all versions share one {CONFIG}"
            raise UserError(f"{line}; add --overwrite, or --name for a model beside it", 2)
        if (folder / str(version)).exists():
            line = f"-o {out}: holds version {version} of {name} already"
            raise UserError(f"{line}; write --version {version + 1}, or add --overwrite", 2)


def write(
    manifest: Manifest,
    options: Options,
    out: Path,
    version: int,
    overwrite: bool,
    plans: Mapping[str, bytes],
) -> None:
    """Write the models of a target that was checked; the ensemble, which users call, appears last.

    plans: TensorRT's, by step. UserError when the disk refuses; nothing is changed then.
    """
    try:
        out.resolve().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{out.name}.", suffix=".tmp", dir=out.resolve().parent
        ) as made:
            new, old = Path(made, "new"), Path(made, "old")
            _assemble(manifest, options, new, version, plans)
            old.mkdir()
            out.mkdir(exist_ok=True)
            for name in _known(manifest, options) if overwrite else ():
                if (out / name).exists():
                    (out / name).rename(old / name)
            for name in configs(manifest, options):
                if (out / name).exists():
                    (new / name / str(version)).rename(out / name / str(version))
                else:
                    (new / name).rename(out / name)
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror or error})") from None


def _assemble(
    manifest: Manifest, options: Options, folder: Path, version: int, plans: Mapping[str, bytes]
) -> None:
    parts = {options.model(step): step for step in steps(manifest, options.platform)}
    first: dict[Path, Path] = {}  # source -> its first copy: weights that several parts need exist once
    for name, config in configs(manifest, options).items():
        _put(text(config).encode(), folder / name / CONFIG, first)
        step = parts.get(name)
        sources = _files(manifest, step, folder, plans) if step else _about(manifest)
        for file, source in sources:
            _put(source, folder / name / str(version) / file, first)
        if step and step.name == MODEL.name and "STRENGTHS" in step.inputs:
            ones = np.ones(len(names(manifest)), "<f4")
            _put(ones.tobytes(), folder / name / "warmup" / "ones", first)
    shutil.rmtree(folder / "glue", ignore_errors=True)


def _files(
    manifest: Manifest, step: Step, folder: Path, plans: Mapping[str, bytes]
) -> Iterator[tuple[str, Source]]:
    """(name, contents) of what a part needs."""
    if step.name in PYTHON:
        yield "model.py", _PYTHON_MODEL
        if step.name == MODEL.name:
            files = (*manifest.hashes, *manifest.packed, "manifest.json")
            yield from ((f"bundle/{name}", manifest.folder / name) for name in files)
        elif step.name == SHIFT.name:
            for name, one in manifest.directions.items():
                yield f"{name}{SUFFIX}", manifest.folder / one.file
    elif plans:
        yield GRAPH_FILES["tensorrt"], plans[step.name]
    elif step.is_glue:
        from export.glue import write_glue

        (folder / "glue").mkdir(exist_ok=True)
        yield GRAPH_FILES["onnxruntime"], write_glue(manifest, step.name, folder / "glue").read_bytes()
    else:
        yield GRAPH_FILES["onnxruntime"], manifest.folder / manifest.graphs[step.name].file
        yield from ((name, manifest.folder / name) for name in manifest.files)


def _about(manifest: Manifest) -> list[tuple[str, Source]]:
    """The one file of an ensemble's version: Triton wants the folder, and some storage loses empty ones."""
    about = {
        "bundle": manifest.name,
        "manifest_sha256": manifest.sha256,
        "directions": names(manifest),
        "wagi_rt": wagi_rt.__version__,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return [("about.json", json.dumps(about, indent=1).encode())]


def _put(source: Source, target: Path, first: dict[Path, Path]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        target.write_bytes(source)
        return
    try:
        os.link(first[source], target)
    except (KeyError, OSError):  # the first one, or a file system without links
        shutil.copyfile(source, target)
        first[source] = target


def _known(manifest: Manifest, options: Options) -> set[str]:
    """Every folder that a model of this name can have, whatever its platform."""
    parts = [step for platform in PLATFORMS for step in steps(manifest, platform)]
    return {options.name, *map(options.model, (*parts, SHIFT, MODEL))}


# ------------------------------------------------------------------------------------------------ TensorRT


def find_engines(manifest: Manifest, gpu: str | None) -> dict[str, tuple[bytes, Record]]:
    """The engines of every graph that the model runs, from to_engine.py's cache, by step. Or UserError."""
    wanted = [step.name for step in steps(manifest, "tensorrt") if step.name not in PYTHON]
    build = "build them on the GPU: python export/to_engine.py BUNDLE"
    build += " --engines edit" if manifest.directions else ""
    records = trt_plans.records(trt_plans.model_hash(manifest), wanted[0])
    targets = {
        Target(one.model, one.gpu, one.tensorrt, one.precision): f"{one.gpu} (TensorRT {one.tensorrt})"
        for one in records
        if gpu in (None, one.gpu)
    }
    if not targets:
        line = f"--platform tensorrt: {trt_plans.cache()} holds no engines of this model"
        raise UserError(f"{line}{f' for {gpu}' if gpu else ''}; {build}")
    if len(targets) > 1:
        raise UserError(f"--gpu: there are engines for {', '.join(targets.values())}; name one", 2)
    (target,) = targets
    found = {name: trt_plans.read_plan(target, name) for name in wanted}
    if least := max(record.batch["min"] for _, record in found.values()) - 1:
        line = f"--platform tensorrt: the engines take batches from {least + 1} on"
        raise UserError(f"{line}; build them with --min-batch 1")
    return found
