"""A bundle with full detail computes WaGI.invert and WaGI.edit, in every engine and precision."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from export_models import small_model, trace_graphs
from fake_gpu import FakeCuda, fake_tensorrt, install
from tiny_bundle import edit_manifest, write_tiny_bundle
from tolerances import EXPORT_ATOL
from trt_helpers import build

import export.bundle as bundle
import wagi_rt
from export.comparison import compare_probes
from export.graphs import build_graphs
from export.rows import failure, table
from wagi.model import WaGI
from wagi_rt import manifest as manifests
from wagi_rt import probes
from wagi_rt.commands import page
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError

SIZE, R = 64, 32
DETAIL = ("keep_detail", "move_detail")
GRAPHS = ("encoder", "prefix", "naive", "decode", "move", *DETAIL, "pipeline", "edit")
WHOLE = ("inversion", "editing", "no change", "batch 1 = 3")


@pytest.fixture(scope="module")
def model():
    return small_model("flow", size=SIZE, residual_resolution=R, full_detail=True)


@pytest.fixture(scope="module")
def traced(model):
    return trace_graphs(model)


@pytest.fixture(scope="module")
def exported(model, traced, tmp_path_factory):
    out = tmp_path_factory.mktemp("detail") / "detail"
    return out, bundle.export_model(model, out, "detail", traced=traced)


def test_inversion_and_edit_are_pytorchs(exported):
    rows = exported[1].rows
    print("\n" + table(*exported[1]))
    assert {row.name for row in rows} == {*GRAPHS, *WHOLE}
    assert all(row.difference < EXPORT_ATOL for row in rows)
    (unchanged,) = (row for row in rows if row.name == "no change")
    assert unchanged.difference < 1e-6, "an edit of nothing is the inversion"
    with OrtEngine(manifests.read(exported[0])) as engine:
        rows = compare_probes(engine)
    assert {row.name for row in rows} == {*GRAPHS, "batch 1 = 3"} and not failure(rows)


def test_the_runtime_keeps_and_moves_the_inputs_detail(exported, model):
    """Through sessions, whole and in separate graphs; the naive image and latents of one's own too."""
    images = probes.images(SIZE, 9, batch=2)
    x = torch.from_numpy(images)
    with torch.no_grad():
        inverted = model.invert(x)
        ws = probes.edited(inverted.ws.numpy())
        edited = model.edit(inverted, torch.from_numpy(ws))
        plain = WaGI(model.generator, model.encoder, model.aligner, model.fusion).edit(inverted, edited.ws)
    assert (plain.image - edited.image).abs().mean() > 0.05, "the setting matters here"
    for naive in (False, True):
        with wagi_rt.load(exported[0], threads=1, naive=naive) as session:
            assert session.manifest.full_detail
            np.testing.assert_allclose(session.restore(images).image, inverted.image, atol=EXPORT_ATOL)
            kept = session.encode(images)
            np.testing.assert_allclose(session.edit(kept, ws).image, edited.image, atol=EXPORT_ATOL)
            held = session.hold(images, kept["ws"])
            np.testing.assert_allclose(held.pop("result"), inverted.image, atol=EXPORT_ATOL)
            np.testing.assert_allclose(session.edit(held, ws).image, edited.image, atol=EXPORT_ATOL)


def test_a_kept_picture_has_its_full_size(exported, tmp_path):
    """Edits of it are those of the picture to the bit."""
    with wagi_rt.load(exported[0], threads=1) as session:
        face = session.open(probes.images(SIZE, 9, batch=1)[0])
        face.save(tmp_path / "face.npz")
        again = session.reopen(tmp_path / "face.npz")
        ws = probes.edited(face.ws[None])[0]
        assert np.array_equal(again.render(ws).image, face.render(ws).image)
        assert again.render(ws).input.shape == (SIZE, SIZE, 3)
    with np.load(tmp_path / "face.npz") as arrays:
        assert set(arrays.files) == {"ws", "naive_r", "image", "about"}


