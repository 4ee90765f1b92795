"""Promise: the numbers a run reports of held-out images are what their names say, of the averaged models."""

import copy

import numpy as np
import pytest
import pywt
import torch
from paper_stages import TINY, make, numpy_wavelet_loss, pictures

from wagi.config import settings
from wagi.model import WaGI
from wagi.training.generator import make_stage


def averaged(stage):
    """Other weights than the live ones: a report of the live models would show."""
    models = {name: copy.deepcopy(m).eval() for name, m in {**stage.frozen, **stage.models}.items()}
    with torch.no_grad():
        for name in stage.models:
            for parameter in models[name].parameters():
                parameter.mul_(0.8)
    return models


def mean_square(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(((x - y).double() ** 2).mean())


def whole_loss(image, x, aligned, residual) -> float:
    """Eq. (2) with the paper's weights, without LPIPS and ID."""
    waves = numpy_wavelet_loss(image, x) + numpy_wavelet_loss(aligned, residual)
    return mean_square(image, x) + float((aligned - residual).abs().mean()) + 0.1 * waves


@torch.no_grad()
def test_inversion():
    """Naive and fused inversion of the images as they are, clamped; ADA beside leaving the residual alone;
    the whole loss on a misaligned residual."""
    stage, x = make("inversion", {"warp_probability": "1"}), pictures()["image"]
    models = averaged(stage)
    calls = []
    models["aligner"].register_forward_hook(lambda _, args, out: calls.append((*args, out)))
    report = stage.evaluate(models, {"image": x})
    generator = models["generator"]
    ws = models["encoder"](x) + generator.latent_avg
    naive = generator(ws).clamp(-1, 1)
    residual = x - naive
    aligned = models["aligner"](residual, naive)
    fused = generator(ws, gates=models["fusion"](aligned)).clamp(-1, 1)
    (first, shown, _), (warped, _, moved), (_, _, judged) = calls[:3]
    torch.testing.assert_close(first, residual, atol=1e-5, rtol=0)
    torch.testing.assert_close(shown, naive, atol=1e-5, rtol=0)
    assert (warped - residual).abs().mean() > 0.01, "the second one is misaligned"
    expected = {
        "l2_naive": mean_square(naive, x), "l2_fused": mean_square(fused, x),
        "wave_naive": numpy_wavelet_loss(naive, x), "wave_fused": numpy_wavelet_loss(fused, x),
        "ada_l1": float((moved - residual).abs().mean()),
        "warped_l1": float((warped - residual).abs().mean()),
        "loss": whole_loss(generator(ws, gates=models["fusion"](judged)), x, judged, residual),
    }  # fmt: skip
    assert report.keys() == expected.keys()
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=1e-4), name
    assert len({round(value, 4) for value in expected.values()}) == 7, "names could be exchanged"
    assert report == stage.evaluate(models, {"image": x}), "the misalignment is seeded"


def wavelet_l1(x: torch.Tensor, y: torch.Tensor) -> float:
    """Three levels by PyWavelets: the mean |coefficient| over each level's three detail bands, summed."""
    _, *levels = pywt.wavedec2((x - y).double().numpy(), "haar", level=3, axes=(2, 3))
    return sum(float(np.abs(level).mean()) for level in levels)


@torch.no_grad()
def test_inversion_of_true_edits():
    """The edit rendered with the source's detail, against the edit's own picture and residual."""
    stage, x = make("inversion"), pictures()["image"]
    edited = pictures(seed=1)["image"]
    models = averaged(stage)
    report = stage.evaluate(models, {"image": x, "edited": edited})
    model = WaGI(*(models[part] for part in ("generator", "encoder", "aligner", "fusion")))
    source, wanted = model.invert(x), model.invert(edited)
    made = model.edit(x, wanted.ws)
    expected = {
        "l2_edited": mean_square(made.image.clamp(-1, 1), edited),
        "edit_ada_l1": float((made.aligned - wanted.residual).abs().mean()),
        "edit_nothing_l1": float((source.residual - wanted.residual).abs().mean()),
    }
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=1e-4), name
    assert {name for name in report if "edit" in name} == expected.keys()


@torch.no_grad()
def test_encoder():
    stage, x = make("encoder"), pictures()["image"]
    models = averaged(stage)
    stage.phases(25_000)  # three deltas of e4e's schedule: what the averaged encoder uses too
    report = stage.evaluate(models, {"image": x})
    assert models["encoder"].n_deltas == stage.models["encoder"].n_deltas == 3
    naive = models["generator"](models["encoder"](x) + models["generator"].latent_avg)
    loss, naive = mean_square(naive, x), naive.clamp(-1, 1)  # the recipe's only term without a network
    assert report == {
        "loss": pytest.approx(loss, rel=1e-4),
        "l2": pytest.approx(mean_square(naive, x), rel=1e-4),
        "wave": pytest.approx(numpy_wavelet_loss(naive, x), rel=1e-4),
    }


@torch.no_grad()
def test_generator():
    """From noise: wavelet energy of samples over that of the data. Distilled: both ways to an image."""
    batch = {**pictures(), "params": torch.randn(4, 5, generator=torch.Generator().manual_seed(0))}
    torch.manual_seed(1)
    stage = make_stage(*settings("ffhq1024", "generator", TINY))
    report = stage.evaluate(averaged(stage), batch)
    louder = {"image": 0.5 * batch["image"]}
    assert stage.evaluate(averaged(stage), louder)["detail_energy_ratio"] == pytest.approx(
        4 * report["detail_energy_ratio"], rel=1e-4
    )
    zero = {name: copy.deepcopy(m).requires_grad_(False) for name, m in averaged(stage).items()}
    for parameter in zero["generator"].parameters():
        parameter.zero_()
    assert stage.evaluate(zero, batch)["detail_energy_ratio"] == 0

    stage = make_stage(*settings("portraits-64", "generator", {**TINY, "param_dim": "5", "style_dim": "5"}))
    models = averaged(stage)
    report = stage.evaluate(models, batch)
    generator, x = models["generator"], batch["image"]
    mapped = generator(generator.broadcast(generator.map(batch["params"])))
    encoded = generator(models["encoder"](x) + generator.latent_avg)
    l1 = [float((images - x).abs().mean()) + 0.25 * wavelet_l1(images, x) for images in (mapped, encoded)]
    assert report["loss"] == pytest.approx(sum(l1) / 2, rel=1e-4)
    for name, images in (("map", mapped.clamp(-1, 1)), ("enc", encoded.clamp(-1, 1))):
        assert report[f"l2_{name}"] == pytest.approx(mean_square(images, x), rel=1e-4)
        assert report[f"wave_{name}"] == pytest.approx(numpy_wavelet_loss(images, x), rel=1e-4)
