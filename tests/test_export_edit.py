"""An exported edit with the flow aligner computes what WaGI.edit computes, in every precision and engine."""

import numpy as np
import onnx
import pytest
import torch
from export_models import small_model

import export.bundle as bundle
import wagi_rt
from export.comparison import compare_probes
from export.graphs import aligner, build_graphs
from export.parity import reference
from export.rows import failure, table
from tests.tolerances import EXPORT_ATOL
from wagi.checkpoint import weights_hash
from wagi_rt import manifest as manifests
from wagi_rt import probes
from wagi_rt.directions import Direction
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError

GRAPHS = ("encoder", "prefix", "naive", "decode", "move", "pipeline", "edit")
WHOLE = ("inversion", "editing", "no change", "batch 1 = 3")


@pytest.fixture(scope="module")
def model(flow_model):
    return flow_model[0]


@pytest.fixture(scope="module")
def traced(flow_model):
    return flow_model[1]


@pytest.fixture(scope="module")
def directions(model):
    vector = np.random.default_rng(0).normal(size=model.generator.style_dim).astype(np.float32) / 4
    return {"smile": Direction("smile", vector, range=(-1, 1), generator=weights_hash(model.generator))}


@pytest.fixture(scope="module")
def exported(model, traced, directions, tmp_path_factory):
    out = tmp_path_factory.mktemp("flow") / "flow"
    images = probes.images(32, 5, batch=4)
    found = bundle.export_model(
        model, out, "flow", traced=traced, directions=directions, heldout=[images[:3], images[3:]]
    )
    return out, found


def test_every_graph_and_the_edit_are_pytorchs(exported):
    rows = exported[1].rows
    print("\n" + table(*exported[1]))
    assert {row.name for row in rows} == {*GRAPHS, *WHOLE}
    assert all(row.difference < EXPORT_ATOL for row in rows)
    (unchanged,) = (row for row in rows if row.name == "no change")
    assert unchanged.difference == 0
    with OrtEngine(manifests.read(exported[0])) as engine:
        rows = compare_probes(engine)
    assert {row.name for row in rows} == {*GRAPHS, "batch 1 = 3"} and not failure(rows)


def test_the_edit_of_the_probes_is_one(model):
    """Otherwise a graph that carries nothing would pass."""
    found = reference(model, probes.images(32, 20))
    edited, inverted = found["edit"][1], found["pipeline"][1]
    assert np.abs(edited["edit_naive_r"] - inverted["naive_r"]).mean() > 0.02
    assert np.abs(found["move"][1]["aligned"] - found["move"][0]["residual"]).mean() > 0.02


def test_a_face_of_the_bundle_is_edited_as_the_model_does(exported, model, directions):
    image = torch.from_numpy(probes.images(32, 9, batch=1))
    with wagi_rt.load(exported[0], threads=1) as session:
        face = session.open(image[0].numpy())
        edited = face.edit(smile=0.5)
        found = session.edit(face.kept, edited.ws[None])
    with torch.no_grad():
        ws = model.encode(image) + 0.5 * torch.from_numpy(directions["smile"].vector)
        wanted = model.edit(image, ws)
    np.testing.assert_allclose(found.image, wanted.image.numpy(), atol=EXPORT_ATOL)
    np.testing.assert_allclose(found.ws, ws.numpy(), atol=1e-4)


def test_an_inversion_holds_no_aligner(exported):
    manifest = manifests.read(exported[0])
    assert set(manifest.graphs) == set(GRAPHS) and manifest.aligner == "flow"
    ops = {name: graph_ops(exported[0], name) for name in ("pipeline", "edit", "move")}
    assert "GridSample" not in ops["pipeline"] and "GridSample" in ops["edit"]


def graph_ops(folder, name):
    graph = onnx.load(folder / f"{name}.onnx", load_external_data=False).graph
    return {node.op_type for node in graph.node}


def test_nothing_in_the_aligner_depends_on_the_batch_or_is_double(exported):
    """TensorRT and ONNX Runtime know no double GridSample; shape arithmetic keeps layers from being fused."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported[0] / "move.onnx")).graph
    assert not {node.op_type for node in graph.node} & {"Shape", "Expand", "Cast", "Range", "Loop", "If"}
    doubles = [v.name for v in graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE]
    doubles += [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.DOUBLE]
    assert not doubles


def test_the_manifest_says_what_edits_need(exported, model, directions):
    manifest = manifests.read(exported[0])
    assert manifest.generator == weights_hash(model.generator)
    assert np.array_equal(manifest.direction("smile").vector, directions["smile"].vector)
    errors = manifest.naive_errors
    images = torch.from_numpy(probes.images(32, 5, batch=4))
    with torch.no_grad():
        wanted = model.invert(images).residual.square().mean(dim=(1, 2, 3))
    assert errors.count == 4 and errors.mean == pytest.approx(wanted.mean().item(), rel=1e-4)
    assert errors.quantiles[0.5] == pytest.approx(wanted.quantile(0.5).item(), rel=1e-4)


def test_directions_of_another_generator_are_refused(model, traced, tmp_path):
    other = {"x": Direction("x", np.ones(model.generator.style_dim, np.float32), generator="0" * 64)}
    with pytest.raises(UserError, match="direction 'x': was found in another generator's latents"):
        bundle.export_model(model, tmp_path / "out", "x", traced=traced, directions=other)
    assert not list(tmp_path.iterdir())


def test_half_weights(model, traced, tmp_path):
    rows = bundle.export_model(model, tmp_path / "half", "half", precision="fp16-weights", traced=traced).rows
    print("\n" + table(rows))
    assert 1e-5 < max(row.difference for row in rows if row.name == "move")


def test_half_precision_leaves_the_coordinates_in_fp32(model, traced, tmp_path):
    graphs = build_graphs(model, "fp16")
    others = {name: graph for name, graph in graphs.items() if name != "move"}
    half = dict(bundle.trace_one_by_one(others, 20, lambda text: None)) | {"move": traced["move"]}
    found = bundle.export_model(model, tmp_path / "fp16", "fp16", precision="fp16", traced=half)
    print("\n" + table(*found))
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "fp16" / "edit.onnx"), strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    sampled = [node for node in inferred.graph.node if node.op_type == "GridSample"]
    assert sampled and all(kinds[name] == onnx.TensorProto.FLOAT for node in sampled for name in node.input)
    assert "fp16" == manifests.read(tmp_path / "fp16").precision


def test_ada_and_flow_are_told_apart(model):
    assert aligner(model) == "flow" and aligner(small_model()) == "ada"


def test_openvino_runs_the_edit(exported):
    """As ONNX Runtime does; in bf16 see test_openvino_coordinates.py."""
    pytest.importorskip("openvino")
    images = probes.images(32, 7, batch=2)
    with wagi_rt.load(exported[0], threads=1) as session:
        kept = session.encode(images)
        ws = probes.edited(kept["ws"])
        wanted = session.edit(kept, ws)
    with wagi_rt.load(exported[0], "openvino", threads=1, precision="fp32") as session:
        np.testing.assert_allclose(session.edit(kept, ws).image, wanted.image, atol=1e-3)
