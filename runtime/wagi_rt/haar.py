"""THE definition of the Haar transform of WaGI, in numpy; every other version is tested against it.

A 2x2 block [[a, b], [c, d]] becomes LL=(a+b+c+d)/2, LH=(a+b-c-d)/2, HL=(a-b+c-d)/2, HH=(a-b-c+d)/2.
Orthonormal (energy is kept), equal to PyWavelets' dwt2(x, "haar") as (cA, cH, cV, cD).
"""

from __future__ import annotations

import numpy as np


def haar(x: np.ndarray) -> np.ndarray:  # [N, C, H, W] => [N, 4C, H/2, W/2]
    """One analysis level (the paper's eq. 1 and 2, normalised); bands LL, LH, HL, HH, C channels each.

    Raises ValueError for an odd height or width.
    """
    if x.ndim != 4:
        raise ValueError(f"haar: expected [N, C, H, W], got shape {x.shape}")
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(f"haar: height and width must be even, got {x.shape[2]}x{x.shape[3]}")
    a, b = x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2]
    c, d = x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2]
    top, bottom, left, right = a + b, c + d, a - b, c - d
    bands = [top + bottom, top - bottom, left + right, left - right]
    return np.concatenate(bands, axis=1) * x.dtype.type(0.5)


def inverse_haar(y: np.ndarray) -> np.ndarray:  # [N, 4C, H, W] => [N, C, 2H, 2W]
    """The inverse, which is the transpose. Raises ValueError unless the channels divide by 4."""
    if y.ndim != 4:
        raise ValueError(f"inverse_haar: expected [N, 4C, H, W], got shape {y.shape}")
    if y.shape[1] % 4:
        raise ValueError(f"inverse_haar: channels must be a multiple of 4, got {y.shape[1]}")
    ll, lh, hl, hh = np.split(y * y.dtype.type(0.5), 4, axis=1)
    n, channels, height, width = ll.shape
    x = np.empty((n, channels, 2 * height, 2 * width), dtype=y.dtype)
    x[:, :, 0::2, 0::2] = ll + lh + hl + hh
    x[:, :, 0::2, 1::2] = ll + lh - hl - hh
    x[:, :, 1::2, 0::2] = ll - lh + hl - hh
    x[:, :, 1::2, 1::2] = ll - lh - hl + hh
    return x


def upsample(x: np.ndarray) -> np.ndarray:  # [N, C, H, W] => [N, C, 2H, 2W]
    """StyleGAN2's upsampling by two: zero insertion and the FIR 1 3 3 1, gain 4, zeros outside the image."""
    near, far = x.dtype.type(0.75), x.dtype.type(0.25)
    for axis in (2, 3):
        x = np.moveaxis(x, axis, -1)
        padded = np.pad(x, [*[(0, 0)] * 3, (1, 1)])
        pairs = [near * x + far * padded[..., :-2], near * x + far * padded[..., 2:]]
        x = np.moveaxis(np.stack(pairs, axis=-1).reshape(*x.shape[:-1], -1), -1, axis)
    return x


def skip_upsample(skip: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """SWAGAN's skip path: bands `skip` [N, 4C, H, W] as bands of the image of twice the size, added to
    `coefficients` [N, 4C, 2H, 2W]."""
    return coefficients + haar(upsample(inverse_haar(skip)))


def skip_kernel(channels: int = 12) -> np.ndarray:  # => channels, channels, 4, 4
    """`skip_upsample` as a transposed convolution (stride 2, padding 1): its answers to one impulse each."""
    impulses = np.zeros((channels, channels, 5, 5), np.float32)
    impulses[:, :, 2, 2] = np.eye(channels)
    answers = skip_upsample(impulses, np.zeros((channels, channels, 10, 10), np.float32))
    return np.ascontiguousarray(answers[:, :, 3:7, 3:7])


def decompose(x: np.ndarray, levels: int) -> list[np.ndarray]:
    """All four bands of every level, finest first: item i is [N, 4C, H/2^(i+1), W/2^(i+1)].

    Level i + 1 transforms the LL band of level i. Raises ValueError when a level meets an odd size.
    """
    coefficients = []
    for _ in range(levels):
        coefficients.append(haar(x))
        x = coefficients[-1][:, : x.shape[1]]
    return coefficients
