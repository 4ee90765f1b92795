"""Lemma 1.1: of independent normal errors, log E[L1] is the bands' mean log E[L1,f], up to a constant."""

import numpy as np
import pytest
import torch
from scipy.stats import halfnorm

from wagi.losses import wavelet_band_losses


def sides(errors: np.ndarray) -> tuple[float, float]:
    """log E[L1], and the mean of the logarithms of the finest level's four bands, of images and zeros."""
    x = torch.from_numpy(errors)
    bands = wavelet_band_losses(x, torch.zeros_like(x), k=0, norm="l1")[:, 0].mean(0)
    return float(np.log(np.abs(errors).mean())), float(bands.log().mean())


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0])
def test_the_lemma_under_its_premise(sigma):
    """The constant does not depend on sigma: it is 0 with orthonormal filters."""
    errors = np.random.default_rng(1).normal(0, sigma, (4, 3, 256, 256))
    pixels, bands = sides(errors)
    assert pixels == pytest.approx(np.log(halfnorm.mean(scale=sigma)), abs=5e-3)
    assert bands - pixels == pytest.approx(0, abs=5e-3)


def test_a_mean_breaks_it():
    """mu far from 0 goes into LL alone, so the bands no longer count alike: its premise is needed."""
    errors = np.random.default_rng(2).normal(0.5, 0.1, (1, 3, 256, 256))
    pixels, bands = sides(errors)
    assert abs(bands - pixels) > 1


def test_errors_of_pictures_are_no_such_errors():
    """Errors that neighbours share, as an inversion's are, lie in LL: the bias that section 3.2 is about."""
    rng = np.random.default_rng(3)
    errors = rng.normal(0, 0.1, (1, 3, 32, 32)).repeat(8, 2).repeat(8, 3) + rng.normal(
        0, 0.01, (1, 3, 256, 256)
    )
    bands = wavelet_band_losses(torch.from_numpy(errors), torch.zeros(errors.shape), k=0, norm="l1")[0, 0]
    assert bands[0] > 10 * bands[1:].max()
