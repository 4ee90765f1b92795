"""Metrics that need no network, by name, one value per image: (x, y) [N, 3, H, W] in [-1, 1] -> [N]."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from wagi.losses import wavelet_band_losses

Metric = Callable[[Tensor, Tensor], Tensor]

METRICS: dict[str, Metric] = {}
_MINIMUM_SIZE: dict[str, int] = {}

DATA_RANGE = 2.0  # of images in [-1, 1]
# Wang, Simoncelli and Bovik 2003, table of scale weights.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5


def metric(name: str, minimum_size: int = 1) -> Callable[[Metric], Metric]:
    """Register a metric; `minimum_size` is the shortest side for which it is defined."""

    def register(function: Metric) -> Metric:
        METRICS[name] = function
        _MINIMUM_SIZE[name] = minimum_size
        return function

    return register


def applicable(size: int) -> dict[str, Metric]:
    """The registered metrics that are defined for images whose shorter side is `size`."""
    return {name: function for name, function in METRICS.items() if size >= _MINIMUM_SIZE[name]}


@metric("l2")
def l2(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error."""
    return (x.float() - y.float()).square().mean(dim=(1, 2, 3))


@metric("psnr")
def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Decibels, 10 log10(4 / l2): the peak of [-1, 1] images is 2. Infinite for equal images."""
    return 10 * torch.log10(DATA_RANGE**2 / l2(x, y))


def _blur(x: Tensor) -> Tensor:
    """Gaussian window 11, sigma 1.5, per channel, no padding: [N, C, H, W] -> [N, C, H-10, W-10]."""
    position = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-0.5 * (position / SIGMA) ** 2)
    window = (window / window.sum()).expand(x.shape[1], 1, 1, WINDOW)
    return conv2d(conv2d(x, window, groups=x.shape[1]), window.transpose(2, 3), groups=x.shape[1])


# Wang et al. 2004, eqs. (6), (9), (13); K1 = 0.01, K2 = 0.03.
def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Per image and channel [N, C]: SSIM, and its contrast-structure factor alone."""
    if min(x.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of {WINDOW} pixels or more, got {x.shape[2]}x{x.shape[3]}")
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    mean_x, mean_y, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    structure = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * structure).mean(dim=(2, 3)), structure.mean(dim=(2, 3))


@metric("ssim", minimum_size=WINDOW)
def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity, Gaussian 11/1.5, data range 2, mean over RGB (decision 34)."""
    return _similarity(x.float(), y.float())[0].mean(1)


@metric("ms_ssim", minimum_size=WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1))
def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale SSIM, five scales by 2x2 averaging, negative factors as 0. ValueError below 176 pixels."""
    needed = _MINIMUM_SIZE["ms_ssim"]
    if min(x.shape[2:]) < needed:
        raise ValueError(f"MS-SSIM needs images of {needed} pixels or more, got {x.shape[2]}x{x.shape[3]}")
    x, y = x.float(), y.float()
    result = torch.ones(x.shape[:2], device=x.device)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS, 1):
        full, structure = _similarity(x, y)
        factor = full if scale == len(MS_SSIM_WEIGHTS) else structure
        result = result * factor.clamp_min(0) ** weight
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    return result.mean(1)


@metric("l_wave", minimum_size=8)
def l_wave(x: Tensor, y: Tensor) -> Tensor:
    """The wavelet loss of eq. (6) with K = 2, orthonormal, per image; sides divisible by 8."""
    return wavelet_band_losses(x.float(), y.float(), k=2)[..., 1:].sum(dim=(1, 2))
