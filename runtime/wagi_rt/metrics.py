"""Closeness of two images in numpy, by the conventions of the field, on [N, C, H, W] float in [-1, 1] => [N].

wagi/metrics.py has the same ones in torch, and the learned ones.
"""

from __future__ import annotations

import numpy as np

from wagi_rt.haar import decompose

PEAK = 2.0  # the width of the range [-1, 1]
_SSIM_RADIUS, _SSIM_SIGMA = 5, 1.5
_MIN_SIDE = 2 * _SSIM_RADIUS + 1


def l2(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean squared error."""
    return np.square(x - y, dtype=np.float64).mean(axis=(1, 2, 3))


def psnr(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB with peak 2; infinite for equal images."""
    return decibels(l2(x, y))


def psnr_of_all(found: np.ndarray, wanted: np.ndarray, peak: float = PEAK) -> float:  # of any shape
    """The same of two whole tensors: infinite for equal ones, NaN if a value is no number."""
    return float(decibels(np.square(found.astype(np.float64) - wanted).mean(), peak))


def decibels(error: np.ndarray | np.floating, peak: float = PEAK) -> np.ndarray:
    """Mean squared errors, of any shape, as PSNR in dB; infinite for none."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)


def ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004): Gaussian 11x11 window, sigma 1.5, mean over channels.

    Only windows that lie inside the image count, as in the original; scikit-image's structural_similarity
    (gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2) gives the same number.
    Raises ValueError for images smaller than the window.
    """
    if min(x.shape[2:]) < _MIN_SIDE:
        raise ValueError(f"ssim: images must be at least {_MIN_SIDE} px, got {x.shape[3]}x{x.shape[2]}")
    x, y = x.astype(np.float64), y.astype(np.float64)
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x = _smooth(x * x) - mean_x**2
    var_y = _smooth(y * y) - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(axis=(1, 2, 3))


def l_wave(x: np.ndarray, y: np.ndarray, k: int = 2) -> np.ndarray:
    """The paper's eq. 6: mean squares of the high bands of K + 1 orthonormal Haar levels, summed."""
    channels = x.shape[1]
    levels = decompose((x - y).astype(np.float64), k + 1)
    # Each band has the same number of values, so the sum of three means is three times the mean of all.
    return sum(
        (3 * np.square(level[:, channels:]).mean(axis=(1, 2, 3)) for level in levels), np.zeros(len(x))
    )


METRICS = {"l2": l2, "psnr": psnr, "ssim": ssim, "l_wave": l_wave}


def measure(x: np.ndarray, y: np.ndarray) -> list[dict[str, float]]:
    """Every metric of every pair."""
    columns = {name: metric(x, y) for name, metric in METRICS.items()}
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(len(x))]


def _smooth(x: np.ndarray) -> np.ndarray:  # [N, C, H, W] => [N, C, H - 10, W - 10]
    """The Gaussian window as two one-dimensional sums, without any border."""
    offsets = np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (2, 3):
        length = x.shape[axis] - 2 * _SSIM_RADIUS
        parts = (x[(slice(None),) * axis + (slice(i, i + length),)] for i in range(len(weights)))
        x = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    return x
