"""The first layer of each graph whose output in reduced precision leaves the graph's limit.

An FP16 graph runs twice in ONNX Runtime, as it is and with every half tensor widened to float; bf16 is
OpenVINO's against that same FP32 run. All layers get the inputs of a whole inversion, so errors add up on the
way as they do in use. Optimisations that would join layers are off, so each layer's output is really rounded.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from export.engine_make import references
from export.rows import Arrays, psnr_db
from wagi_rt import probes
from wagi_rt.manifest import Manifest

HALF, BF16 = "onnx", "openvino:bf16"
_SEED = 20  # of the image for bundles that store none


class Layer(NamedTuple):
    """A node of a graph and its output's PSNR in dB against FP32."""

    number: int  # from 1 on, in running order
    name: str
    kind: str
    output: str
    psnr: float

    def __str__(self) -> str:
        where = f"layer {self.number} {self.kind} '{self.name}', output '{self.output}'"
        return f"{where}: {self.psnr:.1f} dB"


def report(manifest: Manifest, backends: list[str], threads: int | None) -> int:
    """Print one line for every graph and backend; 0, whatever was found."""
    stored = probes.stored(manifest)
    images = probes.images(manifest.size, stored.seed if stored else _SEED, 1)
    for backend in backends:
        if backend not in (HALF, BF16) or (backend == HALF and manifest.precision != "fp16"):
            print(f"{backend}: {_reason(backend)}", file=sys.stderr)
            continue
        for name, (inputs, _) in references(manifest, images, list(manifest.graphs)).items():
            graph = manifest.graphs[name]
            limit = graph.limit_psnr_db if backend == HALF else _bf16_limit()
            path = manifest.folder / graph.file
            print(f"{name:<12} {backend}: {summary(path, inputs, backend, limit, threads)}", flush=True)
    return 0


def _reason(backend: str) -> str:
    if backend == "trt":
        return "a plan's layers cannot be read; its FP16 graph is the one that `onnx` bisects"
    return "computes in FP32: every layer is exact"


def _bf16_limit() -> float:
    from wagi_rt.engines.ov import LIMIT_PSNR_DB

    return LIMIT_PSNR_DB["bf16"]


def summary(path: Path, inputs: Arrays, backend: str, limit: float, threads: int | None = None) -> str:
    """One line: the first layer under `limit`, or that there is none."""
    found = list(layers(path, inputs, backend, threads))
    bad = next((layer for layer in found if not layer.psnr >= limit), None)  # NaN is bad
    if bad:
        return f"{bad}, the limit is {limit:g}"
    worst = min(found, key=lambda layer: layer.psnr)
    return f"all {len(found)} layers within {limit:g} dB; the lowest is {worst}"


def layers(path: Path, inputs: Arrays, backend: str, threads: int | None = None) -> Iterator[Layer]:
    """Every node of the graph at `path` that makes floats, in running order, for arrays by input name."""
    model = inline_local_functions(onnx.load(path))
    nodes = list(model.graph.node)
    exact = _onnx(widened(model), inputs, threads)
    found = _onnx(model, inputs, threads) if backend == HALF else _openvino(widened(model), inputs, threads)
    for number, node in enumerate(nodes, 1):
        for output in node.output:
            if output in found and exact[output].dtype == np.float32:
                psnr = psnr_db(found[output].astype(np.float32), exact[output])
                yield Layer(number, node.name, node.op_type, output, psnr)


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all half tensors as float, under the same names."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.value_info[:]
    for tensor in wide.graph.initializer:
        _widen(tensor)
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    return wide


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        )


def _all_outputs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A copy that also gives what lies between its layers, and the names of everything it gives."""
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    known = {value.name for value in marked.graph.output}
    names = [name for node in marked.graph.node for name in node.output if name and name not in known]
    marked.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return marked, [value.name for value in marked.graph.output]


def _saved(model: onnx.ModelProto, folder: str) -> str:
    """Weights beside the file: some models are larger than one protobuf may be."""
    path = str(Path(folder) / "marked.onnx")
    onnx.save(model, path, save_as_external_data=True, location="marked.bin")
    return path


def _onnx(model: onnx.ModelProto, inputs: Arrays, threads: int | None) -> Arrays:
    import onnxruntime

    marked, names = _all_outputs(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads or 0
    with tempfile.TemporaryDirectory(prefix="wagi-layers-") as folder:
        session = onnxruntime.InferenceSession(_saved(marked, folder), options, ["CPUExecutionProvider"])
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _openvino(model: onnx.ModelProto, inputs: Arrays, threads: int | None) -> Arrays:
    from wagi_rt.engines.ov import import_openvino
    from wagi_rt.engines.ov_graph import keep_fp32

    core: Any = import_openvino().Core()
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    marked, _ = _all_outputs(model)
    with tempfile.TemporaryDirectory(prefix="wagi-layers-") as folder:
        read = core.read_model(_saved(marked, folder))
        keep_fp32(core, read)
        compiled = core.compile_model(read, "CPU", settings)
        found = compiled(dict(inputs))
    return {name: np.array(found[port]) for port in compiled.outputs for name in port.get_names()}
