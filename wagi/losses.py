"""Training losses: pure functions of tensors. Images are [N, C, H, W] in [-1, 1]; a loss is a float32 scalar.

Perceptual and identity losses need networks: `wagi.features`. Spectral ones: `wagi.spectra`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from wagi.haar import decompose

NORMS = {"l1": torch.abs, "l2": torch.square}
_POWERS = {"l1": 1, "l2": 2}


def _same_shape(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f"images differ in shape: {list(x.shape)} and {list(y.shape)}")


def _wide(x: Tensor) -> Tensor:
    """At least float32: half precision neither squares nor sums small errors well."""
    return x if x.dtype == torch.float64 else x.float()


def _difference(x: Tensor, y: Tensor) -> Tensor:
    _same_shape(x, y)
    return _wide(x) - _wide(y)


def _norm(name: str) -> Callable[[Tensor], Tensor]:
    if name not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {name!r}")
    return NORMS[name]


def l2_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over all elements."""
    return _difference(x, y).square().mean()


# Eqs. (5) and (6), before the sums; the transform is linear, so that of the error serves both images.
def wavelet_band_losses(x: Tensor, y: Tensor, k: int = 2, norm: str = "l2", scale: float = 1.0) -> Tensor:
    """[N, k+1, 4]: per image the mean |error| ("l1") or squared error ("l2") of each level's LL, LH, HL, HH.

    Level 0 is the finest. Filters are `scale` times the orthonormal ones, which 2 makes the +-1 of eq. (1).
    With 1, `bands[:, 0].sum(-1)` is 4 times the mean squared error (Theorem 1 with its exact constant).
    ValueError when a side is no multiple of 2^(k+1).
    """
    size = _norm(norm)
    levels = decompose(_difference(x, y), k + 1)
    means = [size(level).unflatten(1, (4, -1)).mean(dim=(2, 3, 4)) for level in levels]
    # Level i has passed i + 1 filters.
    return torch.stack([mean * scale ** (_POWERS[norm] * (i + 1)) for i, mean in enumerate(means)], dim=1)


# Eq. (6): sum_{i=0..K} sum_{f in LH, HL, HH} || (x * LL^i * f) - (y * LL^i * f) ||_2
def wavelet_loss(x: Tensor, y: Tensor, k: int = 2, norm: str = "l2", scale: float = 1.0) -> Tensor:
    """Sum of the mean errors of the detail bands over k+1 levels (k is the K of eq. 6; k=2: three levels).

    Eq. (6) has squared errors, appendix A.2.1 speaks of L1: hence `norm`; eq. (1) prints filters of +-1:
    hence `scale` (see above). ValueError when a side is no multiple of 2^(k+1).
    """
    return wavelet_band_losses(x, y, k, norm, scale)[..., 1:].sum(dim=(1, 2)).mean()


# L_ADA of eq. (2): L1 and L_wave between the aligned and the true residual; lambda_wave,ADA = 0.1, K = 2.
def alignment_loss(
    aligned: Tensor,
    target: Tensor,
    lambda_wave: float = 0.1,
    k: int = 2,
    norm: str = "l2",
    scale: float = 1.0,
) -> Tensor:
    """Mean |aligned - target| plus `lambda_wave` times their wavelet loss; [N, 3, R, R] residuals in [-2, 2].

    `target` is the residual before it was warped. `lambda_wave=0` is HFGI's loss.
    """
    pixels = _difference(aligned, target).abs().mean()
    return pixels + lambda_wave * wavelet_loss(aligned, target, k, norm, scale) if lambda_wave else pixels


# Non-saturating GAN losses (Goodfellow et al. 2014), as in StyleGAN2 and SWAGAN; e4e uses them on latents.
def generator_loss(fake_logits: Tensor) -> Tensor:
    """mean softplus(-D(fake)); logits of any shape."""
    return softplus(-_wide(fake_logits)).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """mean softplus(-D(real)) + mean softplus(D(fake))."""
    return softplus(-_wide(real_logits)).mean() + softplus(_wide(fake_logits)).mean()


# Mescheder et al. 2018; lazily, every `interval` steps (StyleGAN2, section 4.1).
def r1_penalty(real_logits: Tensor, real: Tensor, gamma: float = 10.0, interval: int = 16) -> Tensor:
    """interval * gamma/2 * mean_n ||d D(real_n) / d real_n||^2.

    `real` [N, ...], images or latents, needs `requires_grad_()` before the discriminator sees it. Add the
    result to the loss once in `interval` steps.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return interval * gamma / 2 * _wide(gradient).flatten(1).square().sum(1).mean()


# StyleGAN2, section 3.2: E (||J^T y||_2 - a)^2 with a running mean a; lazily, every `interval` steps.
def path_length_penalty(
    images: Tensor,
    ws: Tensor,
    mean_length: Tensor,
    weight: float = 2.0,
    interval: int = 4,
    decay: float = 0.01,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(interval * weight * mean_n (length_n - a)^2, a); a: `mean_length` moved by `decay` to the batch mean.

    images [N, C, H, W] = G(ws) with a graph to ws [N, n_latent, style_dim]; length_n is the root of the mean
    over latents of the squared gradient of <image_n, noise_n> / sqrt(HW). `noise` [N, C, H, W] is drawn when
    not given. Keep a (a detached scalar) for the next call; the first call gets zero.
    """
    noise = torch.randn_like(images) if noise is None else noise
    projection = (images * noise).sum() / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad(projection, ws, create_graph=True)
    lengths = _wide(gradient).square().sum(2).mean(1).sqrt()
    new_mean = mean_length + decay * (lengths.mean() - mean_length)
    return interval * weight * (lengths - new_mean).square().mean(), new_mean.detach()


# e4e (Tov et al. 2021), eq. (3): keeps the styles of the active stage close to the shared one.
def delta_loss(ws: Tensor, stage: int | None = None) -> Tensor:
    """sum_{i=1..stage} mean_n ||w_i - w_0||_2 of ws [N, n_latent, style_dim]; None: all, 0: zero.

    The reference weighs it 2e-4 and drops it once all styles are active.
    """
    last = ws.shape[1] - 1 if stage is None else min(stage, ws.shape[1] - 1)
    return _wide(ws[:, 1 : last + 1] - ws[:, :1]).norm(dim=2).sum(1).mean()
