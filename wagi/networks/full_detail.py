"""Detail above the residual's resolution: the input's own Haar bands in place of the generator's.

Not in the papers, whose residual ends at R = 256, and with it what of an input can come back. Pictures are
blended band by band, each under weights of its own resolution: blended pixels would leak what is below R into
the bands, and show its blocks. There is nothing to learn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wagi.haar import decompose, inverse_haar
from wagi.networks.flow_alignment import Alignment, warp


def split(images: Tensor, resolution: int) -> tuple[Tensor, list[Tensor]]:
    """Images [N, 3, S, S] -> the LL band [N, 3, R, R] of S / R, and LH, HL, HH above it [N, 9, r, r], finest
    first, r = S/2 to R."""
    levels = (int(images.shape[-1]) // resolution).bit_length() - 1
    coefficients = decompose(images, levels)
    low = coefficients[-1][:, :3] if coefficients else images
    return low, [bands[:, 3:] for bands in coefficients]


def join(low: Tensor, bands: list[Tensor]) -> Tensor:
    """The inverse of `split`."""
    for high in reversed(bands):
        low = inverse_haar(torch.cat([low, high], dim=1))
    return low


def shares(alignment: Alignment) -> Tensor:
    """The sources of an edit's detail [N, 3, R, R]: where it was, moved by the flow, the generator; sum to 1.

    The residual's weight counts as moved: above R a naive image has next to nothing of its own.
    """
    moved, hidden = alignment.weights[:, :2].sum(1, keepdim=True), alignment.weights[:, 2:]
    return torch.cat([1 - alignment.gate, alignment.gate * moved, alignment.gate * hidden], dim=1)


def keep_detail(drawn: Tensor, images: Tensor, resolution: int) -> Tensor:
    """An inversion `drawn` with all detail above R of the input `images`; all [N, 3, S, S]."""
    return join(split(drawn, resolution)[0], split(images, resolution)[1])


def move_detail(drawn: Tensor, images: Tensor, flow: Tensor, weights: Tensor) -> Tensor:
    """An edit `drawn` [N, 3, S, S] with the detail above R of the input `images`, as far as it is still seen.

    flow [N, 2, R, R] in pixels of R, from the edit back to the input; weights [N, 3, R, R], see `shares`.
    """
    resolution = int(flow.shape[-1])
    factor = int(images.shape[-1]) // resolution
    moved = warp(images, factor * _enlarged(flow, factor))
    low, own = split(drawn, resolution)
    bands = []
    for three in zip(split(images, resolution)[1], split(moved, resolution)[1], own, strict=True):
        there = _enlarged(weights, int(three[0].shape[-1]) // resolution)
        bands.append(sum(there[:, k : k + 1] * band for k, band in enumerate(three)))
    return join(low, bands)  # type: ignore[arg-type]


def _enlarged(x: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
