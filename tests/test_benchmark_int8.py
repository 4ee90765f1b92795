"""benchmarks/int8.py puts the layers it says into int8, and measures against FP32 what came of it."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import error_line

from benchmarks import int8, rounding
from wagi_rt import manifest, pictures


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


def test_heads_are_what_depends_on_the_residual_alone():
    assert int8.layers_of("heads", decode_like()) == ["first", "second"]
    assert int8.layers_of("encoder", decode_like()) == ["first", "second", "generator"]


@pytest.mark.parametrize("calibrator", int8.CALIBRATORS)
def test_only_the_named_layers_are_quantised(tmp_path, calibrator):
    """Their weights are int8 with a scale per channel; the result is near FP32's and not it."""
    rng, model = np.random.default_rng(1), decode_like()
    shapes = {"aligned": (1, 4, 8, 8), "feature": (1, 4, 8, 8), "kernel": (4, 4, 3, 3)}
    inputs = [{k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()} for _ in range(4)]
    int8.quantise(model, ["first", "second"], inputs, calibrator, tmp_path / "q.onnx")
    stored = {t.name: t for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    kinds = {name: stored[name].data_type for name in stored if name.startswith("w") and "scale" not in name}
    assert sorted(n for n, kind in kinds.items() if kind == TensorProto.INT8 and "zero" not in n) == [
        "w0_quantized", "w1_quantized",
    ]  # fmt: skip
    assert kinds["w2"] == TensorProto.FLOAT and list(stored["w0_scale"].dims) == [4]

    def compute(path):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, inputs[0])[0]

    exact, found = compute(model.SerializeToString()), compute(str(tmp_path / "q.onnx"))
    assert 0 < np.square(found - exact).mean() < 0.02 * np.square(exact).mean()


def test_the_embedded_model_has_both_parts(tmp_path):
    """All layers of the encoder; of `decode` fewer than all, the first of which reads the residual."""
    bundle = manifest.read(None)
    found = {}
    for part, name in int8.PARTS.items():
        graph = int8.folded(bundle.folder / bundle.graphs[name].file, tmp_path)
        every = [n.name for n in graph.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
        found[part] = (int8.layers_of(part, graph), every, graph)
    layers, every, _ = found["encoder"]
    assert layers == every and len(layers) > 20
    layers, every, graph = found["heads"]
    assert 5 < len(layers) < len(every)
    assert "aligned" in next(n.input for n in graph.graph.node if n.name == layers[0])


def test_every_form_of_rounding_gives_the_same_pixels(tmp_path):
    """In ONNX Runtime to the bit; OpenVINO multiplies and adds in one step."""
    out = tmp_path / "r.json"
    assert rounding.main(["--size", "32", "--rounds", "2", "--threads", "1", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 8
    for row in rows:
        assert row["form"] == "float" or row["different"] <= (0 if row["engine"] == "onnx" else 3)
    x = np.random.default_rng(2).uniform(-1.4, 1.4, (1, 12, 16, 16)).astype(np.float32)
    image = rounding.opened("onnx", "float", 32, 1)(x)
    assert np.abs(image).max() > 1, "nothing to clip"
    assert np.array_equal(rounding.opened("onnx", "graph", 32, 1)(x), pictures.to_uint8(image[None])[0])


@pytest.mark.parametrize("command", [int8, rounding])
def test_wrong_usage_is_one_line(command, capsys):
    assert command.main(["--rounds", "0"]) == 2
    assert "--rounds" in error_line(capsys.readouterr().err)
