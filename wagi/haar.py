"""The orthonormal 2-D Haar transform on torch tensors: differentiable, any floating dtype, no parameters.

Block [[a, b], [c, d]], a at the top left:
    LL = (a+b+c+d)/2   LH = (a+b-c-d)/2   HL = (a-b+c-d)/2   HH = (a-b-c+d)/2
Equal to PyWavelets' `dwt2(x, "haar")` (cA, cH, cV, cD). Channels are band-major: LL, LH, HL, HH, each with
all colours, as in the public SWAGAN. The paper's eq. (1) prints +-1 filters, but its published numbers fit
the orthonormal ones. The numpy definition is `wagi_rt/haar.py`.

While an ONNX file is traced the two functions leave one node each, `wagi::HaarDWT` and `wagi::HaarIDWT`; the
export script adds their bodies, so the same file runs on engines with and without the plugin.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle

ONNX_DOMAIN = "wagi"
PLUGIN_ATTRIBUTES: dict[str, Any] = {"plugin_namespace": "wagi", "plugin_version": "1"}


def onnx_node(name: str, inputs: tuple[Tensor, ...], shape: Sequence[int]) -> Tensor:
    """One node of our domain in the ONNX file that is being traced, of the first input's type."""
    dtype = inputs[0].dtype
    return torch.onnx.ops.symbolic(
        f"{ONNX_DOMAIN}::{name}", inputs, attrs=PLUGIN_ATTRIBUTES, dtype=dtype, shape=shape, version=1
    )


# Eq. (1), orthonormal.
def haar(x: Tensor) -> Tensor:
    """One level: [N, C, H, W] -> [N, 4C, H/2, W/2], bands LL, LH, HL, HH. ValueError on odd H or W."""
    n, c, height, width = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"haar needs even height and width, got {height}x{width}")
    if torch.onnx.is_in_onnx_export():
        return onnx_node("HaarDWT", (x,), (n, 4 * c, height // 2, width // 2))
    # Views and unbind instead of strided slices: their gradient is a stack, not one zero-filled image per
    # slice. Halving first keeps half-precision sums in range.
    top, bottom = (0.5 * x).reshape(n, c, height // 2, 2, width).unbind(3)
    left_sum, right_sum = (top + bottom).unflatten(3, (width // 2, 2)).unbind(4)
    left_diff, right_diff = (top - bottom).unflatten(3, (width // 2, 2)).unbind(4)
    return torch.cat(
        [left_sum + right_sum, left_diff + right_diff, left_sum - right_sum, left_diff - right_diff], dim=1
    )


def inverse_haar(y: Tensor) -> Tensor:
    """Exact inverse: [N, 4C, H, W] -> [N, C, 2H, 2W]. ValueError when the channels are no multiple of 4."""
    n, c4, height, width = y.shape
    if c4 % 4:
        raise ValueError(f"inverse_haar needs four bands, a multiple of 4 channels, got {c4}")
    if torch.onnx.is_in_onnx_export():
        return onnx_node("HaarIDWT", (y,), (n, c4 // 4, 2 * height, 2 * width))
    ll, lh, hl, hh = (0.5 * y).chunk(4, dim=1)
    top_mean, top_diff = ll + lh, hl + hh
    bottom_mean, bottom_diff = ll - lh, hl - hh
    pixels = [top_mean + top_diff, top_mean - top_diff, bottom_mean + bottom_diff, bottom_mean - bottom_diff]
    return pixel_shuffle(torch.stack(pixels, dim=2).flatten(1, 2), 2)


def decompose(x: Tensor, levels: int) -> list[Tensor]:
    """Coefficients of every level, finest first: entry i is [N, 4C, H/2^(i+1), W/2^(i+1)].

    The next level is taken of LL, the first C channels. ValueError when H or W is no multiple of 2^levels.
    """
    height, width = x.shape[-2:]
    if height % 2**levels or width % 2**levels:
        raise ValueError(
            f"{levels} Haar levels need height and width divisible by {2**levels}, got {height}x{width}"
        )
    coefficients = []
    for _ in range(levels):
        y = haar(x)
        coefficients.append(y)
        x = y[:, : y.shape[1] // 4]
    return coefficients
