"""ONNX function bodies of the wavelet nodes: what an engine without a plugin runs.

A node `wagi::HaarDWT` names a TensorRT plugin by its attributes `plugin_namespace` and `plugin_version`; the
model-local function of the same name gives every other engine the same arithmetic in plain ONNX, so one file
serves ONNX Runtime and TensorRT alike. The definition is `wagi_rt.haar`: orthonormal, channels band-major
LL, LH, HL, HH. Tensor names inside the bodies carry a prefix because an older parser silently takes a tensor
of the same name from the calling graph. `CastLike` lets one body serve single and half precision.
"""

import onnx
from onnx import helper

DOMAIN = "wagi"
VERSION = 1
ATTRIBUTES = ("plugin_namespace", "plugin_version")
NAMES = ("HaarDWT", "HaarIDWT")


def _butterfly(tag: str, four: list[str], out: str) -> list[onnx.NodeProto]:
    """The 4-point Haar matrix without its factor 1/2; it is symmetric, so it serves both directions."""
    t = {name: f"{tag}{name}" for name in ("sum0", "sum1", "dif0", "dif1", "o0", "o1", "o2", "o3")}
    first, second, third, fourth = four
    plan = (
        ("Add", (first, second), "sum0"),
        ("Add", (third, fourth), "sum1"),
        ("Sub", (first, second), "dif0"),
        ("Sub", (third, fourth), "dif1"),
        ("Add", (t["sum0"], t["sum1"]), "o0"),
        ("Sub", (t["sum0"], t["sum1"]), "o1"),
        ("Add", (t["dif0"], t["dif1"]), "o2"),
        ("Sub", (t["dif0"], t["dif1"]), "o3"),
    )
    nodes = [helper.make_node(op, list(inputs), [t[result]], name=t[result]) for op, inputs, result in plan]
    bands = [t[f"o{i}"] for i in range(4)]
    return [*nodes, helper.make_node("Concat", bands, [out], name=f"{tag}cat", axis=1)]


def _body(name: str, source: str, target: str) -> list[onnx.NodeProto]:
    tag = f"wagi_{name}_"
    pieces = [f"{tag}in{i}" for i in range(4)]
    # The factor 1/2 comes first: exact in binary, and half precision cannot overflow in the sums.
    half = helper.make_tensor(f"{tag}half_value", onnx.TensorProto.FLOAT, [], [0.5])
    nodes = [
        helper.make_node("Constant", [], [f"{tag}half32"], name=f"{tag}half32", value=half),
        helper.make_node("CastLike", [f"{tag}half32", source], [f"{tag}half"], name=f"{tag}half"),
        helper.make_node("Mul", [source, f"{tag}half"], [f"{tag}scaled"], name=f"{tag}scaled"),
    ]
    split = helper.make_node("Split", [f"{tag}split"], pieces, name=f"{tag}split", axis=1, num_outputs=4)
    if name == "HaarDWT":
        # Channels after SpaceToDepth: the four positions a, b, c, d of the block outermost, colours inside.
        to_depth = helper.make_node(
            "SpaceToDepth", [f"{tag}scaled"], [f"{tag}split"], name=f"{tag}s2d", blocksize=2
        )
        return [*nodes, to_depth, split, *_butterfly(tag, pieces, target)]
    split.input[0] = f"{tag}scaled"
    merged = f"{tag}merged"
    to_space = helper.make_node("DepthToSpace", [merged], [target], name=f"{tag}d2s", blocksize=2, mode="DCR")
    return [*nodes, split, *_butterfly(tag, pieces, merged), to_space]


def haar_function(name: str, opset: int) -> onnx.FunctionProto:
    """The body of `wagi::HaarDWT` [N,C,H,W] -> [N,4C,H/2,W/2] or `wagi::HaarIDWT` back (H, W even)."""
    if name not in NAMES:
        raise ValueError(f"no wavelet function {name}; known: {', '.join(NAMES)}")
    source, target = f"wagi_{name}_x", f"wagi_{name}_y"
    return helper.make_function(
        DOMAIN,
        name,
        [source],
        [target],
        _body(name, source, target),
        opset_imports=[helper.make_opsetid("", opset)],
        attributes=list(ATTRIBUTES),
    )


def add_functions(model: onnx.ModelProto) -> None:
    """Append the bodies of the wavelet nodes that `model` uses, and the opset import of their domain."""
    used = [name for name in NAMES if any(n.domain == DOMAIN and n.op_type == name for n in model.graph.node)]
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    present = {function.name for function in model.functions if function.domain == DOMAIN}
    model.functions.extend(haar_function(name, opset) for name in used if name not in present)
    if used and not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
