"""SWAGAN: a style-based generator and discriminator in the wavelet domain.

Layers, indices and signs follow the public PyTorch implementation, so that its checkpoints load strictly.
For block resolution 2^r (r >= 3): the up-convolution uses latent 2r-5, the second convolution 2r-4, and
tWavelets 2r-3, which the next block's up-convolution shares.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wagi.networks.fusion import Gates, gate
from wagi.networks.layers import (
    ConvLayer,
    Downsample,
    EqualLinear,
    HaarTransform,
    InverseHaarTransform,
    ModulatedConv2d,
    Noise,
    PixelNorm,
    StyledConv,
    Upsample,
    channels,
)
from wagi.networks.style_space import StyleSpace

NO_GATES = Gates({}, {})


def check_size(size: int) -> int:
    """log2(size) of a supported image size; ValueError otherwise."""
    if size not in (32, 64, 128, 256, 512, 1024):
        raise ValueError(f"size must be a power of two from 32 to 1024, not {size}")
    return size.bit_length() - 1


class State(NamedTuple):
    """The state that a synthesis pass hands from one block to the next."""

    x: Tensor  # [N, C, H, W] features
    skip: Tensor  # [N, 12, H/2, W/2] coefficients (pixel domain: [N, 3, H/2, W/2]) of the previous block


class ConstantInput(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, n: int) -> Tensor:
        return self.input.expand(n, -1, -1, -1)


class ToWavelets(nn.Module):
    """tWavelets: features to 12 Haar coefficients (`forward`), and the resampling of the skip path.

    Published under the name ToRGB. The kernel is 1x1 in PyTorch and 3x3 in the official TensorFlow weights.
    """

    def __init__(self, in_ch: int, style_dim: int, kernel: int = 1, upsample: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 12, 1, 1))
        if upsample:
            self.iwt = InverseHaarTransform()
            self.upsample = Upsample()
            self.dwt = HaarTransform()
        self.conv = ModulatedConv2d(in_ch, 12, kernel, style_dim, demodulate=False)

    def forward(self, x: Tensor, w: Tensor, offset: Tensor | None = None) -> Tensor:  # => N,12,H,W
        return self.conv(x, w, offset) + self.bias

    def resample(self, skip: Tensor) -> Tensor:  # N,12,H/2,W/2 => N,12,H,W
        """The previous block's coefficients at this block's resolution, by way of the image they describe."""
        return self.dwt(self.upsample(self.iwt(skip)))


class Generator(nn.Module):
    """SWAGAN generator: `ws` [N, n_latent, style_dim] => images [N, 3, size, size], not clamped.

    Behind the n_latent rows, `ws` may hold what is added to the styles (`space`, a StyleSpace).

    Args:
        size: image size, a power of two from 32 to 1024.
        channel_multiplier, max_channels: widths, see `wagi.networks.layers.channels`.
        to_rgb_kernel: tWavelets kernel, 1 (PyTorch checkpoints) or 3 (official TensorFlow weights).

    `latent_avg` [style_dim] is the mean of W. It is a buffer that moves with the module but stays out of the
    state dict, whose names are the published ones; checkpoints carry it beside the weights.
    """

    feature_scale = 2  # image size / resolution of the last block
    latent_avg: Tensor

    def __init__(
        self,
        size: int,
        style_dim: int = 512,
        n_mlp: int = 8,
        channel_multiplier: float = 2,
        max_channels: int = 512,
        to_rgb_kernel: int = 1,
    ) -> None:
        super().__init__()
        check_size(size)
        self.size, self.style_dim = size, style_dim
        self.width = (channel_multiplier, max_channels)
        top = size // self.feature_scale
        self.resolutions = [2**r for r in range(3, top.bit_length())]
        self.n_latent = 2 * (len(self.resolutions) + 1)

        mapping = [EqualLinear(style_dim, style_dim, lr_mul=0.01, activation=True) for _ in range(n_mlp)]
        self.style = nn.Sequential(PixelNorm(), *mapping)
        self.input = ConstantInput(self.channels(4))
        self.conv1 = StyledConv(self.channels(4), self.channels(4), style_dim)
        self.to_rgb1 = self._to_rgb(self.channels(4), to_rgb_kernel, upsample=False)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        self.noises = nn.Module()
        self.noises.register_buffer("noise_0", torch.randn(1, 1, 4, 4))
        for res in self.resolutions:
            c_in, c = self.channels(res // 2), self.channels(res)
            self.convs.append(StyledConv(c_in, c, style_dim, upsample=True))
            self.convs.append(StyledConv(c, c, style_dim))
            self.to_rgbs.append(self._to_rgb(c, to_rgb_kernel))
            for j in (len(self.convs) - 1, len(self.convs)):
                self.noises.register_buffer(f"noise_{j}", torch.randn(1, 1, res, res))
        self._final()
        self.register_buffer("latent_avg", torch.zeros(style_dim), persistent=False)
        widths = [(latent, conv.weight.shape[2]) for latent, conv in self.modulated()]
        self.space = StyleSpace(widths, self.n_latent, style_dim)

    def modulated(self) -> list[tuple[int, ModulatedConv2d]]:
        """(number of the latent that it reads, convolution) of every modulated layer, in running order."""
        layers: list[tuple[int, Any]] = [(0, self.conv1), (1, self.to_rgb1)]
        for i, to_rgb in enumerate(self.to_rgbs):  # latents as above
            layers += [(2 * i + 1 + j, self.convs[2 * i + j]) for j in (0, 1)] + [(2 * i + 3, to_rgb)]
        return [(latent, layer.conv) for latent, layer in layers]

    def _to_rgb(self, in_ch: int, kernel: int, upsample: bool = True) -> nn.Module:
        return ToWavelets(in_ch, self.style_dim, kernel, upsample)

    def _final(self) -> None:
        self.iwt = InverseHaarTransform()

    def _image(self, skip: Tensor) -> Tensor:
        return self.iwt(skip)

    def channels(self, resolution: int) -> int:
        """Feature channels of the block at `resolution`."""
        return channels(resolution, *self.width)

    def map(self, z: Tensor, truncation: float = 1.0) -> Tensor:  # N,style_dim => N,style_dim
        """Mapping network, with the truncation trick towards `latent_avg`."""
        w = self.style(z)
        return w if truncation == 1 else self.latent_avg + truncation * (w - self.latent_avg)

    def broadcast(self, w: Tensor, w2: Tensor | None = None, crossover: int | None = None) -> Tensor:
        """One w [N, style_dim] for all layers => ws; with `w2`, layers from `crossover` on use w2."""
        ws = w[:, None].expand(-1, self.n_latent, -1)
        if w2 is None:
            return ws
        assert crossover is not None and 0 < crossover < self.n_latent
        ws2 = w2[:, None].expand(-1, self.n_latent, -1)
        return torch.cat([ws[:, :crossover], ws2[:, crossover:]], dim=1)

    @torch.no_grad()
    def silence(self, names: Collection[str]) -> None:
        """Zero the output layers among `names`: new blocks then leave the enlarged smaller image as it is."""
        for name, value in self.to_rgbs.named_parameters(prefix="to_rgbs"):
            if name in names and "modulation" not in name:
                value.zero_()

    @torch.no_grad()
    def mean_latent(self, samples: int = 10_000, seed: int = 0) -> Tensor:  # => style_dim
        """Mean of W over seeded samples of z: what `latent_avg` is when a checkpoint has none."""
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.style_dim, generator=rng).to(self.latent_avg)
        return torch.cat([self.style(part) for part in z.split(1000)]).mean(0)

    def _noise(self, index: int, x: Tensor, noise: Noise, scale: int) -> Tensor:
        if noise == "stored":
            return getattr(self.noises, f"noise_{index}")
        n, _, h, w = x.shape
        return torch.randn(n, 1, h * scale, w * scale, device=x.device)

    def _conv(self, index: int, x: Tensor, ws: Tensor, noise: Noise) -> Tensor:
        """`convs[index]`, which uses latent and noise number index + 1; even ones double the resolution."""
        noise_map = self._noise(index + 1, x, noise, scale=2 - index % 2)
        w, offset = self.space.read(ws, 3 * (index // 2) + 2 + index % 2)
        return self.convs[index](x, w, noise_map, offset)

    def _finish_block(self, state: State, ws: Tensor, res: int, gates: Gates, noise: Noise) -> State:
        """The rest of a block after its up-convolution: gate, second convolution, tWavelets, gate, skip."""
        i = self.resolutions.index(res)
        x = gate(state.x, gates.features.get(res))
        x = self._conv(2 * i + 1, x, ws, noise)
        to_rgb: ToWavelets = self.to_rgbs[i]  # type: ignore[assignment]
        coefficients, pair = to_rgb(x, *self.space.read(ws, 3 * i + 4)), gates.wavelets.get(res)
        skip = to_rgb.resample(state.skip)
        if gates.post_skip:
            return State(x, gate(coefficients + skip, pair))
        return State(x, gate(coefficients, pair) + skip)

    def prefix(self, ws: Tensor, resolution: int, noise: Noise = "stored") -> State:
        """Everything up to and including the up-convolution of block `resolution`."""
        x = self.input(ws.shape[0])
        w, offset = self.space.read(ws, 0)
        x = self.conv1(x, w, self._noise(0, x, noise, scale=1), offset)
        state = State(x, self.to_rgb1(x, *self.space.read(ws, 1)))
        for i, res in enumerate(self.resolutions):
            state = State(self._conv(2 * i, state.x, ws, noise), state.skip)
            if res == resolution:
                return state
            state = self._finish_block(state, ws, res, NO_GATES, noise)
        raise ValueError(f"no block at resolution {resolution}: this generator has {self.resolutions}")

    def suffix(
        self,
        ws: Tensor,
        state: State,
        resolution: int,
        gates: Gates | None = None,
        noise: Noise = "stored",
        size: int | None = None,
    ) -> Tensor:
        """The image from the state that `prefix(ws, resolution)` returned; `gates` act from there on.

        size: the image as far as it is drawn at `size` px; the blocks above are not run. None: the whole.
        """
        gates = gates or NO_GATES
        start = self.resolutions.index(resolution)
        drawn = [res for res in self.resolutions if res * self.feature_scale <= (size or self.size)]
        for i, res in enumerate(drawn[start:], start):
            if i > start:
                state = State(self._conv(2 * i, state.x, ws, noise), state.skip)
            state = self._finish_block(state, ws, res, gates, noise)
        return self._image(state.skip)

    def forward(self, ws: Tensor, gates: Gates | None = None, noise: Noise = "stored") -> Tensor:
        first = self.resolutions[0]
        return self.suffix(ws, self.prefix(ws, first, noise), first, gates, noise)


class FromWavelets(nn.Module):
    """Discriminator input: coefficients [N, 12, H, W] to features, added to those of the block before."""

    def __init__(self, out_ch: int, downsample: bool = True) -> None:
        super().__init__()
        self.downsamples = downsample
        if downsample:
            self.iwt = InverseHaarTransform()
            self.downsample = Downsample()
            self.dwt = HaarTransform()
        self.conv = ConvLayer(12, out_ch, 3)

    def forward(self, coefficients: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.downsamples:
            coefficients = self.dwt(self.downsample(self.iwt(coefficients)))
        y = self.conv(coefficients)
        return coefficients, y if x is None else x + y


class ConvBlock(nn.Module):
    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(in_ch, in_ch, 3)
        self.conv2 = ConvLayer(in_ch, out_ch, 3, downsample=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:  # N,C,H,W => N,C+1,H,W
    """Append the mean standard deviation over groups of the batch; N must divide by min(N, group)."""
    n, c, h, w = x.shape
    group = min(n, group)
    if n % group:
        raise ValueError(f"a discriminator batch larger than {group} must be a multiple of {group}, not {n}")
    # Groups are strided over the batch, as in the public implementation.
    y = x.view(group, -1, 1, c, h, w)
    std = torch.sqrt(y.var(dim=0, unbiased=False) + 1e-8).mean(dim=(2, 3, 4), keepdim=True).squeeze(2)
    return torch.cat([x, std.repeat(group, 1, h, w)], dim=1)


class Discriminator(nn.Module):
    """SWAGAN discriminator: images [N, 3, size, size] => logits [N, 1]."""

    def __init__(self, size: int, channel_multiplier: float = 2, max_channels: int = 512) -> None:
        super().__init__()
        log_size = check_size(size) - 1
        width = (channel_multiplier, max_channels)
        self.dwt = HaarTransform()
        self.from_rgbs, self.convs = nn.ModuleList(), nn.ModuleList()
        # The first block works at size / 2 with the width of `size`: published, so kept.
        in_ch = channels(size, *width)
        for i in range(log_size, 2, -1):
            out_ch = channels(2 ** (i - 1), *width)
            self.from_rgbs.append(FromWavelets(in_ch, downsample=i != log_size))
            self.convs.append(ConvBlock(in_ch, out_ch))
            in_ch = out_ch
        self.from_rgbs.append(FromWavelets(in_ch))
        self.final_conv = ConvLayer(in_ch + 1, channels(4, *width), 3)
        self.final_linear = nn.Sequential(
            EqualLinear(channels(4, *width) * 16, channels(4, *width), activation=True),
            EqualLinear(channels(4, *width), 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        coefficients, x = self.dwt(images), None
        for from_rgb, conv in zip(self.from_rgbs[:-1], self.convs, strict=True):
            coefficients, x = from_rgb(coefficients, x)
            x = conv(x)
        _, x = self.from_rgbs[-1](coefficients, x)
        x = self.final_conv(minibatch_stddev(x))
        return self.final_linear(x.flatten(1))
