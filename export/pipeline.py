"""The fused graphs: those of a whole chain joined into one, without tracing anything again.

The joined file points at the same places of the weights file, and what two graphs compute alike (the styles
of both generator passes) is computed once.
"""

from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes

from export.glue import Nodes, twin
from wagi_rt.chain import Chain, Shapes


def join(folder: Path, shapes: Shapes, chain: Chain, name: str) -> ir.Model:
    """One model of the whole chain from the graphs that lie in `folder`.

    shapes: of the chain's tensors, without the batch.
    """
    size, resolution = shapes["image"][-1], shapes["naive_r"][-1]
    parts = {graph: ir.load(folder / f"{graph}.onnx") for graph in chain.graphs}
    first = next(iter(parts.values()))
    nodes = _Joined()
    inputs = [ir.val(key, ir.DataType.FLOAT, ["N", *shapes[key]]) for key in chain.inputs]
    known = dict(zip(chain.inputs, inputs, strict=True))
    for step in chain.steps:
        given = [known[key] for key in step.reads.values()]
        if step.is_glue:
            made = [twin(nodes, step, given, size, resolution)]
        else:
            made = nodes.splice(parts[step.name].graph, step.name, given)
        known |= dict(zip(step.makes.values(), made, strict=True))
    graph = ir.Graph(
        inputs,
        [_named(known[key], key, shapes[key]) for key in chain.outputs],
        nodes=nodes.nodes,
        initializers=nodes.initializers,
        opset_imports=dict(first.graph.opset_imports) | {"wagi": 1},
        name=name,
    )
    model = ir.Model(graph, ir_version=first.ir_version)
    _tidy(model)
    return model


def _named(value: ir.Value, name: str, shape: tuple[int, ...]) -> ir.Value:
    """`value` as the graph output `name`."""
    value.name = name
    value.shape, value.type = ir.Shape(["N", *shape]), ir.TensorType(ir.DataType.FLOAT)
    return value


class _Joined(Nodes):
    """Nodes and initialisers of the joined graph; every stored tensor once."""

    def __init__(self) -> None:
        super().__init__()
        self._stored: dict[tuple, ir.Value] = {}

    def splice(self, graph: ir.Graph, prefix: str, inputs: list[ir.Value]) -> list[ir.Value]:
        """Move the nodes of `graph` here, reading `inputs`, under names of their own; its outputs."""
        for old, new in zip(graph.inputs, inputs, strict=True):
            old.replace_all_uses_with(new)
        for value in list(graph.initializers.values()):
            value.replace_all_uses_with(self.store(value))
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

    def store(self, value: ir.Value) -> ir.Value:
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
