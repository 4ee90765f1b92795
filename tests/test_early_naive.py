"""The early naive image: what the generator has drawn at R; its blocks above do not run for it.

The authority is a smaller generator with the same weights, and torch's count of operations.
"""

import dataclasses

import numpy as np
import pytest
import torch
from export_models import CONFIG, small_model, trace_graphs
from fake_gpu import FakeCuda, fake_tensorrt, install
from tiny_bundle import edit_manifest, write_tiny_bundle
from tolerances import EXPORT_ATOL, TOL
from torch.utils.flop_counter import FlopCounterMode
from trt_helpers import build

import export.bundle as bundle
import wagi_rt
from benchmarks import floor, reference
from export.comparison import compare_probes
from export.graphs import build_graphs
from export.rows import failure
from wagi import checkpoint, config
from wagi.errors import UserError
from wagi.model import WaGI
from wagi.networks.build import PARTS, build_part
from wagi_rt import manifest as manifests
from wagi_rt import probes
from wagi_rt.commands import page

SIZE, R = 64, 32
CHANGES = {"size": SIZE, "residual_resolution": R, "encoder_input": 32, "naive": "early"}


@pytest.fixture(scope="module")
def model():
    return small_model(**CHANGES).requires_grad_(False)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("early") / "early"
    return out, bundle.export_model(model, out, "early", traced=trace_graphs(model))


def images(n=2, size=SIZE):
    return torch.from_numpy(probes.images(size, 3, batch=n))


def without(model):
    return WaGI(model.generator, model.encoder, model.aligner, model.fusion, model.full_detail).eval()


def operations(run):
    """Multiplications of torch's convolutions and matrix products."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("generator", ["swagan", "stylegan2"])
@torch.no_grad()
def test_it_is_a_smaller_generators_image(generator):
    levels = {} if generator == "swagan" else {"wavelet_levels": ()}
    model = small_model(generator=generator, **levels, **CHANGES)
    small = build_part(
        dataclasses.replace(CONFIG, size=R, generator=generator, residual_resolution=0, **levels), "generator"
    )
    weights = model.generator.state_dict()
    small.load_state_dict({name: weights[name] for name in small.state_dict()})
    found = model.invert(images())
    wanted = small(found.ws[:, : small.n_latent])
    torch.testing.assert_close(model.low_fidelity(found.naive), wanted.clamp(-1, 1), **TOL[torch.float32])
    assert found.naive.shape == (2, 3, SIZE, SIZE)
    assert torch.equal(found.naive[..., ::2, ::2], found.naive[..., 1::2, 1::2])
    torch.testing.assert_close(
        found.residual,
        torch.nn.functional.avg_pool2d(images(), 2) - wanted.clamp(-1, 1),
        **TOL[torch.float32],
    )
    assert (found.residual - without(model).invert(images()).residual).abs().mean() > 0.05


@torch.no_grad()
def test_at_the_size_of_r_nothing_changes():
    model = small_model(naive="early")
    assert not model.early
    for ours, theirs in zip(model.invert(images(2, 32)), without(model).invert(images(2, 32)), strict=True):
        assert torch.equal(ours, theirs)


def test_the_blocks_above_r_run_once(model, exported):
    """What an inversion saves is the whole of them, in PyTorch and in the graphs."""
    full = without(model)
    x, generator, start = images(1), model.generator, model.fusion_start
    ws = torch.zeros(1, generator.n_latent, generator.style_dim)
    state = generator.prefix(ws, start)
    saved = operations(lambda: generator.suffix(ws, state, start))
    saved -= operations(lambda: generator.suffix(ws, state, start, size=R))
    whole = operations(lambda: full.invert(x))
    assert operations(lambda: model.invert(x)) == whole - saved < whole
    graphs = [build_graphs(one)["pipeline"].module for one in (full, model)]
    counted = [operations(lambda graph=graph: graph(x)) for graph in graphs]
    assert counted[1] < counted[0]
    exact = sum(layer.macs for layer in floor.layers(exported[0] / "pipeline.onnx", 1))
    assert exact == pytest.approx(counted[1], rel=0.01), "the joined graph runs what its module runs"


def test_inversion_and_edit_are_pytorchs(exported):
    rows = exported[1].rows
    assert {"early", "pipeline", "edit", "editing"} <= {row.name for row in rows}
    assert "naive" not in {row.name for row in rows}
    assert all(row.difference < EXPORT_ATOL for row in rows)
    with wagi_rt.load(exported[0], threads=1) as session:
        assert not failure(compare_probes(session.engine))


def test_the_runtime_shows_it_enlarged(exported, model):
    x = images()
    with torch.no_grad():
        inverted = model.invert(x)
        ws = probes.edited(inverted.ws.numpy())
        edited = model.edit(inverted, torch.from_numpy(ws))
    for naive in (False, True):
        with wagi_rt.load(exported[0], threads=1, naive=naive) as session:
            assert session.manifest.early
            found = session.restore(x.numpy())
            np.testing.assert_allclose(found.image, inverted.image, atol=EXPORT_ATOL)
            kept = session.encode(x.numpy())
            np.testing.assert_allclose(session.edit(kept, ws).image, edited.image, atol=EXPORT_ATOL)
            pictures = session.invert([image.numpy() for image in x])
            assert (pictures[0].naive is not None) == naive
            if naive:
                wanted = (inverted.naive[0].clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5
                assert np.abs(pictures[0].naive - wanted).max() < 0.6
    with wagi_rt.load(exported[0], threads=1) as session:
        np.testing.assert_allclose(
            session.run(x.numpy()).naive, inverted.naive.clamp(-1, 1), atol=EXPORT_ATOL
        )


def test_openvino_runs_it(exported):
    pytest.importorskip("openvino")
    found = []
    for backend in ("onnx", "openvino"):
        with wagi_rt.load(exported[0], backend, threads=1) as session:
            found.append(session.restore(images().numpy()).image)
    np.testing.assert_allclose(*found, atol=1e-3)


def test_the_tensorrt_program_walks_it(exported, tmp_path, monkeypatch):
    """Around fakes of CUDA and TensorRT, whose plans ONNX Runtime computes."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    cuda = FakeCuda()
    install(monkeypatch, cuda, fake_tensorrt(cuda))
    build(exported[0], tmp_path)
    for naive in (False, True):  # one engine or a chain
        found = []
        for backend in ("onnx", "trt"):
            with wagi_rt.load(exported[0], backend, naive=naive) as session:
                kept = session.encode(images().numpy())
                edited = session.edit(kept, probes.edited(kept["ws"]))
                found.append(np.stack([session.restore(images().numpy()).image, edited.image]))
        np.testing.assert_allclose(*found, atol=1e-4)


