"""Figures 8 and 9: single-image regression, and sub-bands left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from tolerances import NETWORK, TOL
from training_helpers import write_portraits

from wagi import checkpoint, config, evaluate
from wagi.experiments import heldout, regression, subbands
from wagi.losses import l2_loss
from wagi.networks.build import PARTS, build_part
from wagi.networks.fusion import Gates

# -------------------------------------------------------------------------------------------- regression


def test_regression(tmp_path, monkeypatch):
    """Four fits per image with table, JSON and figure; the second call fits nothing and says the same."""
    write_portraits(tmp_path / "data", 2)
    words = ["regression", "--preset", "smoke", "--data", str(tmp_path / "data"), "--steps", "25"]
    words += ["--out", str(tmp_path / "out")]
    assert evaluate.main(words) == 0
    found = json.loads((tmp_path / "out" / "regression.json").read_text())
    kinds = [(row["generator"], row["spectral loss"]) for row in found["rows"]]
    assert kinds == [("stylegan2", "no"), ("swagan", "no"), ("stylegan2", "yes"), ("swagan", "yes")]
    distances = [row["spectral distance"]["mean"] for row in found["rows"]]
    distance = dict(zip(kinds, distances, strict=True))
    for generator in ("stylegan2", "swagan"):  # the loss does what it is for
        assert distance[generator, "yes"] < distance[generator, "no"]
    assert (tmp_path / "out" / "regression.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "out" / "fits").glob("*.npz"))) == 8
    monkeypatch.delattr(regression, "fit")
    assert evaluate.main(words) == 0
    assert json.loads((tmp_path / "out" / "regression.json").read_text()) == found


def test_a_fit_approaches_its_image():
    target = heldout.eight_bit(torch.linspace(-0.5, 0.5, 32).expand(1, 3, 32, 32))
    errors = [
        float(l2_loss(regression.fit("smoke", "swagan", target, steps, 0.01, (l2_loss, 0.0), seed=0), target))
        for steps in (1, 60)
    ]
    assert errors[1] < 0.2 * errors[0]


# ---------------------------------------------------------------------------------------------- sub-bands


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    """A whole model with random weights, gates included, as a checkpoint."""
    torch.manual_seed(0)
    model, _ = config.settings("smoke", "inversion", configuration="D")
    parts = {part: build_part(model, part) for part in PARTS}
    with torch.no_grad():
        for name, parameter in parts["fusion"].named_parameters():
            if "scale" in name or "shift" in name:
                parameter.normal_(0, 0.3)
    path = tmp_path_factory.mktemp("model") / "checkpoint.pt"
    checkpoint.save(path, "inversion", model, {p: checkpoint.state_of(m) for p, m in parts.items()})
    return path


@pytest.mark.parametrize("band", range(4))
def test_a_band_of_the_image_left_out_is_pywavelets(band):
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    found = subbands.without_image_band(image, band)[0]
    for colour in range(3):
        low, details = pywt.dwt2(image[0, colour].numpy(), "haar")
        bands = [low, *details]
        bands[band] = np.zeros_like(low)
        expected = pywt.idwt2((bands[0], tuple(bands[1:])), "haar")
        np.testing.assert_allclose(found[colour].numpy(), expected, **TOL[np.float32])


@torch.no_grad()
def test_gates_without_all_bands_leave_features_only(model_file):
    """Each band's gate changes the picture; without all four the generator has no wavelet gates."""
    model = checkpoint.load_model(model_file)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    ws = model.encode(images)
    state, naive = model.reconstruct(ws)
    gates = model.fusion(model.residual(images, naive))

    def render(chosen: Gates) -> torch.Tensor:
        return model.generator.suffix(ws, state, model.fusion_start, gates=chosen)

    whole, none = render(gates), gates
    for band in range(4):
        assert (render(subbands.without_band(gates, band)) - whole).abs().max() > 1e-4, band
        none = subbands.without_band(none, band)
    torch.testing.assert_close(render(none), render(Gates(gates.features, {})), **NETWORK)


def test_subbands(model_file, tmp_path):
    """A row per band and place, whose band errors are those of PyWavelets on the 8-bit picture."""
    write_portraits(tmp_path / "data", 3)
    words = ["subbands", "--model", str(model_file), "--test", str(tmp_path / "data")]
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 0
    lines = json.loads((tmp_path / "out" / "subbands.json").read_text())["rows"]
    left_out = [(where, band) for where in ("gate", "image") for band in heldout.BANDS]
    assert [(x["left out of"], x["band"]) for x in lines] == [(None, "naive"), (None, "all bands"), *left_out]
    images = heldout.load_images(str(tmp_path / "data"), 32)
    with torch.no_grad():
        results = subbands.variants(checkpoint.load_model(model_file), images)
    for line in lines:
        result = results[line["left out of"] or "", line["band"]].numpy()
        pixels = np.round((np.clip(result, -1, 1) + 1) * 127.5) / 127.5 - 1
        low, details = pywt.dwt2(pixels - images.numpy(), "haar")
        for band, error in zip(heldout.BANDS, (low, *details), strict=True):
            assert line[band] == pytest.approx(np.square(error).mean(), rel=1e-3), (line["band"], band)
    assert (tmp_path / "out" / "subbands.png").read_bytes().startswith(b"\x89PNG")


def test_subbands_need_wavelet_fusion(tmp_path, capsys):
    model, _ = config.settings("smoke", "inversion", configuration="B")
    parts = {part: checkpoint.state_of(build_part(model, part)) for part in PARTS}
    checkpoint.save(tmp_path / "b.pt", "inversion", model, parts)
    assert evaluate.main(["subbands", "--model", str(tmp_path / "b.pt"), "--out", str(tmp_path)]) == 2
    assert "fuses no wavelets; give a model of configuration D" in capsys.readouterr().err
