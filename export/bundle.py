"""A WaGI model -> a bundle folder, all or nothing: written beside its place, proved, then renamed."""

import datetime
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import torch

from export.activations import MOST_FOR_HALF, largest_activations
from export.comparison import compare
from export.graphs import Graph, aligner, build_graphs, chains, tensor_shapes
from export.int8 import Int8, quantised, require
from export.packing import pack, text_graph
from export.parity import make_probes, naive_errors, reference
from export.pipeline import join
from export.rows import Recorded, Row, failure
from export.trace import DEFAULT_OPSET, MIN_OPSET, trace, write_graph
from export.weights import WEIGHTS_FILE, WeightStore
from wagi.checkpoint import weights_hash
from wagi.editing.styleclip import TextModel
from wagi.model import WaGI
from wagi_rt import manifest as manifests
from wagi_rt import probes
from wagi_rt.chain import EDIT, PIPELINE
from wagi_rt.directions import STYLE, Direction
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError
from wagi_rt.manifest import file_sha256
from wagi_rt.schema import RESIZED, SCHEMA
from wagi_rt.worded import GRAPH

MANIFEST = "manifest.json"
# Arithmetic and storage. Weights rounded to half change every value by up to 2^-11, and a network of some
# forty layers adds that up: the wider limits are what rounding costs, not what the engine adds.
FP32, HALF_WEIGHTS, HALF = "fp32", "fp16-weights", "fp16"
# Largest absolute difference from PyTorch in FP32, and least PSNR in dB.
TOLERANCES = {FP32: 1e-3, HALF_WEIGHTS: 5e-2, HALF: 2e-1}
LIMITS_DB = {FP32: 80.0, HALF_WEIGHTS: 55.0, HALF: 55.0}
MAX_OPSET = 23
PARITY_SEED = 20


def check_target(out: Path, overwrite: bool) -> None:
    """UserError when `out` may not be written: it holds something, or is no folder."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"-o {out}: exists and is not a folder; name a new folder", 2)
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise UserError(f"-o {out}: holds other files and no bundle; name a new or empty folder", 2)
    if not overwrite:
        raise UserError(f"-o {out}: holds a bundle already; add --overwrite or name another folder", 2)


def check_opset(opset: int) -> None:
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise UserError(f"--opset {opset}: must be from {MIN_OPSET} to {MAX_OPSET}", 2)


class Export(NamedTuple):
    """The findings of an export: the parity table's rows and the largest activation of every graph."""

    rows: list[Row]
    largest: dict[str, float]