def test_the_page_gets_the_image_that_it_enlarges(exported):
    described = page.describe(manifests.read(exported[0]))
    assert "early" in described["graphs"] and "naive" not in described["graphs"]
    assert "naive_r" in described["inversion"]["outputs"]
    assert described["edit"]["outputs"] == ("edit_naive_r", "result")


@torch.no_grad()
def test_the_baseline_reproduces_it(model):
    torch.testing.assert_close(
        reference.invert(model, images(1)).image, model.invert(images(1)).image, atol=1e-4, rtol=1e-4
    )


def test_the_setting_is_kept(model, tmp_path):
    path, settings = tmp_path / "model.pt", dataclasses.replace(CONFIG, **CHANGES)
    checkpoint.save(
        path, "inversion", settings, {part: checkpoint.state_of(getattr(model, part)) for part in PARTS}
    )
    assert checkpoint.load_model(path).early
    older = {name: value for name, value in config.to_dict(settings).items() if name != "naive"}
    assert config.model_from_dict(older, "older").naive == "full"
    with pytest.raises(UserError, match="naive=late: choose from full, bilinear, early"):
        config.settings("smoke", "inversion", {"naive": "late"})


def test_the_manifest_names_it(exported, tmp_path):
    folder = write_tiny_bundle(tmp_path / "b", schema=3, size=64, resolution=64)
    edit_manifest(folder, naive="early")
    assert not manifests.read(folder).early, "nothing lies above R"
    folder = write_tiny_bundle(tmp_path / "c", schema=3, size=64, resolution=32)
    known = "'naive' full or bilinear or early only"
    for value, said in (("early", "graph 'early' is missing"), ("late", known)):
        edit_manifest(folder, naive=value)
        with pytest.raises(manifests.UserError, match=said):
            manifests.read(folder)
