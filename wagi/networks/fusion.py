"""The consultation encoder and the gates with which it changes the generator.

Feature fusion is HFGI's; wavelet fusion is WaGI's. Both are keyed by resolution, so that the paper's
configurations A to D and small models are settings of one module.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from wagi.networks.irse import stem, units
from wagi.networks.layers import EqualConv2d

Gate = tuple[Tensor, Tensor]

# The four bands of three colours that one tWavelets layer writes.
WAVELET_CHANNELS = 12
_WAVELET_HIDDEN = 48


class Gates(NamedTuple):
    """(g, h) by resolution, for the features after a block's first StyledConv and its tWavelets output.

    post_skip: wavelet gates act on that output with the skip path added, not before (decision 4).
    """

    features: Mapping[int, Gate] = MappingProxyType({})
    wavelets: Mapping[int, Gate] = MappingProxyType({})
    post_skip: bool = False


# WaGI eq. (8) and (9) with g read as a change from one (decision 3): zero gates leave the generator as it is.
def gate(x: Tensor, pair: Gate | None) -> Tensor:
    """`(1 + g) * x + h` for pair (g, h), all of the shape of x; None leaves x alone."""
    if pair is None:
        return x
    g, h = pair
    return (1 + g) * x + h


class ScaledLeakyReLU(nn.Module):
    """sqrt(2) * leaky_relu(x, 0.2): keeps the variance, has no bias of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _head(in_channels: int, hidden: int, out_channels: int, start: float | None) -> nn.Sequential:
    """Two convolutions; start: the constant that they give before training, None: what is random."""
    last = EqualConv2d(hidden, out_channels, 3, padding=1)
    if start is not None:
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, start)
    return nn.Sequential(EqualConv2d(in_channels, hidden, 3, padding=1), ScaledLeakyReLU(), last)


class ConsultationEncoder(nn.Module):
    """Aligned residual -> gates, through a trunk of IR units with one pair of heads per fused level.

    Args:
        resolution: R, the size of the residual.
        feature_channels: resolution -> channels of the generator's features that are gated there.
        wavelet_levels: resolutions whose 12 wavelet coefficients are gated.
        widths: channels of the trunk at R, R/2, R/4, ...; layers below the last fused level are not built.
        hidden: upper bound of the width inside the heads; None is the published one (features: their own
            number of channels; wavelets: 48).
        zero_init: start with gates that are exactly the identity; False reproduces HFGI's start.
        plain: the scale heads give the factor itself, as eqs. (8) and (9) print it, not its change from one.
        post_skip: see Gates.
    Call: residual [N, 3, R, R] -> Gates, every g and h [N, C, r, r].
    Raises ValueError when a level is not R / 2^i with i < len(widths), or when there is no level at all.

    Trunk layer k works at R / 2^(k-1); its heads are condition_scale{k}, condition_shift{k},
    wavelet_scale{k}, wavelet_shift{k}. With R = 256 and {64: 512} names and shapes are those of
    HFGI's `residue.`.
    """

    def __init__(
        self,
        resolution: int = 256,
        feature_channels: Mapping[int, int] | None = None,
        wavelet_levels: tuple[int, ...] = (),
        widths: tuple[int, ...] = (32, 48, 64, 64),
        hidden: int | None = None,
        zero_init: bool = True,
        plain: bool = False,
        post_skip: bool = False,
    ) -> None:
        super().__init__()
        self.resolution, self.plain, self.post_skip = resolution, plain, post_skip
        self.feature_channels = {64: 512} if feature_channels is None else dict(feature_channels)
        self.wavelet_levels = tuple(wavelet_levels)
        layer_at = {resolution >> i: i + 1 for i in range(len(widths)) if resolution % (1 << i) == 0}
        # All gated resolutions, lowest first: the generator below the first one does not depend on the gates.
        self.levels = tuple(sorted({*self.feature_channels, *self.wavelet_levels}))
        if not self.levels or not layer_at.keys() >= set(self.levels):
            raise ValueError(f"fusion levels {list(self.levels)} must be some of {sorted(layer_at)}")
        self._feature_layers = {layer_at[r]: r for r in self.feature_channels}
        self._wavelet_layers = {layer_at[r]: r for r in self.wavelet_levels}

        self.depth = layer_at[self.levels[0]]
        self.conv_layer1 = stem(3, widths[0])
        for k in range(2, self.depth + 1):
            wide = widths[k - 1]
            setattr(self, f"conv_layer{k}", units((widths[k - 2], wide, wide, wide), stride=2))

        def add(kind: str, k: int, channels: int, inner: int) -> None:
            inner = inner if hidden is None else min(inner, hidden)
            for part, identity in (("scale", float(plain)), ("shift", 0.0)):
                start = identity if zero_init else None
                setattr(self, f"{kind}_{part}{k}", _head(widths[k - 1], inner, channels, start))

        for k, level in self._feature_layers.items():
            add("condition", k, self.feature_channels[level], self.feature_channels[level])
        for k in self._wavelet_layers:
            add("wavelet", k, WAVELET_CHANNELS, _WAVELET_HIDDEN)

    def forward(self, residual: Tensor) -> Gates:
        if residual.shape[-2:] != (self.resolution, self.resolution):
            size = "x".join(str(int(n)) for n in residual.shape[-2:])
            raise ValueError(f"residual must be {self.resolution}x{self.resolution}, got {size}")
        features: dict[int, Gate] = {}
        wavelets: dict[int, Gate] = {}
        x = residual
        for k in range(1, self.depth + 1):
            x = self._layer("conv_layer", k)(x)
            if k in self._feature_layers:
                features[self._feature_layers[k]] = self._pair("condition", k, x)
            if k in self._wavelet_layers:
                wavelets[self._wavelet_layers[k]] = self._pair("wavelet", k, x)
        return Gates(features, wavelets, self.post_skip)

    def _layer(self, name: str, k: int) -> nn.Module:
        return getattr(self, f"{name}{k}")

    def _pair(self, kind: str, k: int, x: Tensor) -> Gate:
        g = self._layer(f"{kind}_scale", k)(x)
        return g - 1 if self.plain else g, self._layer(f"{kind}_shift", k)(x)
