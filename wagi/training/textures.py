"""Pictures unlike any portrait, for a fusion that is not to know what a picture shows."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _noise(n: int, size: int, rng: torch.Generator) -> Tensor:
    """Colour noise whose octaves have random shares: from clouds to grain."""
    total = torch.zeros(n, 3, size, size)
    for octave in range(2, int(math.log2(size)) + 1):
        small = torch.randn(n, 3, 1 << octave, 1 << octave, generator=rng)
        share = torch.rand(n, 1, 1, 1, generator=rng) ** 2
        total += share * F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    return total * 0.5


def _waves(n: int, size: int, rng: torch.Generator) -> Tensor:
    """Stripes of any direction, width and sharpness, in two colours."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    angle, phase, sharp = (torch.rand(n, 1, 1, generator=rng) for _ in range(3))
    frequency = 2 ** (torch.rand(n, 1, 1, generator=rng) * math.log2(size / 8)) * math.pi
    wave = torch.cos(angle * 2 * math.pi) * x + torch.sin(angle * 2 * math.pi) * y
    wave = torch.tanh(torch.sin(frequency * wave + 2 * math.pi * phase) * (1 + 8 * sharp))[:, None]
    first, second = (torch.rand(n, 3, 1, 1, generator=rng) * 2 - 1 for _ in range(2))
    return first + (second - first) * (wave + 1) / 2


def _crops(n: int, size: int, photographs: Tensor, rng: torch.Generator) -> Tensor:
    """Random squares of photographs [M, 3, H, H], mirrored one time in two."""
    whole = photographs.shape[-1]
    found = []
    for _ in range(n):
        k = torch.randint(0, len(photographs), (), generator=rng)
        mirrored = torch.rand((), generator=rng) < 0.5
        side = int(torch.randint(min(size, whole), whole + 1, (), generator=rng))
        top, left = (int(torch.randint(0, whole - side + 1, (), generator=rng)) for _ in range(2))
        crop = photographs[k, :, top : top + side, left : left + side]
        crop = F.interpolate(crop[None], size=(size, size), mode="bilinear", antialias=True)[0]
        found.append(crop.flip(-1) if mirrored else crop)
    return torch.stack(found)


def random_textures(
    n: int, size: int, rng: torch.Generator, photographs: Tensor | None = None
) -> Tensor:  # => n,3,size,size in [-1, 1]
    """Noise, stripes, both, and every second time a crop of a photograph [M, 3, H, H] if there are any."""
    share = torch.rand(n, 1, 1, 1, generator=rng)
    share = torch.where(torch.rand(n, 1, 1, 1, generator=rng) < 0.5, share.round(), share)
    drawn = share * _noise(n, size, rng) + (1 - share) * _waves(n, size, rng)
    if photographs is not None:
        crops = _crops(n, size, photographs, rng)
        drawn = torch.where(torch.rand(n, 1, 1, 1, generator=rng) < 0.5, crops, drawn)
    return drawn.clamp(-1, 1)
