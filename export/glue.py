"""The arithmetic between a bundle's graphs as two small ONNX graphs, for chains that stay on the GPU.

`wagi_rt.engines.trt.CHAIN` runs them between the bundle's own; the definition is `wagi_rt.session`: area
resize to the residual's resolution, and the residual of the clipped naive image (the paper's section 3.2).
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from wagi_rt.engines.trt import RESIDUAL, SHRINK, glue
from wagi_rt.manifest import Manifest, Shapes

_OPSET, _IR = 18, 9


def _shrink(source: str, target: str, factor: int) -> onnx.NodeProto:
    """Area resize by a whole factor is average pooling."""
    sides = [factor, factor]
    return helper.make_node("AveragePool", [source], [target], kernel_shape=sides, strides=sides)


def _nodes(name: str, factor: int) -> list[onnx.NodeProto]:
    if name == SHRINK:
        return [_shrink("image", "image_r", factor)]
    return [
        helper.make_node("Clip", ["naive", "least", "most"], ["clipped"]),
        _shrink("clipped", "naive_r", factor),
        helper.make_node("Sub", ["image_r", "naive_r"], ["residual"]),
    ]


def write_glue(manifest: Manifest, name: str, folder: Path) -> Path:
    """Write the graph `name` (SHRINK or RESIDUAL) for this bundle's sizes; float32, dynamic batch."""
    inputs, outputs = glue(manifest)[name]
    limits = {"least": -1.0, "most": 1.0} if name == RESIDUAL else {}
    graph = helper.make_graph(
        _nodes(name, manifest.size // manifest.resolution),
        name,
        _values(inputs),
        _values(outputs),
        [helper.make_tensor(key, TensorProto.FLOAT, [], [value]) for key, value in limits.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def _values(shapes: Shapes) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", *s]) for k, s in shapes.items()]
