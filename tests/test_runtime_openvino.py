"""The OpenVINO backend: same images as ONNX Runtime, wavelets included; bf16 only where it is and is good."""

import json
import os
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from cpu import HAS_BF16, needs_bf16
from PIL import Image
from tiny_bundle import edit_manifest, error_line, run_cli, write_tiny_bundle
from tolerances import TOL

import wagi_rt
from wagi_rt import haar, probes
from wagi_rt.engines import ov
from wagi_rt.errors import UserError

openvino = pytest.importorskip("openvino", reason="needs the extra `openvino`")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), pipeline=True, default="pipeline")


def images(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize("naive", [False, True])
def test_it_equals_onnx_runtime_at_every_batch_size(bundle, naive):
    with (
        wagi_rt.load(bundle, threads=1, naive=naive) as one,
        wagi_rt.load(bundle, "openvino", threads=1, naive=naive) as other,
    ):
        for count in (1, 3, 2, 1):
            wanted, found = one.restore(images(count)), other.restore(images(count))
            for name in ("ws", "naive_r", "image"):
                np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), **TOL[np.float32])
        assert "OpenVINO" in other.description and other.description.endswith("on cpu, fp32")


def test_results_are_not_overwritten_by_the_next_run(bundle):
    """OpenVINO hands out its own buffers."""
    with wagi_rt.load(bundle, "openvino", threads=1) as session:
        first = session.restore(images(1)).image
        kept = first.copy()
        session.restore(-images(1))
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_wavelet_nodes_equal_the_definition(tmp_path, dtype):
    """The exporter's own nodes (function bodies that OpenVINO does not read) against wagi_rt.haar."""
    onnx = pytest.importorskip("onnx")
    from export.haar_functions import add_functions

    node = onnx.helper.make_node
    nodes = [
        node("HaarDWT", ["x"], ["y"], domain="wagi"),
        node("Mul", ["y", "y"], ["squares"]),
        node("HaarIDWT", ["squares"], ["z"], domain="wagi"),
    ]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    fine, coarse = ["N", 3, 10, 6], ["N", 12, 5, 3]
    shapes = {"x": fine, "y": coarse, "squares": coarse, "z": fine}
    info = {n: onnx.helper.make_tensor_value_info(n, kind, shape) for n, shape in shapes.items()}
    outputs = [info["y"], info["z"]]
    graph = onnx.helper.make_graph(nodes, "g", [info["x"]], outputs, value_info=[info["squares"]])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("wagi", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    add_functions(model)
    onnx.save(model, tmp_path / "haar.onnx")
    from wagi_rt.engines.ov_graph import add_wavelets

    core = openvino.Core()
    add_wavelets(core)
    run = core.compile_model(core.read_model(tmp_path / "haar.onnx"), "CPU")
    x = np.random.default_rng(0).normal(size=(2, 3, 10, 6)).astype(dtype)
    found = run({"x": x})
    coefficients = haar.haar(x)
    np.testing.assert_allclose(found["y"], coefficients, **TOL[dtype])
    np.testing.assert_allclose(found["z"], haar.inverse_haar(coefficients**2), **TOL[dtype])


def test_the_embedded_model_equals_onnx_runtime():
    manifest = wagi_rt.manifest.embedded()
    x = probes.images(128, 3, batch=1)
    with wagi_rt.load(manifest) as one, wagi_rt.load(manifest, "openvino") as other:
        wanted, found = one.restore(x), other.restore(x)
    np.testing.assert_allclose(found.image, wanted.image, atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(found.naive_r, wanted.naive_r, atol=2e-4, rtol=1e-4)


def test_fp32_is_always_said(bundle):
    """Where a CPU has bf16, OpenVINO computes in it unless told otherwise: quality traded silently."""
    with wagi_rt.load(bundle, "openvino", threads=1) as session:
        session.restore(images(1))
        (compiled,) = session.engine._compiled["pipeline"].values()
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


# bf16


def test_bf16_is_refused_in_one_line_where_the_cpu_lacks_it(bundle, tmp_path, capsys):
    if HAS_BF16:
        pytest.skip("this CPU has bf16")
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "in.png")
    arguments = ["-m", bundle, "-o", tmp_path / "out.png", "--backend", "openvino", "--precision", "bf16"]
    assert run_cli("invert", tmp_path / "in.png", *arguments) == 1
    line = error_line(capsys.readouterr().err)
    assert "--precision bf16: this CPU does not compute in it (OpenVINO reports" in line
    assert "use --precision fp32" in line and not (tmp_path / "out.png").exists()


@needs_bf16
def test_bf16_reaches_its_gate_on_the_embedded_model():
    with wagi_rt.load(None, "openvino", precision="bf16") as session:
        assert session.precision == "bf16" and session.description.endswith("bf16")


def pretend_bf16(monkeypatch) -> None:
    """FAKE capability, on every CPU: bf16 is asked for, and FP32 computed."""
    monkeypatch.setattr("wagi_rt.engines.ov._capabilities", lambda core: ["FP32", "BF16"])
    monkeypatch.setitem(ov._HINTS, "bf16", "f32")


def with_probes(folder, shift: float) -> None:
    """Store what ONNX Runtime in FP32 yields, moved by `shift`, as the reference values."""
    with wagi_rt.load(folder, threads=1) as session:
        result = session.restore(probes.images(session.size, 7)).image
    values = {"decode": {"image": [float(v) + shift for v in probes.pick(result, 7)]}}
    source = json.loads((folder / "manifest.json").read_text())["source"]
    edit_manifest(folder, source=source | {"probes": {"seed": 7, "values": values}})


@pytest.mark.parametrize(("shift", "passes"), [(0.0, True), (0.011, True), (0.0115, False)])
def test_the_parity_gate_is_at_45_db(tmp_path, monkeypatch, shift, passes):
    """A shift s is 20 log10(2 / s) dB: 45.19 dB for 0.011, 44.81 dB for 0.0115."""
    pretend_bf16(monkeypatch)
    folder = write_tiny_bundle(tmp_path / "bundle", pipeline=True, default="pipeline")
    with_probes(folder, shift)
    if passes:
        with wagi_rt.load(folder, "openvino", threads=1, precision="bf16") as session:
            assert session.precision == "bf16"
    else:
        with pytest.raises(UserError, match=r"--precision bf16: .* the limit is 45; use --precision fp32"):
            wagi_rt.load(folder, "openvino", threads=1, precision="bf16")


def test_without_reference_values_there_is_no_bf16(bundle, monkeypatch):
    pretend_bf16(monkeypatch)
    with pytest.raises(UserError, match="holds no values to judge it by"):
        wagi_rt.load(bundle, "openvino", threads=1, precision="bf16")


def test_sensitive_layers_are_marked_to_stay_in_fp32(tmp_path):
    """Seen in OpenVINO's own description of the marked embedded decoder: matrix products of latents have the
    mark, convolutions have not."""
    from wagi_rt.engines.ov_graph import add_wavelets, keep_fp32

    core = openvino.Core()
    add_wavelets(core)
    model = core.read_model(wagi_rt.manifest.embedded() / "decode.onnx")
    kept = keep_fp32(core, model)
    openvino.serialize(model, tmp_path / "m.xml", tmp_path / "m.bin")
    layers = ElementTree.parse(tmp_path / "m.xml").getroot().findall("./layers/layer")
    kinds = {layer.get("name"): layer.get("type") for layer in layers}
    mark = "./rt_info/attribute[@name='DisablePrecisionConversion'][@value='dynamic:bf16,f16']"
    marked = {layer.get("name") for layer in layers if layer.find(mark) is not None}
    assert marked == set(kept) & set(kinds) and marked
    products = {name for name, kind in kinds.items() if kind == "MatMul"}
    assert products and products <= marked
    assert not any("Convolution" in kinds[name] for name in marked)


# What is not there, or broken


def test_missing_openvino_names_the_extra(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install 'wagi\[openvino\]'") as caught:
        wagi_rt.load(bundle, "openvino")
    assert caught.value.status == 2


def test_a_graph_that_openvino_cannot_read_is_one_line(tmp_path, capsys):
    import hashlib

    folder = write_tiny_bundle(tmp_path / "bundle")
    (folder / "naive.onnx").write_bytes(b"not a graph")
    data = json.loads((folder / "manifest.json").read_text())
    data["graphs"]["naive"]["sha256"] = hashlib.sha256(b"not a graph").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(data))
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    out = tmp_path / "out.png"
    assert run_cli("invert", tmp_path / "in.png", "-m", folder, "-o", out, "--backend", "openvino") == 1
    assert "OpenVINO cannot load it" in error_line(capsys.readouterr().err) and not out.exists()


def test_compiled_models_go_to_the_cache_and_nowhere_without_one(bundle, tmp_path, monkeypatch):
    with wagi_rt.load(bundle, "openvino", threads=1) as session:
        session.restore(images(1))
    assert list((tmp_path / "cache" / "openvino").rglob("*.blob"))
    monkeypatch.setenv("WAGI_CACHE", os.devnull)
    with wagi_rt.load(bundle, "openvino", threads=1) as session:
        session.restore(images(1))
