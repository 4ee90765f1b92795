"""int8 of a bundle's encoder and consultation heads: static QDQ by ONNX Runtime's quantiser, behind a gate.

Weights are signed, of 7 bits and per channel, activations unsigned with ranges measured on pictures; norms,
the generator and everything between stay as they are. What counts is what becomes of inversions and edits:
the residual takes up what latents miss, so that they and naive images have no limit (decision 78).
"""

import io
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch

from export.haar_functions import add_functions
from export.parity import reference
from export.rows import Arrays
from export.trace import strip_metadata
from wagi.model import WaGI
from wagi_rt import probes
from wagi_rt.chain import EDIT, PIPELINE, Chain
from wagi_rt.engines.base import Engine
from wagi_rt.errors import UserError
from wagi_rt.metrics import decibels, l2

# Part -> the graph that holds its layers, then the fused ones that are joined from it.
PARTS = {"encoder": ("encoder", PIPELINE), "heads": ("decode", PIPELINE, EDIT)}
LIMIT_DB = 45.0  # that of bf16 (decision 48)
CALIBRATOR = "Percentile"  # the best one for heads, as good as any for encoders (benchmarks/README.md)
_LAYERS = ("Conv", "Gemm", "MatMul")
_BATCH = 8


class Int8(NamedTuple):
    """The parts that shall be int8, and pictures [N, 3, S, S] in [-1, 1]: for ranges, and to be judged by.

    kind: what those are that judge.
    """

    parts: tuple[str, ...]
    ranges: np.ndarray
    judges: np.ndarray
    kind: str = "held-out pictures"

    @property
    def title(self) -> str:
        return f"--int8 {','.join(self.parts)}"

    def mark(self, manifest: dict[str, Any]) -> None:
        """Say it in the manifest: of the graphs with int8 only the PSNR counts."""
        manifest["int8"] = {"parts": list(self.parts), "limit_psnr_db": LIMIT_DB}
        for name in {name for part in self.parts for name in PARTS[part]}:
            manifest["graphs"][name]["limit_psnr_db"] = LIMIT_DB
            del manifest["graphs"][name]["tolerance"]


# ------------------------------------------------------------------------------------------- the layers


