"""One PyTorch module with a fixed signature -> one checked ONNX file."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from torch import Tensor, nn

from export.haar_functions import add_functions
from export.weights import WeightStore, store_half

# SpaceToDepth, CastLike and Split(num_outputs) need 18; the exporter itself writes 18 or newer.
MIN_OPSET, DEFAULT_OPSET = 18, 20
BATCH = "N"
_NO_LIMIT = 1 << 40


def trace(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], opset: int) -> ir.Model:
    """The ONNX graph of `module(*inputs)` with a dynamic batch and all constants folded.

    Everything that does not depend on an input becomes one stored tensor: scaled weights, demodulation sums,
    noise times its strength. `inputs` are examples with a batch of 2 (1 would be taken for a constant).
    """
    batch = torch.export.Dim(BATCH)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model
    fold(model)
    return model


def fold(model: ir.Model) -> None:
    """Compute everything constant now.

    The exporter's own optimiser (optimize=True) is not used: its rule for "x + 0" matches with a tolerance of
    1e-8 and so removes the epsilon of the demodulation, which turns a zero style into NaN. And its folding
    stops at small tensors, which leaves the weights' scale factors in the graph.
    """
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules import common

    tidy = [
        common.collapse_slice_rule,
        common.collapse_slice2_rule,
        common.unsqueeze_unsqueeze_rule,
        common.no_op_expand_rule,
        common.fuse_batchnorm_into_conv_rule,
    ]
    passes.InlinePass()(model)
    for _ in range(2):  # tidying makes more constants
        optimizer.fold_constants(model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
        rewriter.RewritePass(tidy)(model)
    _make_shapes_constant(model.graph)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.NameFixPass(),
    ):
        step(model)
    strip_metadata(model)


def _make_shapes_constant(graph: ir.Graph) -> None:
    """Reshape and Resize without arithmetic on shapes: only the batch is dynamic, and both can do without it.

    A Reshape infers the batch (-1); a Resize gets the ratio of its known sizes.
    """
    for node in list(graph):
        source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
        if result.shape is None or source is None:
            continue
        if node.op_type == "Reshape" and node.inputs[1].producer() is not None:  # type: ignore[union-attr]
            target = [side if isinstance(side, int) else -1 for side in result.shape]
            if target.count(-1) == 1:
                node.replace_input_with(1, _constant(graph, node, np.array(target, np.int64)))
        if node.op_type == "Resize" and len(node.inputs) == 4 and source.shape is not None:
            sides = zip(result.shape[2:], source.shape[2:], strict=True)
            scales = np.array([1, 1, *(int(new) / int(old) for new, old in sides)], np.float32)  # type: ignore[arg-type]
            node.replace_input_with(2, _constant(graph, node, scales))
            node.replace_input_with(3, None)


def _constant(graph: ir.Graph, node: ir.Node, array: np.ndarray) -> ir.Value:
    name = f"{node.outputs[0].name}_{node.op_type.lower()}"
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def strip_metadata(model: ir.Model) -> None:
    """Drop the exporter's notes (source lines, file paths of this machine)."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def write_graph(model: ir.Model, path: Path, store: WeightStore, half_weights: bool) -> None:
    """Write `path` with its weights in `store`, wavelet bodies attached; raises if the ONNX checker objects.

    `model` stays as it is.
    """
    model = model.clone()
    if half_weights:
        store_half(model)
    store.externalise(model)
    proto = ir.to_proto(model)
    add_functions(proto)
    onnx.save(proto, path)
    onnx.checker.check_model(str(path), full_check=True)
