"""Registered metrics against scikit-image, scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from wagi.metrics import METRICS, applicable


def pictures(n, size, seed=0):
    """Smooth colour pictures and noisy copies, [-1, 1]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(rng.uniform(2, 20) * rows + rng.uniform(2, 20) * columns) for _ in range(3 * n)]
    x = np.stack(waves).reshape(n, 3, size, size)
    strength = np.linspace(0.05, 0.3, n).reshape(n, 1, 1, 1)
    y = np.clip(x + strength * rng.standard_normal(x.shape), -1, 1)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


AUTHORITIES = {
    "l2": mean_squared_error,
    "psnr": lambda x, y: peak_signal_noise_ratio(x, y, data_range=2),
    "ssim": lambda x, y: structural_similarity(
        x, y, data_range=2, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    ),
}


@pytest.mark.parametrize("name", AUTHORITIES)
def test_equals_skimage_per_image(name):
    x, y = pictures(3, 64)
    expected = [AUTHORITIES[name](a, b) for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)]
    result = METRICS[name](x, y)
    assert result.shape == (3,) and result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4)


def scipy_ms_ssim(x, y):
    """Wang, Simoncelli and Bovik on one [H, W] pair: scipy's blur, skimage's SSIM for the last scale."""

    def blur(image):
        return gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]

    weights, result = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), 1.0
    for weight in weights[:-1]:
        covariance = blur(x * y) - blur(x) * blur(y)
        variances = blur(x * x) - blur(x) ** 2 + blur(y * y) - blur(y) ** 2
        result *= np.mean((2 * covariance + 0.06**2) / (variances + 0.06**2)) ** weight
        x, y = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2).mean((1, 3)) for v in (x, y))
    return result * AUTHORITIES["ssim"](x[None], y[None]) ** weights[-1]


def test_ms_ssim_equals_scipy():
    x, y = pictures(2, 192)
    pairs = zip(x.double().flatten(0, 1).numpy(), y.double().flatten(0, 1).numpy(), strict=True)
    expected = np.reshape([scipy_ms_ssim(a, b) for a, b in pairs], (2, 3)).mean(1)
    np.testing.assert_allclose(METRICS["ms_ssim"](x, y).numpy(), expected, rtol=1e-4)


def test_equal_images():
    x, _ = pictures(2, 176)
    perfect = {"l2": 0.0, "psnr": float("inf"), "ssim": 1.0, "ms_ssim": 1.0, "l_wave": 0.0}
    assert set(perfect) == set(METRICS)
    for name, value in perfect.items():
        assert METRICS[name](x, x).tolist() == pytest.approx([value, value], abs=1e-5)


def test_black_against_white():
    black, white = -torch.ones(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert METRICS["l2"](black, white).item() == 4
    assert METRICS["psnr"](black, white).item() == 0


def test_batch_and_order_do_not_matter():
    x, y = pictures(3, 176)
    for function in METRICS.values():
        whole = function(x, y)
        torch.testing.assert_close(whole[1:2], function(x[1:2], y[1:2]))
        torch.testing.assert_close(whole, function(y, x))


def test_small_images():
    assert set(applicable(64)) == {"l2", "psnr", "ssim", "l_wave"}
    assert set(applicable(256)) == set(METRICS)
    x = torch.zeros(1, 3, 128, 128)
    with pytest.raises(ValueError, match="176 pixels or more, got 128x128"):
        METRICS["ms_ssim"](x, x)
    with pytest.raises(ValueError, match="11 pixels or more, got 8x8"):
        METRICS["ssim"](x[..., :8, :8], x[..., :8, :8])