def test_openvino_runs_both(exported):
    pytest.importorskip("openvino")
    images = probes.images(SIZE, 7, batch=2)
    found = []
    for backend in ("onnx", "openvino"):
        with wagi_rt.load(exported[0], backend, threads=1) as session:
            kept = session.encode(images)
            edited = session.edit(kept, probes.edited(kept["ws"]))
            found.append((session.restore(images).image, edited.image))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_tensorrt_program_walks_both(exported, tmp_path, monkeypatch):
    """Around fakes of CUDA and TensorRT, whose plans ONNX Runtime computes."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    cuda = FakeCuda()
    install(monkeypatch, cuda, fake_tensorrt(cuda))
    build(exported[0], tmp_path)
    images = probes.images(SIZE, 7, batch=2)
    for naive in (False, True):  # one engine or a chain
        found = []
        for backend in ("onnx", "trt"):
            with wagi_rt.load(exported[0], backend, naive=naive) as session:
                kept = session.encode(images)
                edited = session.edit(kept, probes.edited(kept["ws"]))
                found.append((session.restore(images).image, edited.image))
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_page_keeps_what_its_edits_read(exported):
    described = page.describe(manifests.read(exported[0]))
    assert set(described["edit"]["inputs"]) <= {*described["inversion"]["outputs"], "edit_ws"}
    assert set(DETAIL) <= set(described["graphs"])


def test_nothing_depends_on_the_batch_or_is_double(exported):
    for name in DETAIL:
        graph = onnx.shape_inference.infer_shapes(onnx.load(exported[0] / f"{name}.onnx")).graph
        assert not {node.op_type for node in graph.node} & {"Shape", "Expand", "Cast", "Range", "Loop", "If"}
        values = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
        values |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        assert onnx.TensorProto.DOUBLE not in values.values()


@pytest.mark.slow
def test_half_precision_leaves_the_detail_in_fp32(model, traced, tmp_path):
    """The coordinates, and the input's own bands."""
    graphs = build_graphs(model, "fp16")
    fixed = ("move", *DETAIL)
    others = {name: graph for name, graph in graphs.items() if name not in fixed}
    half = dict(bundle.trace_one_by_one(others, 20, lambda text: None)) | {n: traced[n] for n in fixed}
    found = bundle.export_model(model, tmp_path / "fp16", "fp16", precision="fp16", traced=half)
    print("\n" + table(*found))
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "fp16" / "edit.onnx"), strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    sampled = [node for node in inferred.graph.node if node.op_type == "GridSample"]
    assert sampled and all(
        kinds.get(name, onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT
        for node in sampled
        for name in node.input
    )


def test_half_weights(model, traced, tmp_path):
    rows = bundle.export_model(model, tmp_path / "half", "half", precision="fp16-weights", traced=traced).rows
    assert not failure(rows)


@pytest.mark.parametrize("schema", [2, 3])
def test_bundles_of_before_load(tmp_path, schema):
    folder = write_tiny_bundle(tmp_path / "b", schema=schema, size=SIZE, resolution=R)
    edit_manifest(folder, full_detail=None)
    assert not manifests.read(folder).full_detail


def test_nothing_happens_at_the_size_of_r(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b", schema=3, aligner="flow", size=SIZE, resolution=SIZE)
    edit_manifest(folder, full_detail=True)
    assert not manifests.read(folder).full_detail


def test_what_the_manifest_says_is_checked(exported, tmp_path):
    """A bundle whose graphs are others than it says is refused in one line."""
    manifest = json.loads((exported[0] / "manifest.json").read_text())
    folder = tmp_path / "b"
    shutil.copytree(exported[0], folder)
    for change, said in (
        ({"full_detail": "yes"}, "'full_detail' false or true only"),
        ({"full_detail": None}, "'graphs.move.outputs' must be aligned"),
        (
            {"graphs": {k: v for k, v in manifest["graphs"].items() if k != "keep_detail"}},
            "graph 'keep_detail' is missing",
        ),
    ):
        edit_manifest(folder, **{**manifest, **change})
        with pytest.raises(UserError) as caught:
            manifests.read(folder)
        assert said in str(caught.value) and "\n" not in str(caught.value)
