"""An E0 for small models: a few million parameters, GroupNorm, the interface of `Encoder4Editing`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.networks.e4e import ProgressiveEncoder

# Channels by resolution, as a multiple of `width`; finer maps than these have half the width.
_RATIO = {4: 3.5, 8: 3.0, 16: 2.0, 32: 1.0}
_FINEST_RATIO = 0.5
_POOLED = 4
_REDUCED = 16


def _round8(channels: float) -> int:
    """Whole vector registers: the nearest multiple of eight, at least eight."""
    return max(8, int(channels / 8 + 0.5) * 8)


def _level(style: int, finest: int) -> int:
    """Resolution at which the generator uses latent `style`, within the maps at hand."""
    return min(32, finest, 1 << (style + 5) // 2)


class ResidualBlock(nn.Module):
    """Pre-activation residual block with GroupNorm, which does not depend on the batch (decision 15)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = _norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu(self.norm1(x), 0.2))
        return x + self.conv2(F.leaky_relu(self.norm2(y), 0.2))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, 8), channels)


def _reducer(channels: int) -> nn.Sequential:
    """Normalise, activate, keep 16 channels: what a delta head sees of one level."""
    layers = (_norm(channels), nn.LeakyReLU(0.2), nn.Conv2d(channels, _REDUCED, 1), nn.LeakyReLU(0.2))
    return nn.Sequential(*layers)


class SmallEncoder(ProgressiveEncoder):
    """A residual trunk down to 4x4; w0 from the top, each delta from the level of its latent and the top.

    Args:
        n_styles: latents of the generator (`generator.n_latent`).
        style_dim: their width.
        input_size: power of two, at least 32; larger images are averaged down to it.
        width: channels at 32x32.
        steps: of ReStyle, see `ProgressiveEncoder`.
    Call: images [N, 3 or 6, S, S] in [-1, 1], S a multiple of input_size -> offsets [N, n_styles, style_dim].
    Raises ValueError for other sizes. The delta layers start at zero, so training starts in W;
    ReStyle's first layer too, so its first step starts at the mean latent.
    """

    def __init__(
        self, n_styles: int, style_dim: int, input_size: int = 64, width: int = 48, steps: int = 0
    ) -> None:
        super().__init__(n_styles, style_dim, steps)
        if input_size < 32 or input_size & (input_size - 1):
            raise ValueError(f"input_size must be a power of two of at least 32, got {input_size}")
        self.input_size = input_size
        self._sizes = [1 << i for i in range(int(math.log2(input_size)) - 1, 1, -1)]
        channels = {r: _round8(width * _RATIO.get(r, _FINEST_RATIO)) for r in self._sizes}

        narrow = _round8(width / 3)
        self.stem = nn.Conv2d(self.in_channels, narrow, 3, padding=1)
        wide_in = [narrow, *(channels[r] for r in self._sizes[:-1])]
        self.downs = nn.ModuleList(
            nn.Conv2d(i, channels[r], 3, 2, 1) for i, r in zip(wide_in, self._sizes, strict=True)
        )
        self.blocks = nn.ModuleList(ResidualBlock(channels[r]) for r in self._sizes)

        top = channels[_POOLED]
        self.top_norm = _norm(top)
        self.first = nn.Linear(top * _POOLED * _POOLED, style_dim)
        # Level that each style 1, 2, ... reads: the resolution at which the generator uses that latent.
        self._levels = [_level(k, max(self._sizes)) for k in range(1, n_styles)]
        coded = sorted({_POOLED, *self._levels}) if self._levels else []
        self.reducers = nn.ModuleDict({str(r): _reducer(channels[r]) for r in coded})
        self.deltas = nn.ModuleList(
            nn.Linear(2 * _REDUCED * _POOLED * _POOLED, style_dim) for _ in range(n_styles - 1)
        )
        start = (self.deltas, self.first) if steps else (self.deltas,)
        for parameter in (value for layer in start for value in layer.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(self._shrink(images))
        maps: dict[int, Tensor] = {}
        for size, down, block in zip(self._sizes, self.downs, self.blocks, strict=True):
            x = block(down(F.leaky_relu(x, 0.2)))
            maps[size] = x
        first = self.first(F.leaky_relu(self.top_norm(x), 0.2).flatten(1))
        levels = self._levels[: self.n_deltas]
        codes = {r: self._code(r, maps[r]) for r in sorted({_POOLED, *levels})} if levels else {}
        active = zip(levels, list(self.deltas)[: len(levels)], strict=True)
        deltas = [delta(torch.cat((codes[r], codes[_POOLED]), dim=1)) for r, delta in active]
        return self.compose(first, deltas)

    def _shrink(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height != width or height % self.input_size:
            size = f"{height}x{width}"
            raise ValueError(f"the encoder needs squares of a multiple of {self.input_size} px, got {size}")
        factor = height // self.input_size
        return images if factor == 1 else F.avg_pool2d(images, factor)

    def _code(self, size: int, features: Tensor) -> Tensor:
        reduced = self.reducers[str(size)](features)
        return F.avg_pool2d(reduced, size // _POOLED).flatten(1)