def export_model(
    model: WaGI,
    out: str | os.PathLike[str],
    name: str,
    *,
    precision: str = FP32,
    up: str = "transposed",
    skip: str = "folded",
    opset: int = DEFAULT_OPSET,
    atol: float | None = None,
    overwrite: bool = False,
    source: dict[str, Any] | None = None,
    images: np.ndarray | None = None,
    heldout: Iterable[np.ndarray] = (),
    directions: Mapping[str, Direction] | None = None,
    styles: bool = False,
    text: TextModel | None = None,
    int8: Int8 | None = None,
    traced: Mapping[str, ir.Model] | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Export:
    """Export `model` (put into eval mode, in FP32 on the CPU) as the bundle folder `out`.

    The separate graphs, and pipeline and edit joined from them, share one weights file. They are loaded into
    ONNX Runtime through the runtime and compared with PyTorch before the folder gets its name.

    Args:
        precision: fp32, fp16 (half arithmetic with FP32 islands) or fp16-weights (only stored in half).
        up: form of the up-convolutions, one of export.synthesis.UP_FORMS.
        skip: form of the skip path, one of export.synthesis.SKIP_FORMS.
        atol: largest absolute difference allowed anywhere; None: TOLERANCES.
        overwrite: replace the bundle at `out`; files there that are not the old bundle's are kept.
        source: where the model comes from, for the manifest.
        images: [N, 3, S, S] in [-1, 1] to compare on and to measure activations on; None: seeded ones.
        heldout: batches [N, 3, S, S] on which the errors of naive inversions are measured.
        directions: those that the bundle shall hold, by name.
        styles: let graphs take style offsets behind the latents; `text`, the model of edits by text, and
            directions in style space want them anyway.
        int8: parts that shall be int8, on the pictures of which they are measured; not with fp16.
        traced: what `trace_one_by_one` gave for this model and precision, to save the tracing.
        report: receives one line of progress per step.
    All comparisons have passed on return. Raises UserError when the target may not be written (status 2), a
    difference is past its limit, half precision would overflow or the disk refuses (status 1); nothing is
    left behind then.
    """
    out = Path(out)
    check_target(out, overwrite)
    check_opset(opset)
    model = model.float().cpu().eval()
    styles |= text is not None or any(one.space == STYLE for one in (directions or {}).values())
    tolerance = TOLERANCES[precision] if atol is None else atol
    limits = {"tolerance": tolerance, "limit_psnr_db": LIMITS_DB[precision]}
    with _unfinished(out) as beside:
        graphs = build_graphs(model, arithmetic(precision), up, skip, styles)
        report("running PyTorch")
        seeded = probes.images(model.generator.size, PARITY_SEED)
        results = reference(model, seeded, styles)
        wanted = dict(results) if images is None else reference(model, images, styles)
        if text:
            graphs[GRAPH], wanted[GRAPH] = text_graph(text)
        largest = _measure(graphs, wanted, precision)
        parts = traced.items() if traced else trace_one_by_one(graphs, opset, report)
        parts = quantised(parts, int8, model, styles, report) if int8 else parts
        write_graphs(parts, model, beside, precision, styles)
        described = {**(source or {}), "torch": torch.__version__, "onnx": onnx.__version__, "opset": opset}
        described["probes"] = make_probes(results, PARITY_SEED)
        manifest = _manifest(model, graphs, beside, name, precision, limits, largest, described)
        manifest |= {"styles": model.generator.space.channels} if styles else {}
        manifest |= pack(directions or {}, text, manifest, beside) | naive_errors(model, heldout)
        if int8:
            int8.mark(manifest)
        _write_manifest(manifest, beside)
        report("comparing ONNX Runtime with PyTorch")
        with OrtEngine(manifests.read(beside)) as engine:
            if int8:
                manifest["int8"]["psnr_db"] = require(engine, model, int8, styles, report)
            found = Export(compare(engine, wanted), largest)
        _record_parity(found, manifest, beside, out)
        _publish(beside, out)
    return found


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A folder beside `out`, gone at the end; UserError where the disk refuses."""
    beside: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
        yield beside
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror or error})") from None
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def _record_parity(found: Export, manifest: dict[str, Any], folder: Path, out: Path) -> None:
    """Put the measurements into the manifest; ParityError when they are past the limits."""
    if message := failure(found.rows):
        raise ParityError(f"{message}; nothing was written to {out}", found)
    for row in found.rows:
        if row.name in manifest["graphs"]:
            manifest["graphs"][row.name]["parity"] = {"max_abs": row.difference, "psnr_db": row.psnr}
    _write_manifest(manifest, folder)


def arithmetic(precision: str) -> str:
    """The precision for `build_graphs`: fp16-weights computes in FP32."""
    return FP32 if precision == HALF_WEIGHTS else precision


def _measure(graphs: dict[str, Graph], results: Recorded, precision: str) -> dict[str, float]:
    """Largest activation of every graph; UserError when half precision could not hold it."""
    inputs = {
        name: {key: torch.from_numpy(value) for key, value in given.items()}
        for name, (given, _) in results.items()
    }
    largest = largest_activations(graphs, inputs)
    for name, value in largest.items():
        if precision == HALF and not value <= MOST_FOR_HALF:
            raise UserError(
                f"graph '{name}': an activation of {value:.3g}, FP16 is safe up to {MOST_FOR_HALF:.3g}; "
                "export without --fp16"
            )
    return largest


class ParityError(UserError):
    """The exported graphs do not compute what PyTorch computes; `found` is the whole table."""

    def __init__(self, message: str, found: Export) -> None:
        super().__init__(message, status=1)
        self.found = found


def trace_one_by_one(
    graphs: dict[str, Graph], opset: int, report: Callable[[str], None]
) -> Iterator[tuple[str, ir.Model]]:
    """One graph in memory at a time: the weights of a large model fill gigabytes."""
    separate = [graph for graph in graphs.values() if graph.name not in (PIPELINE, EDIT)]
    for number, graph in enumerate(separate, 1):
        report(f"tracing {graph.name} ({number} of {len(separate)})")
        yield graph.name, trace(graph.module, graph.inputs, list(graph.outputs), opset)


def write_graphs(
    traced: Iterable[tuple[str, ir.Model]],
    model: WaGI,
    folder: Path,
    precision: str,
    styles: bool = False,
) -> None:
    """The separate graphs, then the fused ones, which are made of the written files."""
    with WeightStore(folder) as store:
        for name, graph in traced:
            write_graph(graph, folder / f"{name}.onnx", store, precision == HALF_WEIGHTS)
        for name, whole in zip((PIPELINE, EDIT), chains(model), strict=True):
            joined = join(folder, tensor_shapes(model, styles), whole, name)
            write_graph(joined, folder / f"{name}.onnx", store, half_weights=False)


def _tensor(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"shape": ["N", *shape], "dtype": "float32"}


def _manifest(
    model: WaGI,
    graphs: dict[str, Graph],
    folder: Path,
    name: str,
    precision: str,
    limits: dict[str, float],
    largest: dict[str, float],
    source: dict[str, Any],
) -> dict[str, Any]:
    generator = model.generator
    entries = {
        graph.name: {
            "file": f"{graph.name}.onnx",
            "sha256": file_sha256(folder / f"{graph.name}.onnx"),
            "inputs": {key: _tensor(tuple(value.shape[1:])) for key, value in graph.inputs.items()},
            "outputs": {key: _tensor(shape) for key, shape in graph.outputs.items()},
            **limits,
            "max_activation": largest[graph.name],
        }
        for graph in graphs.values()
    }
    return {
        "schema": RESIZED if model.pil else SCHEMA,
        "name": name,
        "size": generator.size,
        "resolution": model.resolution,
        "n_latent": generator.n_latent,
        "style_dim": generator.style_dim,
        "precision": precision,
        "tolerance": limits["tolerance"],
        "default": PIPELINE,
        "aligner": aligner(model),
        "generator": weights_hash(generator),
        "naive": "early" if model.early else "bilinear" if model.bilinear else "full",
        **({"image_resize": "pil"} if model.pil else {}),
        "full_detail": model.full_detail,
        "graphs": entries,
        "files": {WEIGHTS_FILE: file_sha256(folder / WEIGHTS_FILE)},
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "source": source,
    }


def _write_manifest(manifest: dict[str, Any], folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _publish(beside: Path, out: Path) -> None:
    """Give the finished folder its name. A bundle that was there goes; other files (a model card) stay."""
    beside.chmod(0o755)  # mkdtemp makes private folders
    if not out.exists():
        beside.rename(out)
        return
    if any(out.iterdir()):
        for path in _foreign(out):
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, beside / path.name)
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    os.replace(out, old)
    try:
        os.replace(beside, out)
    except OSError:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _foreign(out: Path) -> list[Path]:
    """The files in a bundle's folder that do not belong to the bundle."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        own = {entry["file"] for entry in manifest["graphs"].values()} | set(manifest.get("files", {}))
        own |= {entry["file"] for entry in manifest.get("directions", {}).values()}
        own |= {one["file"] for one in manifest.get("text", {}).values() if isinstance(one, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        own = set()  # a damaged bundle: its files are kept unless the new one has the same names
    own |= {MANIFEST}
    return [path for path in out.iterdir() if path.name not in own and not path.name.endswith(".onnx")]
