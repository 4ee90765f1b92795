"""A WaGI model -> a bundle folder, all or nothing: written beside its place, proved, then renamed."""

import datetime
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch

from export.graphs import Graph, build_graphs
from export.parity import Row, compare, failure, make_probes, seeded_images
from export.trace import DEFAULT_OPSET, MIN_OPSET, trace, write_graph
from export.weights import WEIGHTS_FILE, WeightStore
from wagi.model import WaGI
from wagi_rt.errors import UserError
from wagi_rt.manifest import SCHEMA, file_sha256

MANIFEST = "manifest.json"
# Arithmetic and storage. Weights rounded to half change every value by up to 2^-11, and a network of some
# forty layers adds that up: the wider tolerance is what rounding costs, not what the engine adds.
FP32, HALF_WEIGHTS = "fp32", "fp16-weights"
TOLERANCES = {FP32: 1e-3, HALF_WEIGHTS: 5e-2}
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


def export_model(
    model: WaGI,
    out: str | os.PathLike[str],
    name: str,
    *,
    half_weights: bool = False,
    opset: int = DEFAULT_OPSET,
    atol: float | None = None,
    overwrite: bool = False,
    source: dict[str, Any] | None = None,
    traced: Mapping[str, ir.Model] | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Export `model` (put into eval mode, in FP32 on the CPU) as the bundle folder `out`.

    Five graphs share one weights file. They are loaded into ONNX Runtime through the runtime and compared
    with PyTorch before the folder gets its name.

    Args:
        half_weights: store weights in half precision; the arithmetic stays FP32.
        atol: largest absolute difference allowed anywhere; None: 1e-3 (FP32 weights) or 5e-2 (half weights).
        overwrite: replace the bundle at `out`; files there that are not the old bundle's are kept.
        source: where the model comes from, for the manifest.
        traced: what `trace_graphs` returned for this model, to save the tracing (most of the time).
        report: receives one line of progress per step.
    Returns the parity rows, all passed. Raises UserError when the target may not be written (status 2), a
    difference is past `atol` or the disk refuses (status 1); nothing is left behind then.
    """
    out = Path(out)
    check_target(out, overwrite)
    check_opset(opset)
    precision = HALF_WEIGHTS if half_weights else FP32
    tolerance = TOLERANCES[precision] if atol is None else atol
    model = model.float().cpu().eval()
    beside: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
        graphs = build_graphs(model)
        stream = traced.items() if traced else _trace_one_by_one(graphs, opset, report)
        _write_graphs(stream, beside, half_weights)
        probes = make_probes(model, PARITY_SEED)
        versions = {"torch": torch.__version__, "onnx": onnx.__version__, "opset": opset}
        described = {**(source or {}), **versions, "probes": probes}
        manifest = _manifest(model, graphs, beside, name, precision, tolerance, described)
        _write_manifest(manifest, beside)
        report("comparing ONNX Runtime with PyTorch")
        rows = compare(beside, model, seeded_images(model.generator.size, PARITY_SEED))
        if message := failure(rows):
            raise ParityError(f"{message}; nothing was written to {out}", rows)
        manifest["source"]["parity"] = {row.name: row.difference for row in rows}
        _write_manifest(manifest, beside)
        _publish(beside, out)
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror or error})") from None
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
    return rows


class ParityError(UserError):
    """The exported graphs do not compute what PyTorch computes; `rows` is the whole table."""

    def __init__(self, message: str, rows: list[Row]) -> None:
        super().__init__(message, status=1)
        self.rows = rows


def _trace_one_by_one(
    graphs: list[Graph], opset: int, report: Callable[[str], None]
) -> Iterator[tuple[str, ir.Model]]:
    """One graph in memory at a time: the folded weights of a large model fill gigabytes."""
    for number, graph in enumerate(graphs, 1):
        report(f"tracing {graph.name} ({number} of {len(graphs)})")
        yield graph.name, trace(graph.module, graph.inputs, list(graph.outputs), opset)


def trace_graphs(model: WaGI, opset: int = DEFAULT_OPSET) -> dict[str, ir.Model]:
    """All graphs of a model in memory, for several exports of one small model."""
    return dict(_trace_one_by_one(build_graphs(model.eval()), opset, lambda text: None))


def _write_graphs(traced: Iterable[tuple[str, ir.Model]], folder: Path, half_weights: bool) -> None:
    with WeightStore(folder) as store:
        for name, graph in traced:
            write_graph(graph, folder / f"{name}.onnx", store, half_weights)


def _tensor(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"shape": ["N", *shape[1:]], "dtype": "float32"}


def _manifest(
    model: WaGI,
    graphs: list[Graph],
    folder: Path,
    name: str,
    precision: str,
    tolerance: float,
    source: dict[str, Any],
) -> dict[str, Any]:
    generator = model.generator
    entries = {
        graph.name: {
            "file": f"{graph.name}.onnx",
            "sha256": file_sha256(folder / f"{graph.name}.onnx"),
            "inputs": {key: _tensor(tuple(value.shape)) for key, value in graph.inputs.items()},
            "outputs": {key: _tensor(shape) for key, shape in graph.outputs.items()},
            "tolerance": tolerance,
        }
        for graph in graphs
    }
    return {
        "schema": SCHEMA,
        "name": name,
        "size": generator.size,
        "resolution": model.resolution,
        "n_latent": generator.n_latent,
        "style_dim": generator.style_dim,
        "precision": precision,
        "tolerance": tolerance,
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
    """What lies in a bundle's folder and does not belong to the bundle."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        own = {entry["file"] for entry in manifest["graphs"].values()} | set(manifest.get("files", {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        own = set()  # a damaged bundle: its files are kept unless the new one has the same names
    own |= {MANIFEST}
    return [path for path in out.iterdir() if path.name not in own and not path.name.endswith(".onnx")]
