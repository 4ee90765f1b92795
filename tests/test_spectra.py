"""Promise: spectra and the three spectral losses of appendix A.2.1 are their formulas, by numpy and torch."""

import numpy as np
import pytest
import torch
from tolerances import TOL

from wagi import spectra


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize(("size", "bins"), [(8, 5), (15, 10), (32, 22), (64, 45)])
def test_reduced_spectrum_equals_a_plain_loop(size, bins):
    """Up to H / sqrt(2), the corner, against numpy's FFT and a loop over frequencies."""
    image = images(2, 3, size, size).numpy()
    power = (np.abs(np.fft.fft2(image)) ** 2).mean(axis=1) / size**2
    entries: list[list[np.ndarray]] = [[] for _ in range(bins)]
    for v in range(size):
        for u in range(size):
            radius = round(np.hypot(min(v, size - v), min(u, size - u)))
            if radius < bins:
                entries[radius].append(power[:, v, u])
    expected = np.stack([np.mean(found, axis=0) for found in entries], axis=1)
    found = spectra.reduced_spectrum(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, expected, **TOL[np.float64])


def test_a_wave_shows_at_its_frequency():
    x = torch.arange(32) / 32
    wave = torch.sin(2 * torch.pi * 5 * x).expand(1, 3, 32, 32)
    spectrum = spectra.reduced_spectrum(wave)[0]
    assert int(spectrum.argmax()) == 5 and spectrum[5] > 1e6 * spectrum[6]


def test_spectral_loss_of_an_image_and_its_double_is_the_papers():
    """(log 4)^2 = 1.922 at every radius; the phase does not count."""
    x = images(2, 3, 64, 64)
    assert spectra.spectral_loss(x, 2 * x).item() == pytest.approx(np.log(4) ** 2, rel=1e-4)
    assert spectra.spectral_loss(x, x.roll((3, 5), (2, 3))).item() == pytest.approx(0, abs=1e-10)


def test_azimuthal_loss_is_a_cross_entropy():
    x, y = images(2, 3, 16, 16), images(2, 3, 16, 16, seed=1)
    spectrum = (spectra.reduced_spectrum(v).numpy() for v in (x, y))
    p, q = (s / (s.max(1, keepdims=True) + spectra.FLOOR) for s in spectrum)
    expected = -(q * np.log(p) + (1 - q) * np.log(1 - p)).mean()
    assert spectra.azimuthal_loss(x, y).item() == pytest.approx(expected, rel=1e-6)
    assert spectra.azimuthal_loss(y, y) < spectra.azimuthal_loss(x, y)


def test_focal_frequency_loss_weighs_by_the_error():
    x, y = images(2, 3, 16, 12), images(2, 3, 16, 12, seed=1)
    error = np.abs(np.fft.fft2((x - y).numpy(), norm="ortho"))
    weight = error / error.max((2, 3), keepdims=True)
    assert spectra.focal_frequency_loss(x, y).item() == pytest.approx((weight * error**2).mean(), rel=1e-9)
    assert spectra.focal_frequency_loss(x, x.roll(1, 3)) > 0.1, "phase counts"


@pytest.mark.parametrize("name", spectra.SPECTRAL_LOSSES)
def test_gradients_are_finite(name):
    """Those of a flat image too, which has no power; the focal weights are held fixed."""
    loss = spectra.SPECTRAL_LOSSES[name]
    flat = torch.zeros(1, 3, 8, 8, requires_grad=True)
    loss(flat, images(1, 3, 8, 8).float()).backward()
    assert torch.isfinite(flat.grad).all()
    if name != "jiang":
        x, y = images(1, 2, 6, 6), images(1, 2, 6, 6, seed=1)
        assert torch.autograd.gradcheck(lambda v: loss(v, y), x.requires_grad_())


def test_top_octave_error_in_decibels():
    """Ten times the amplitude is 20 dB, and what lies below half the Nyquist frequency does not count."""
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(spectra.top_octave_error(10 * noise, noise)) == pytest.approx(20, abs=1e-4)
    x = torch.arange(32) / 32
    low = torch.sin(2 * torch.pi * 3 * x).expand(1, 3, 32, 32)
    assert float(spectra.top_octave_error(noise + low, noise)) == pytest.approx(0, abs=1e-3)


def test_only_squares():
    with pytest.raises(ValueError, match="square"):
        spectra.reduced_spectrum(torch.zeros(1, 3, 8, 16))
