"""ONNX function bodies of the wavelet nodes: what an engine without a plugin runs.

A node `wagi::HaarDWT`, `HaarIDWT` or `SkipUpsample` names a TensorRT plugin by its attributes
`plugin_namespace` and `plugin_version`; the model-local function of the same name gives every other engine
the same arithmetic in plain ONNX, so one file serves ONNX Runtime and TensorRT alike. The definition is
`wagi_rt.haar`: orthonormal, channels band-major LL, LH, HL, HH. The bodies are convolutions with a constant
kernel for three colours: in ONNX Runtime two to five times faster than sums of slices. Tensor names inside
them carry a prefix because an older parser silently takes a tensor of the same name from the calling graph.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wagi_rt.haar import skip_kernel

DOMAIN = "wagi"
VERSION = 1
ATTRIBUTES = ("plugin_namespace", "plugin_version")
NAMES = ("HaarDWT", "HaarIDWT", "SkipUpsample")
COLOURS = 3
_DTYPES: dict[int, type] = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def _kernel(dtype: type) -> np.ndarray:  # => 4 bands * COLOURS, COLOURS, 2, 2
    """One block of the transform per band and colour; symmetric, so the inverse is its transpose."""
    high = np.array([0.5, -0.5])
    low = np.array([0.5, 0.5])
    # LL, LH (top minus bottom), HL (left minus right), HH.
    bands = 2 * np.stack([np.outer(rows, columns) for rows, columns in
                          ((low, low), (high, low), (low, high), (high, high))])  # fmt: skip
    kernel = np.einsum("bhw,cd->bcdhw", bands, np.eye(COLOURS))
    return kernel.reshape(4 * COLOURS, COLOURS, 2, 2).astype(dtype)


def _body(name: str, inputs: list[str], target: str, dtype: type) -> list[onnx.NodeProto]:
    tag = f"wagi_{name}_"
    skip = name == "SkipUpsample"
    values = skip_kernel(4 * COLOURS).astype(dtype) if skip else _kernel(dtype)
    kernel = numpy_helper.from_array(values, f"{tag}kernel_value")
    op = "Conv" if name == "HaarDWT" else "ConvTranspose"
    sides, pads = list(values.shape[2:]), [int(skip)] * 4
    made = f"{tag}larger" if skip else target
    nodes = [
        helper.make_node("Constant", [], [f"{tag}kernel"], name=f"{tag}kernel", value=kernel),
        helper.make_node(
            op, [inputs[0], f"{tag}kernel"], [made], name=f"{tag}{op}", kernel_shape=sides, strides=[2, 2],
            pads=pads,
        ),
    ]  # fmt: skip
    if skip:
        nodes.append(helper.make_node("Add", [made, inputs[1]], [target], name=f"{tag}Add"))
    return nodes


def haar_function(name: str, opset: int, dtype: type = np.float32) -> onnx.FunctionProto:
    """The body of one of NAMES.

    `wagi::HaarDWT`: [N, 3, H, W] -> [N, 12, H/2, W/2] (H, W even), `wagi::HaarIDWT`: back, and
    `wagi::SkipUpsample`: bands [N, 12, H, W] and coefficients [N, 12, 2H, 2W] -> their sum at twice H, W.
    """
    if name not in NAMES:
        raise ValueError(f"no wavelet function {name}; known: {', '.join(NAMES)}")
    count = 2 if name == "SkipUpsample" else 1
    inputs, target = [f"wagi_{name}_{end}" for end in ("x", "c")[:count]], f"wagi_{name}_y"
    return helper.make_function(
        DOMAIN,
        name,
        inputs,
        [target],
        _body(name, inputs, target, dtype),
        opset_imports=[helper.make_opsetid("", opset)],
        attributes=list(ATTRIBUTES),
    )


def add_functions(model: onnx.ModelProto) -> None:
    """Append the bodies of the wavelet nodes that `model` uses, and the opset import of their domain.

    ValueError when nodes of one name work in different precisions: one body serves all of them.
    """
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    used: dict[str, set[int]] = {}
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type in NAMES:
            used.setdefault(node.op_type, set()).add(types[node.input[0]])
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    present = {function.name for function in model.functions if function.domain == DOMAIN}
    for name, found in used.items():
        if len(found) > 1:
            raise ValueError(f"{name} nodes of several precisions in one graph")
        if name not in present:
            model.functions.append(haar_function(name, opset, _DTYPES[found.pop()]))
    if used and not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
