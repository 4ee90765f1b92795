"""The arithmetic between a bundle's graphs in ONNX: the twin of every function of `wagi_rt.chain.GLUE`.

The pipeline takes the nodes in (export/pipeline.py); engines that stay on a GPU get each function as a small
graph of its own.
"""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from wagi_rt.chain import FADE_CHANGE, FADE_SHARE, STEPS, Shapes, Step
from wagi_rt.manifest import Manifest
from wagi_rt.resampling import triangles

_OPSET, _IR = 18, 9
_END = 2**31 - 1  # of a Slice


class Nodes:
    """Nodes of a graph in the making, with its initialisers by name."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def add(self, op: str, inputs: list[ir.Value], name: str, **attributes: int | list[int]) -> ir.Value:
        node = ir.node(op, inputs, attributes=attributes, name=name)
        node.outputs[0].name = name
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        self.nodes.append(node)
        return node.outputs[0]

    def store(self, value: ir.Value) -> ir.Value:
        """`value` as an initialiser; one of the name that is there already serves again."""
        known = next((other for other in self.initializers if other.name == value.name), None)
        if known is None:
            self.initializers.append(value)
        return known or value

    def scalar(self, number: float) -> ir.Value:
        tensor = ir.tensor(float(number), ir.DataType.FLOAT)
        return self.store(ir.Value(name=f"scalar_{number}", const_value=tensor))

    def axes(self, *axes: int) -> ir.Value:
        tensor = ir.tensor(list(axes), ir.DataType.INT64)
        return self.store(ir.Value(name=f"axes_{'_'.join(map(str, axes))}", const_value=tensor))

    def array(self, name: str, values: np.ndarray) -> ir.Value:
        return self.store(ir.Value(name=name, const_value=ir.tensor(values.astype(np.float32), name=name)))


def twin(nodes: Nodes, step: Step, inputs: list[ir.Value], size: int, resolution: int) -> ir.Value:
    """The glue `step` as nodes => its output; size: of the images, a multiple of `resolution`."""
    add, output = nodes.add, step.makes[step.outputs[0]]
    factor = size // resolution

    def shrink(value: ir.Value) -> ir.Value:  # area resize by a whole factor is average pooling
        if factor == 1:
            return value
        return add("AveragePool", [value], output, kernel_shape=[factor] * 2, strides=[factor] * 2)

    if step.name == "shrink":
        return shrink(inputs[0])
    if step.name == "shrink_pil":
        return _antialiased(nodes, inputs[0], output, size, resolution)
    if step.name in ("low_fidelity", "sample"):
        limits = [nodes.scalar(-1), nodes.scalar(1)]
        valid = add("Clip", [inputs[0], *limits], output if factor == 1 else f"{output}/valid")
        return shrink(valid) if step.name == "low_fidelity" else _middles(nodes, valid, output, factor)
    if step.name == "subtract":
        return add("Sub", inputs, output)
    assert step.name == "fade", step.name
    residual, before, after = inputs
    side = resolution // FADE_SHARE | 1
    moved = add("Sub", [after, before], f"{output}/moved")
    squares = add("Mul", [moved, moved], f"{output}/squares")
    change = add("ReduceMean", [squares, nodes.axes(1)], f"{output}/change", keepdims=1)
    window = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "count_include_pad": 0}
    windows = add("AveragePool", [change], f"{output}/windows", **window)  # type: ignore[arg-type]
    shares = add("Div", [windows, nodes.scalar(FADE_CHANGE)], f"{output}/shares")
    return add("Div", [residual, add("Add", [shares, nodes.scalar(1)], f"{output}/trust")], output)


def _middles(nodes: Nodes, image: ir.Value, output: str, factor: int) -> ir.Value:
    """Means of the middle 2x2 pixels of every block."""
    if factor == 1:
        return image
    if before := factor // 2 - 1:
        cut = [nodes.axes(before, before), nodes.axes(_END, _END), nodes.axes(2, 3)]
        image = nodes.add("Slice", [image, *cut], f"{output}/middles")
    return nodes.add("AveragePool", [image], output, kernel_shape=[2, 2], strides=[factor] * 2)


def _antialiased(nodes: Nodes, image: ir.Value, output: str, size: int, resolution: int) -> ir.Value:
    """A convolution per colour with an inner pixel's filter; at the border, what lies inside counts more."""
    factor = size // resolution
    if factor == 1:
        return image
    weights = triangles(4 * factor, 4)  # of four pixels, the inner two have whole filters
    inner = weights[1, factor // 2 : factor // 2 + 2 * factor]
    kernel = nodes.array(f"triangle_{factor}", np.tile(np.outer(inner, inner), (3, 1, 1, 1)))
    shape = {"kernel_shape": [2 * factor] * 2, "strides": [factor] * 2, "pads": [factor // 2] * 4, "group": 3}
    found = nodes.add("Conv", [image, kernel], f"{output}/inside", **shape)  # type: ignore[arg-type]
    border = np.ones(resolution)
    border[[0, -1]] = 1 / inner[factor // 2 :].sum()
    share = nodes.array(f"border_{factor}", np.outer(border, border)[None, None])
    return nodes.add("Mul", [found, share], output)


def write_glue(manifest: Manifest, name: str, folder: Path) -> Path:
    """Write the function `name` of the chain as a graph for this bundle's sizes; float32, dynamic batch."""
    step = STEPS[name]
    inputs, outputs = (_values(shapes) for shapes in manifest.tensors(step))
    nodes = Nodes()
    found = twin(nodes, step._replace(renamed=()), inputs, manifest.size, manifest.resolution)
    if found in inputs:  # equal sizes: nothing to shrink
        found = nodes.add("Identity", [found], step.outputs[0])
    found.shape = outputs[0].shape
    graph = ir.Graph(
        inputs, [found], nodes=nodes.nodes, initializers=nodes.initializers, opset_imports={"": _OPSET},
        name=name,
    )  # fmt: skip
    path = folder / f"{name}.onnx"
    onnx.save(ir.to_proto(ir.Model(graph, ir_version=_IR)), path)
    onnx.checker.check_model(str(path), full_check=True)
    return path


def _values(shapes: Shapes) -> list[ir.Value]:
    return [ir.val(name, ir.DataType.FLOAT, ["N", *shape]) for name, shape in shapes.items()]
