"""export/layers.py names the first layer that loses too much in reduced precision."""

import numpy as np
import onnx
import pytest
from cpu import needs_bf16
from onnx import TensorProto, helper, numpy_helper

from export.layers import BF16, HALF, layers, summary

node = helper.make_node


def graph(path, nodes, constants, half):
    """x [1, 8, 4, 4] float -> y, by `nodes` in the middle, in half or in float."""
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8, 4, 4])  # noqa: E731
    ends = [
        node("Cast", ["x"], ["a"], name="in", to=kind),
        *nodes,
        node("Cast", ["b"], ["y"], name="out", to=TensorProto.FLOAT),
    ]
    stored = [numpy_helper.from_array(np.array(number, dtype), name) for name, number in constants.items()]
    made = helper.make_graph(ends, "g", [value("x")], [value("y")], stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def values() -> dict:
    return {"x": np.random.default_rng(0).uniform(-1, 1, (1, 8, 4, 4)).astype(np.float32)}


def test_the_layer_where_half_rounds_too_much(tmp_path):
    """Numbers around 2048 are two apart in half; what takes the 2048 away again is not to blame."""
    nodes = [
        node("Mul", ["a", "two"], ["t"], name="fine"),
        node("Add", ["t", "large"], ["s"], name="loses"),
        node("Sub", ["s", "large"], ["b"], name="later"),
    ]
    path = graph(tmp_path / "g.onnx", nodes, {"two": 2, "large": 2048}, half=True)
    found = {layer.name: layer.psnr for layer in layers(path, values(), HALF, 1)}
    x = values()["x"].astype(np.float16).astype(np.float32) * 2
    error = (x + np.float32(2048)).astype(np.float16).astype(np.float32) - (values()["x"] * 2 + 2048)
    wanted = 20 * np.log10(np.ptp(values()["x"] * 2)) - 10 * np.log10(np.square(error).mean())
    assert found["loses"] == pytest.approx(wanted, abs=0.2) and found["fine"] > 60
    assert summary(path, values(), HALF, 55).startswith("layer 3 Add 'loses', output 's':")


def test_the_layer_that_overflows(tmp_path):
    nodes = [
        node("Mul", ["a", "large"], ["t"], name="fine"),
        node("Mul", ["t", "t"], ["s"], name="overflows"),
        node("Tanh", ["s"], ["b"], name="hides"),
    ]
    path = graph(tmp_path / "g.onnx", nodes, {"large": 500}, half=True)
    assert "'overflows'" in summary(path, values(), HALF, 55)


def test_no_layer_leaves_the_limit(tmp_path):
    path = graph(tmp_path / "g.onnx", [node("Mul", ["a", "two"], ["b"], name="fine")], {"two": 2}, half=True)
    assert summary(path, values(), HALF, 55).startswith("all 3 layers within 55 dB")


@needs_bf16
def test_openvinos_layers_in_bf16(tmp_path):
    """bf16 has 8 bits: of what lies around 1000 it keeps steps of four."""
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(size=(8, 8, 1, 1)) for name in ("w", "v")}
    nodes = [
        node("Conv", ["a", "w"], ["t"], name="first"),
        node("Add", ["t", "large"], ["s"], name="shift"),
        node("Conv", ["s", "v"], ["b"], name="second"),
    ]
    path = graph(tmp_path / "g.onnx", nodes, {**weights, "large": 1000}, half=False)
    found = {layer.name: layer.psnr for layer in layers(path, values(), BF16, 1)}
    assert found["first"] > 60 > found["second"], found
    assert summary(path, values(), BF16, 60).startswith("layer 4 Conv 'second'")
