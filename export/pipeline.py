"""The fused pipeline: the bundle's five graphs joined into one, without tracing anything again.

The arithmetic between them is that of `wagi_rt.session`. The joined file points at the same places of the
weights file, and what two graphs compute alike (the styles of both generator passes) is computed once.
"""

from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes

from wagi_rt.manifest import GRAPHS, PIPELINE_TENSORS, Shapes


def join(folder: Path, shapes: Shapes, factor: int) -> ir.Model:
    """One model, image -> ws, naive_r, result, from the graphs that lie in `folder`.

    shapes: of the pipeline's outputs and input, without the batch; factor: image size / resolution.
    """
    parts = {name: ir.load(folder / f"{name}.onnx") for name in GRAPHS}
    first = next(iter(parts.values()))
    nodes = _Nodes()
    image = ir.val("image", ir.DataType.FLOAT, ["N", *shapes["image"]])
    known = {"image_r": nodes.shrink(image, factor, "image_r")}
    for name, (inputs, outputs) in GRAPHS.items():
        if name == "align":
            valid = nodes.add("Clip", [known["image"], nodes.scalar(-1), nodes.scalar(1)], "valid")
            known["naive_r"] = nodes.shrink(valid, factor, "naive_r")
            known["residual"] = nodes.add("Sub", [known["image_r"], known["naive_r"]], "residual")
        results = nodes.splice(parts[name].graph, name, [known[key] for key in inputs])
        known |= dict(zip(outputs, results, strict=True))
    known["result"] = known["image"]
    outputs = [_named(known[key], key, shapes[key]) for key in PIPELINE_TENSORS[1]]
    graph = ir.Graph(
        [image],
        outputs,
        nodes=nodes.nodes,
        initializers=nodes.initializers,
        opset_imports=dict(first.graph.opset_imports) | {"wagi": 1},
        name="pipeline",
    )
    model = ir.Model(graph, ir_version=first.ir_version)
    _tidy(model)
    return model


def _named(value: ir.Value, name: str, shape: tuple[int, ...]) -> ir.Value:
    """`value` as the graph output `name`."""
    value.name = name
    value.shape, value.type = ir.Shape(["N", *shape]), ir.TensorType(ir.DataType.FLOAT)
    return value


class _Nodes:
    """Nodes and initializers of the joined graph; every stored tensor once."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self._stored: dict[tuple, ir.Value] = {}

    def add(self, op: str, inputs: list[ir.Value], name: str, **attributes: list[int]) -> ir.Value:
        node = ir.node(op, inputs, attributes=attributes, name=name)
        node.outputs[0].name = name
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        self.nodes.append(node)
        return node.outputs[0]

    def scalar(self, number: float) -> ir.Value:
        name = f"limit_{number}"
        return self._store(ir.Value(name=name, const_value=ir.tensor(float(number), ir.DataType.FLOAT)))

    def shrink(self, value: ir.Value, factor: int, name: str) -> ir.Value:
        """Area resize by a whole factor."""
        if factor == 1:
            return value
        return self.add("AveragePool", [value], name, kernel_shape=[factor] * 2, strides=[factor] * 2)

    def splice(self, graph: ir.Graph, prefix: str, inputs: list[ir.Value]) -> list[ir.Value]:
        """Move the nodes of `graph` here, reading `inputs`, under names of their own; its outputs."""
        for old, new in zip(graph.inputs, inputs, strict=True):
            old.replace_all_uses_with(new)
        for value in list(graph.initializers.values()):
            value.replace_all_uses_with(self._store(value))
        outputs = list(graph.outputs)
        graph.outputs.clear()
        moved = list(graph)
        graph.remove(moved)
        for node in moved:
            node.name = f"{prefix}/{node.name}"
            for value in node.outputs:
                value.name = f"{prefix}/{value.name}"
        self.nodes += moved
        return outputs

    def _store(self, value: ir.Value) -> ir.Value:
        """`value`, or the one that holds the same: by place in the weights file, small ones by content."""
        tensor = value.const_value
        assert tensor is not None
        key: tuple = (tensor.dtype, tuple(tensor.shape.numpy()))
        external = isinstance(tensor, ir.ExternalTensor)
        key += (tensor.offset,) if external else (tensor.tobytes(),)  # type: ignore[attr-defined]
        if key not in self._stored:
            taken = any(stored.name == value.name for stored in self.initializers)
            plain = ir.Value(
                name=f"{value.name}/{len(self._stored)}" if taken else value.name,
                shape=ir.Shape(tensor.shape.numpy()),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self._stored[key] = plain
            self.initializers.append(plain)
        return self._stored[key]


def _tidy(model: ir.Model) -> None:
    """Merge equal nodes; drop casts to FP32 and straight back between two graphs."""
    for node in model.graph:
        if node.op_type != "Cast":
            continue
        source = node.inputs[0].producer()  # type: ignore[union-attr]
        if source is not None and source.op_type == "Cast":
            origin = source.inputs[0]
            if origin is not None and origin.dtype == node.outputs[0].dtype == ir.DataType.FLOAT16:
                node.outputs[0].replace_all_uses_with(origin)
    for step in (passes.CommonSubexpressionEliminationPass(), passes.RemoveUnusedNodesPass()):
        step(model)
