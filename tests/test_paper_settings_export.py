"""A model with every setting of tests/test_paper_settings.py runs exported as it does in PyTorch."""

import numpy as np
import pytest
import torch
from export_models import small_model, trace_graphs
from fake_gpu import FakeCuda, fake_tensorrt, install
from tiny_bundle import edit_manifest, write_tiny_bundle
from tolerances import EXPORT_ATOL
from trt_helpers import build

import export.bundle as bundle
import wagi_rt
from benchmarks import reference
from export.comparison import compare_probes
from export.graphs import build_graphs
from export.rows import failure
from wagi.model import WaGI
from wagi_rt import manifest as manifests
from wagi_rt import probes, schema

SIZE, R = 128, 32  # a quarter: at half, means over blocks and HFGI's samples are the same
CHANGES = {
    "size": SIZE, "residual_resolution": R, "encoder_input": R, "naive": "bilinear", "image_resize": "pil",
    "gate": "plain", "post_skip": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return small_model(**CHANGES).requires_grad_(False)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("settings") / "settings"
    return out, bundle.export_model(model, out, "settings", traced=trace_graphs(model))


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(probes.images(SIZE, 3, batch=2))


@torch.no_grad()
def test_the_export_formulation_is_the_models(model, images):
    graphs, found = build_graphs(model), model.invert(images)
    ws, naive_r, result = graphs["pipeline"].module(images)
    torch.testing.assert_close(naive_r, model.low_fidelity(found.naive), atol=1e-4, rtol=0)
    torch.testing.assert_close(result, found.image, atol=EXPORT_ATOL, rtol=0)
    edited = model.edit(found, moved := torch.from_numpy(probes.edited(ws.numpy())))
    _, result = graphs["edit"].module(model.reduced(images), naive_r, moved)
    torch.testing.assert_close(result, edited.image, atol=EXPORT_ATOL, rtol=0)
    plain = WaGI(model.generator, model.encoder, model.aligner, model.fusion).eval().invert(images)
    assert (plain.image - found.image).abs().mean() > 0.01


@pytest.mark.slow
def test_every_graph_and_chain_is_pytorchs(exported):
    rows = exported[1].rows
    assert {"pipeline", "edit", "editing", "decode"} <= {row.name for row in rows}
    assert all(row.difference < EXPORT_ATOL for row in rows)
    with wagi_rt.load(exported[0], threads=1) as session:
        assert not failure(compare_probes(session.engine))


@pytest.mark.slow
@torch.no_grad()
def test_the_runtime_does_the_same(exported, model, images, tmp_path):
    """Inversions and edits by one graph and by many, at held latents, and from a kept picture."""
    inverted = model.invert(images)
    ws = probes.edited(inverted.ws.numpy())
    edited = model.edit(inverted, torch.from_numpy(ws))
    close = dict(atol=EXPORT_ATOL)
    for naive in (False, True):
        with wagi_rt.load(exported[0], threads=1, naive=naive) as session:
            assert session.manifest.pil and session.manifest.bilinear
            np.testing.assert_allclose(session.restore(images.numpy()).image, inverted.image, **close)
            kept = session.encode(images.numpy())
            np.testing.assert_allclose(kept["image_r"], model.reduced(images), **close)
            np.testing.assert_allclose(session.edit(kept, ws).image, edited.image, **close)
    with wagi_rt.load(exported[0], threads=1) as session:
        held = session.hold(images.numpy(), inverted.ws.numpy())
        np.testing.assert_allclose(held["result"], inverted.image, **close)
        np.testing.assert_allclose(session.run(images.numpy()).residual, inverted.residual, **close)
        session.open(images[0].numpy()).save(tmp_path / "face.npz")
        again = session.reopen(tmp_path / "face.npz").kept
        np.testing.assert_allclose(again["image_r"][0], model.reduced(images)[0], **close)


@pytest.mark.slow
def test_the_tensorrt_program_walks_it(exported, images, tmp_path, monkeypatch):
    """Around fakes of CUDA and TensorRT, whose plans ONNX Runtime computes."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    cuda = FakeCuda()
    install(monkeypatch, cuda, fake_tensorrt(cuda))
    build(exported[0], tmp_path)
    for naive in (False, True):  # one engine or a chain
        found = []
        for backend in ("onnx", "trt"):
            with wagi_rt.load(exported[0], backend, naive=naive) as session:
                kept = session.encode(images.numpy())
                edited = session.edit(kept, probes.edited(kept["ws"]))
                found.append(np.stack([session.restore(images.numpy()).image, edited.image]))
        np.testing.assert_allclose(*found, atol=1e-4)


@torch.no_grad()
def test_the_baseline_reproduces_it(model, images):
    found = reference.invert(model, images).image
    torch.testing.assert_close(found, model.invert(images).image, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_readers_of_schema_3_refuse(exported, monkeypatch):
    """They would reduce images in their own way."""
    monkeypatch.setattr(schema, "RESIZED", 3)
    with pytest.raises(manifests.UserError, match="schema 4 is unknown"):
        manifests.read(exported[0])


def test_the_manifest_names_them(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b", schema=3, size=64, resolution=32)
    edit_manifest(folder, schema=4)
    with pytest.raises(manifests.UserError, match="image_resize"):
        manifests.read(folder)
    edit_manifest(folder, image_resize="lanczos")
    with pytest.raises(manifests.UserError, match="'image_resize' area or pil only"):
        manifests.read(folder)
    edit_manifest(folder, image_resize="pil")
    assert manifests.read(folder).pil
