"""bf16 in OpenVINO fetches pixels from where FP32 fetches them, and edits pass a check of their own."""

import json
import shutil

import numpy as np
import pytest
from cpu import needs_bf16
from scipy.ndimage import map_coordinates
from tiny_bundle import edit_manifest

import wagi_rt
from wagi_rt import probes
from wagi_rt.engines import ov, ov_graph
from wagi_rt.engines.base import EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.metrics import psnr
from wagi_rt.session import Session

openvino = pytest.importorskip("openvino", reason="needs the extra `openvino`")
SIDE = 64
# Where OpenVINO may begin to compute in FP32: what these make is as good as their inputs.
REDUCED = {"Convolution", "FullyConnected", "MatMul", "Interpolate"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))


def sampler(path) -> None:
    """A graph that looks at image + flow between two convolutions which change nothing."""
    from onnx import TensorProto, helper, numpy_helper, save

    node = helper.make_node
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    constants = {
        "two": np.eye(2)[:, :, None, None], "one": np.ones((1, 1, 1, 1)), "centres": np.stack([x, y])[None],
        "scale": np.array(2 / SIDE), "edge": np.array(1.0),
    }  # fmt: skip
    nodes = [
        node("Conv", ["flow", "two"], ["moved"]),
        node("Add", ["moved", "centres"], ["pixels"]),
        node("Mul", ["pixels", "scale"], ["scaled"]),
        node("Sub", ["scaled", "edge"], ["normal"]),
        node("Transpose", ["normal"], ["grid"], perm=[0, 2, 3, 1]),
        node("GridSample", ["image", "grid"], ["found"], mode="linear", padding_mode="border"),
        node("Conv", ["found", "one"], ["result"]),
    ]
    info = lambda name, count: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, SIDE, SIDE])  # noqa: E731
    weights = [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [info("image", 1), info("flow", 2)], [info("result", 1)], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


@needs_bf16
def test_pixels_are_fetched_from_where_scipy_fetches_them(tmp_path):
    """bf16 has steps of an eighth of a pixel at this image's edge, and neighbours differ by up to two."""
    sampler(tmp_path / "g.onnx")
    rng = np.random.default_rng(0)
    image = rng.choice([-1.0, 1.0], (SIDE, SIDE)).astype(np.float32)
    flow = rng.integers(-63, 64, (2, SIDE, SIDE)).astype(np.float32) / 16  # bf16 holds each of them
    core = openvino.Core()
    model = core.read_model(tmp_path / "g.onnx")
    ov_graph.keep_fp32(core, model)
    ov_graph.keep_coordinates(model)
    run = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    found = run({"image": image[None, None], "flow": flow[None]})["result"][0, 0]
    y, x = np.mgrid[:SIDE, :SIDE]
    wanted = map_coordinates(image, [y + flow[1], x + flow[0]], order=1, mode="nearest")
    assert np.abs(found - wanted).max() < 2**-7, "more than two roundings of the result"


def before(node) -> list[tuple[str, str]]:
    """(kind, precision) of what OpenVINO runs between a grid and the layers that REDUCED names."""
    found, todo = {}, [node.input_value(1).get_node()]
    while todo:
        one = todo.pop()
        kind, precision = (one.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision"))
        if kind in REDUCED or one.get_friendly_name() in found:
            continue
        if kind not in ("Reorder", "Const"):
            found[one.get_friendly_name()] = kind, precision
        todo += [value.get_source_output().get_node() for value in one.inputs()]
    return list(found.values())


@needs_bf16
@pytest.mark.parametrize("naive", [False, True], ids=["edit", "move"])
def test_every_grid_of_the_embedded_model_is_computed_in_fp32(naive):
    """As OpenVINO describes what it runs: in the graph of whole edits and in that of the aligner alone."""
    with Session(None, EngineChoice("openvino", precision="bf16"), naive=naive, editing=True) as session:
        (compiled,) = session.engine._compiled["move" if naive else "edit"].values()
    nodes = compiled.get_runtime_model().get_ops()
    sampled = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "GridSample"]
    assert len(sampled) == 13
    assert {precision for node in sampled for _, precision in before(node)} == {"f32"}
    convolutions = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "Convolution"]
    assert {node.get_rt_info()["runtimePrecision"].astype(str) for node in convolutions} == {"bf16"}


@needs_bf16
def test_turned_portraits_are_those_of_fp32():
    """Each of the samples that come with the model, by the limit of its probes."""
    samples = sorted((wagi_rt.manifest.embedded() / "samples").glob("*.png"))
    with (
        wagi_rt.load(None, "openvino") as exact,
        wagi_rt.load(None, "openvino", precision="bf16") as session,
    ):
        kept = exact.encode(np.stack([exact.prepare(path).image for path in samples]))
        turn = exact.direction("yaw").shift(1.0, exact.manifest.n_latent, exact.manifest.latents)
        ws = kept["ws"] + turn
        assert (psnr(session.edit(kept, ws).image, exact.edit(kept, ws).image) > 45).all()


# The check of edits. The capability is a FAKE, the arithmetic FP32.


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr(ov, "_capabilities", lambda core: ["FP32", "BF16"])
    monkeypatch.setitem(ov._HINTS, "bf16", "f32")


def moved(folder, shift):
    """The embedded bundle with the stored values of its edit moved by `shift`; None: without them."""
    shutil.copytree(wagi_rt.manifest.embedded(), folder)
    source = json.loads((folder / "manifest.json").read_text())["source"]
    if shift is None:
        del source["probes"]["values"]["edit"]
    else:
        values = source["probes"]["values"]["edit"]["result"]
        source["probes"]["values"]["edit"]["result"] = [value + shift for value in values]
    edit_manifest(folder, source=source)
    return folder


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (0.011, ""),
        (0.0115, r"reaches 44\.8 dB in edits against FP32, the limit is 45; use --precision fp32"),
        (None, "holds no values to judge its edits by; use --precision fp32"),
    ],
)
def test_edits_have_to_pass_45_db_too(tmp_path, pretended, shift, message):
    """A shift s is 20 log10(2 / s) dB. `wagi-rt edit` finds out at once, a library at its first edit."""
    folder = moved(tmp_path / "b", shift)
    choice = EngineChoice("openvino", threads=1, precision="bf16")
    with wagi_rt.load(folder, "openvino", threads=1, precision="bf16") as session:
        kept = session.encode(probes.images(128, 7, batch=1))
        if not message:
            assert session.edit(kept, kept["ws"]).image.shape == (1, 3, 128, 128)
            Session(folder, choice, editing=True).close()
            return
        for _ in range(2):
            with pytest.raises(UserError, match=message):
                session.edit(kept, kept["ws"])
    with pytest.raises(UserError, match=message):
        Session(folder, choice, editing=True)
