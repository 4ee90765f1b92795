"""Promise: in small graphs the layers that are meant become int8, by channel, and scales stay constants."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8 import inner, layers_of, quantise
from export.weights import store_half


def decode_like() -> onnx.ModelProto:
    """heads: two convolutions of `aligned`. One more reads both inputs, the last has no constant weights."""

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((4, 4, 3, 3)).astype(np.float32), f"w{k}")
        for k in range(3)
    ]
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["aligned", "w0"], ["a"], "first", **pads),
        helper.make_node("LeakyRelu", ["a"], ["b"], "between"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "second", **pads),
        helper.make_node("Mul", ["c", "feature"], ["d"], "gate"),
        helper.make_node("Conv", ["d", "w2"], ["e"], "generator", **pads),
        helper.make_node("Conv", ["e", "kernel"], ["image"], "dynamic", **pads),
    ]  # fmt: skip
    inputs = [value("aligned", [1, 4, 8, 8]), value("feature", [1, 4, 8, 8]), value("kernel", [4, 4, 3, 3])]
    graph = helper.make_graph(nodes, "decode", inputs, [value("image", [1, 4, 8, 8])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_heads_are_what_depends_on_the_residual_alone() -> None:
    assert layers_of("heads", decode_like()) == ["first", "second"]
    assert layers_of("encoder", decode_like()) == ["first", "second", "generator"]
    assert inner(decode_like(), ["first", "second", "generator"]) == ["second"]


@pytest.mark.parametrize("calibrator", ["MinMax", "Percentile"])
def test_weights_are_int8_by_channel(calibrator) -> None:
    """Their weights are int8 with a scale per channel; the result is near FP32's and not it."""
    rng, model = np.random.default_rng(1), decode_like()
    shapes = {"aligned": (1, 4, 8, 8), "feature": (1, 4, 8, 8), "kernel": (4, 4, 3, 3)}
    inputs = [{k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()} for _ in range(4)]
    made = quantise(model, ["first", "second"], inputs, calibrator)
    stored = {t.name: t for t in made.graph.initializer}
    kinds = {name: stored[name].data_type for name in stored if name.startswith("w") and "scale" not in name}
    assert sorted(n for n, kind in kinds.items() if kind == TensorProto.INT8 and "zero" not in n) == [
        "w0_quantized", "w1_quantized",
    ]  # fmt: skip
    assert kinds["w2"] == TensorProto.FLOAT and list(stored["w0_scale"].dims) == [4]

    def compute(graph):
        content, providers = graph.SerializeToString(), ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(content, providers=providers).run(None, inputs[0])[0]

    exact, found = compute(model), compute(made)
    assert 0 < np.square(found - exact).mean() < 0.02 * np.square(exact).mean()


def test_long_scales_are_constants() -> None:
    """With half weights too, where scales of many channels are as large as weights are."""
    values = {"weight": np.ones((4, 300), np.int8), "scale": np.ones(300, np.float32)}
    values["other"] = np.ones((300, 300), np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["weight", "scale"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("MatMul", ["y", "other"], ["z"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", 4), ("z", 300))
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "scaled", ends[:1], ends[1:], weights)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    store_half(model)
    found = model.graph.initializers
    assert sum(one.dtype == ir.DataType.FLOAT16 for one in found.values()) == 1, "the other weight"
    assert found["scale"].dtype == ir.DataType.FLOAT and found["scale"].uses()