def layers_of(part: str, model: onnx.ModelProto) -> list[str]:
    """The names of the part's layers with constant weights, in running order.

    encoder: all of its graph. heads: those of `decode` that depend on the aligned residual alone.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    depends = {name: set() for name in constant} | {one.name: {one.name} for one in model.graph.input}
    found = []
    for node in model.graph.node:
        reads = set().union(*(depends[name] for name in node.input if name))
        depends |= dict.fromkeys(node.output, reads)
        if node.op_type in _LAYERS and set(node.input) & constant:
            if part == "encoder" or reads == {"aligned"}:
                found.append(node.name)
    return found


def inner(model: onnx.ModelProto, layers: list[str]) -> list[str]:
    """Those of the layers that have another one before and another one behind them."""
    behind: dict[str, set[str]] = {}  # value -> the layers that made it
    before: dict[str, set[str]] = {}
    for node in model.graph.node:
        reads = set().union(*(behind.get(name, set()) for name in node.input))
        if node.name in layers:
            before[node.name] = reads
            reads = reads | {node.name}
        behind |= dict.fromkeys(node.output, reads)
    followed = set().union(*before.values())
    return [name for name in layers if before[name] and name in followed]


def quantise(
    model: onnx.ModelProto, layers: list[str], inputs: Sequence[Arrays], calibrator: str = CALIBRATOR
) -> onnx.ModelProto:
    """The graph with these layers in int8; inputs: what it gets for some pictures, a batch each."""
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        left: Iterator[Arrays]

        def __len__(self) -> int:
            return len(inputs)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.left = iter(inputs[start_index:end_index])

        def get_next(self) -> Any:
            return next(self.left, None)

    with tempfile.TemporaryDirectory(prefix="wagi-int8-") as scratch:
        source, made = (Path(scratch) / name for name in ("fp32.onnx", "int8.onnx"))
        # As a file: the quantiser loses the weights of a graph in memory with this version of onnx.
        onnx.save(model, source)
        logging.disable(logging.WARNING)  # "consider pre-processing", which tracing was
        try:
            with redirect_stdout(io.StringIO()):  # progress
                q.quantize_static(
                    source, made, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                    op_types_to_quantize=list(_LAYERS), nodes_to_quantize=layers,
                    activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
                    reduce_range=True,  # 7 bits: a CPU without VNNI adds two products in 16, or saturates
                    calibrate_method=q.CalibrationMethod[calibrator],
                    extra_options={"CalibStridedMinMax": 1},  # of any calibrator: one batch in memory
                )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(made)


# ------------------------------------------------------------------------------------------- in an export


def quantised(
    traced: Iterable[tuple[str, ir.Model]],
    int8: Int8,
    model: WaGI,
    styles: bool,
    report: Callable[[str], None],
) -> Iterator[tuple[str, ir.Model]]:
    """The traced graphs (name, graph) one by one, the layers of the parts in int8."""
    wanted = {PARTS[part][0]: part for part in int8.parts}
    for name, graph in traced:
        if part := wanted.get(name):
            report(f"measuring ranges of {part} on {len(int8.ranges)} pictures")
            graph = _quantised(graph, part, list(_inputs(name, int8.ranges, model, styles)))
        yield name, graph


def _quantised(graph: ir.Model, part: str, inputs: list[Arrays]) -> ir.Model:
    proto = ir.to_proto(graph)
    add_functions(proto)
    layers = layers_of(part, proto)
    # What heads write are gates, and every error of one is an error of the picture.
    made = quantise(proto, inner(proto, layers) if part == "heads" else layers, inputs)
    del made.functions[:]  # `write_graph` adds them
    found = ir.from_proto(made)
    found.ir_version = graph.ir_version
    passes.RemoveUnusedOpsetsPass()(found)
    strip_metadata(found)
    return found


@torch.no_grad()
def _inputs(name: str, pictures: np.ndarray, model: WaGI, styles: bool) -> Iterator[Arrays]:
    """The inputs of a graph in inversions of the pictures, by batches."""
    for start in range(0, len(pictures), _BATCH):
        images = pictures[start : start + _BATCH]
        if name == "encoder":  # without the rest of an inversion
            yield {"image_r": model.reduced(torch.from_numpy(images)).numpy()}
        else:
            yield reference(model, images, styles)[name][0]


# ---------------------------------------------------------------------------------------------- the gate


def shown(engine: Engine, images: np.ndarray, inversion: Chain, edit: Chain) -> tuple[Arrays, Arrays]:
    """The outputs of two chains of an engine: an inversion, and its edit to `wagi_rt.probes.edited`."""

    def run(chain: Chain) -> Arrays:
        return engine.run_chain(chain, probes.given(engine, chain, images))

    return run(inversion), run(edit)


def measure(engine: Engine, model: WaGI, pictures: np.ndarray, styles: bool) -> dict[str, float]:
    """PSNR in dB of inversions and of edits (wagi_rt.probes.edited) against PyTorch in FP32, of all pictures
    together, as the runtime computes them."""
    manifest = engine.manifest
    errors: dict[str, list[float]] = {"inversions": [], "edits": []}
    for image in pictures[:, None]:
        wanted = reference(model, image, styles)
        result, edited = shown(engine, image, manifest.chain, manifest.edit_chain)
        errors["inversions"] += l2(result["result"], wanted[PIPELINE][1]["result"]).tolist()
        errors["edits"] += l2(edited["result"], wanted[EDIT][1]["result"]).tolist()
    return {name: float(decibels(np.asarray(found).mean())) for name, found in errors.items()}


def require(
    engine: Engine, model: WaGI, int8: Int8, styles: bool, report: Callable[[str], None]
) -> dict[str, float]:
    """The finding of `measure` on the pictures that judge; UserError where it is below LIMIT_DB."""
    found = measure(engine, model, int8.judges, styles)
    said = " and ".join(f"{name} {value:.1f} dB" for name, value in found.items())
    line = (
        f"{int8.title}: {said} against PyTorch on {len(int8.judges)} {int8.kind}, the limit is {LIMIT_DB:g}"
    )
    if not min(found.values()) >= LIMIT_DB:  # written so that NaN fails
        raise UserError(
            f"{line}; calibrate on more pictures of the kind that the model knows, or export without --int8"
        )
    report(line)
    return found
