"""Figures 8 and 9: latents of trained generators for one image, and octaves of a picture left out."""

import json

import numpy as np
import pytest
import pywt
import torch
from tolerances import TOL
from training_helpers import save_tiny_model, write_portraits

from wagi import checkpoint, evaluate
from wagi.evaluation.optimisation import optimise_latents
from wagi.experiments import figure8, figure9
from wagi.losses import l2_loss
from wagi.spectra import spectral_loss

# -------------------------------------------------------------------------------------- the projector


class Affine:
    """A generator whose images are affine in w: the best w is that of least squares."""

    style_dim = 3

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        self.basis = torch.randn(3, 3 * 4 * 4, generator=rng)
        self.latent_avg = torch.tensor([0.3, -0.2, 0.5])

    def map(self, z):
        return self.latent_avg + 0.5 * z

    def broadcast(self, w):
        return w

    def __call__(self, w):
        return (w @ self.basis).unflatten(1, (3, 4, 4))


def test_the_projector_finds_the_nearest_image():
    generator = Affine()
    targets = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    found = optimise_latents(generator, targets, l2_loss, steps=400, lr=0.1)
    expected = np.linalg.lstsq(generator.basis.T.numpy(), targets.flatten(1).T.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)
    alone = optimise_latents(generator, targets[:1], l2_loss, steps=400, lr=0.1)
    np.testing.assert_allclose(alone.numpy(), expected[:1], atol=2e-3)


def test_the_projectors_ramps():
    """StyleGAN2's schedule: 5 % up, the last quarter down by a cosine; noise gone after three quarters."""
    from wagi.editing.latent import ramp
    from wagi.evaluation import optimisation

    rates = [ramp(t) for t in (0, 0.025, 0.05, 0.5, 0.75, 0.875, 1)]
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])
    assert [optimisation._noise(t) for t in (0, 0.375, 0.75, 1)] == pytest.approx([0.05, 0.0125, 0, 0])


# ------------------------------------------------------------------------------------------- figure 8


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """Two checkpoints as options: a StyleGAN2 and a SWAGAN."""
    root = tmp_path_factory.mktemp("generators")
    save_tiny_model(root / "a.pt", generator="stylegan2", wavelet_levels=())
    save_tiny_model(root / "b.pt")
    write_portraits(root / "data", 2)
    return ["figure8", "--stylegan2", str(root / "a.pt"), "--swagan", str(root / "b.pt")] + [
        "--test", str(root / "data"), "--steps", "12"
    ]  # fmt: skip


def test_figure_8(generators, tmp_path, monkeypatch):
    """Four fits per image, the generators unchanged; the second call fits nothing and says the same."""
    words = [*generators, "--out", str(tmp_path)]
    before = checkpoint.weights_hash(checkpoint.load_generator(generators[4]))
    assert evaluate.main(words) == 0
    found = json.loads((tmp_path / "figure8.json").read_text())
    kinds = [(row["generator"], row["spectral loss"]) for row in found["rows"]]
    assert kinds == [("stylegan2", "no"), ("stylegan2", "yes"), ("swagan", "no"), ("swagan", "yes")]
    assert found["notes"][0].startswith("With the spectral term: StyleGAN2: L2 ")
    assert (tmp_path / "figure8.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "fits").glob("*.npz"))) == 8
    assert checkpoint.weights_hash(checkpoint.load_generator(generators[4])) == before
    monkeypatch.setattr(figure8, "optimise_latents", None)
    assert evaluate.main(words) == 0
    assert json.loads((tmp_path / "figure8.json").read_text()) == found


def test_the_objective_is_a_2_1s():
    """L2 + 0.1 x the spectral loss: of an image against its double 0.1 (log 4)^2 over that of L2."""
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    plain, added = (figure8.objective("schwarz", weight)(x, 2 * x) for weight in (0.0, 0.1))
    assert float(plain) == pytest.approx(float(x.square().mean()), rel=1e-5)
    assert float(added - plain) == pytest.approx(0.1 * np.log(4) ** 2, rel=1e-3)
    assert float(added - plain) == pytest.approx(0.1 * float(spectral_loss(x, 2 * x)), rel=1e-3)


def test_a_generator_is_given_or_trained(tmp_path, capsys):
    assert evaluate.main(["figure8", "--out", str(tmp_path)]) == 2
    assert "--stylegan2: give a checkpoint, or --data and --runs to train one" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- figure 9


@pytest.mark.parametrize(("levels", "zeroed"), [(range(1), {0}), (range(1, 2), {1}), (range(3), {0, 1, 2})])
def test_octaves_left_out_are_pywavelets(levels, zeroed):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = figure9.without_levels(image, levels)[0]
    for colour in range(3):
        low, *details = pywt.wavedec2(image[0, colour].numpy(), "haar", level=4)
        for level in zeroed:  # pywt lists the coarsest level first
            details[-1 - level] = tuple(np.zeros_like(band) for band in details[-1 - level])
        np.testing.assert_allclose(
            found[colour].numpy(), pywt.waverec2([low, *details], "haar"), **TOL[np.float32]
        )


def test_figure_9(tmp_path):
    """The error of a configuration is the energy of the bands that it leaves out (Parseval)."""
    write_portraits(tmp_path / "data", 2)
    words = ["figure9", "--data", str(tmp_path / "data"), "--size", "32", "--out", str(tmp_path / "out")]
    assert evaluate.main(words) == 0
    rows = json.loads((tmp_path / "out" / "figure9.json").read_text())["rows"]
    assert [row["configuration"] for row in rows] == list("ABCD") * 2
    one, down = ([row["l2"]["values"][1] for row in rows[k : k + 4]] for k in (0, 4))
    np.testing.assert_allclose(np.cumsum(one), down, rtol=1e-4)
    pixels = np.load(tmp_path / "data" / "images.npy")[1] / 127.5 - 1
    _, *details = pywt.wavedec2(pixels, "haar", level=2, axes=(0, 1))
    assert one[1] == pytest.approx(sum(np.square(band).sum() for band in details[0]) / pixels.size, rel=1e-4)
    assert (tmp_path / "out" / "figure9.png").read_bytes().startswith(b"\x89PNG")


def test_a_size_that_has_no_fourth_octave(tmp_path, capsys):
    assert evaluate.main(["figure9", "--size", "40", "--out", str(tmp_path)]) == 2
    assert "--size 40: must be a multiple of 16" in capsys.readouterr().err
