"""The generator as it is exported: the numbers of `swagan.Generator`, in fewer and faster operations.

What changes, each equal to the training module in exact arithmetic (tests/test_export_formulation.py):
- a modulated convolution is `demod * Conv(x * style, W)` with constant W; sqrt(2) of the activation sits in
  demodulation, noise and bias, because leaky ReLU is positively homogeneous;
- demodulation is one matrix product with precomputed sums of squares; styles of layers of equal width are
  one product;
- the up-convolution takes one of three forms (UP_FORMS; decision 45);
- the skip path (inverse Haar, FIR upsampling, Haar) takes one of three forms (SKIP_FORMS; decision 46);
- weights are constants: no scale factors, no flips, no FIR kernels to expand.
In half precision (`dtype`), styles, demodulation, tWavelets' sums, skip and wavelets stay in FP32, weights
have unit norm per output channel and styles a largest value of one: demodulation takes both factors back,
so that no product can overflow, whatever the latents are.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.folding import cast, linear
from export.skip import SkipPath, bands
from wagi.haar import inverse_haar
from wagi.networks.fusion import WAVELET_CHANNELS, Gate, Gates
from wagi.networks.layers import ModulatedConv2d, StyledConv, fir_kernel
from wagi.networks.style_space import StyleSpace
from wagi.networks.swagan import Generator

# transposed: 3x3 with stride 2, then the FIR per channel; single: both as one 6x6 kernel; polyphase: a 3x3
# convolution to four times the channels, then pixel shuffle. On CPUs the first is the fastest (measured).
UP_FORMS = ("transposed", "single", "polyphase")
_EPS = 1e-8  # of wagi.networks.layers.ModulatedConv2d
_NO_STYLE = 1e-12  # least largest style: a zero style divides by it
_GAIN = math.sqrt(2)


class Style(NamedTuple):
    """Of one layer: what its input and its output are multiplied by."""

    inner: Tensor  # [N, C, 1, 1]
    outer: Tensor | None  # [N, C', 1, 1] or [N, 1, 1, 1]; None: nothing


class Layer(NamedTuple):
    """One modulated convolution, its number in the generator's StyleSpace and the gain behind it."""

    conv: ModulatedConv2d
    number: int
    gain: float


def _norms(conv: ModulatedConv2d) -> Tensor:  # => C'
    """L2 norm of every output channel's weights, 1 for a channel of zeros."""
    norms = (conv.weight[0] * conv.scale).flatten(1).norm(dim=1)
    return torch.where(norms > 0, norms, torch.ones_like(norms))


def _weight(conv: ModulatedConv2d, dtype: torch.dtype) -> Tensor:  # => C',C,k,k
    """The constant weights, still in FP32; what half precision holds has unit norm per output channel."""
    weight = conv.weight[0] * conv.scale
    return weight / _norms(conv)[:, None, None, None] if dtype == torch.float16 else weight


class Styles(nn.Module):
    """Styles and demodulation of several layers: ws [N, n_latent, D] -> one Style per layer, all in FP32.

    Layers of equal width share one matrix product. With `normalise` styles come with a largest value of one
    and the factor is part of `outer`, for weights of unit norm. With `offsets`, ws has style offsets behind
    its latents, which are added.
    """

    def __init__(self, layers: Sequence[Layer], space: StyleSpace, normalise: bool, offsets: bool) -> None:
        super().__init__()
        self.space, self.normalise, self.offsets = space, normalise, offsets
        self.count = len(layers)
        groups: dict[tuple[int, int, bool], list[int]] = {}
        for i, (conv, _, _) in enumerate(layers):
            out_ch, in_ch = conv.weight.shape[1:3]
            groups.setdefault((in_ch, out_ch, conv.demodulate), []).append(i)
        self.groups = [(members, key[2]) for key, members in groups.items()]
        for g, (members, demodulate) in enumerate(self.groups):
            self._constants(str(g), [layers[i] for i in members], demodulate)

    def _constants(self, g: str, layers: list[Layer], demodulate: bool) -> None:
        affines = [linear(layer.conv.modulation) for layer in layers]
        numbers = [layer.number for layer in layers]
        self.register_buffer(f"latents_{g}", torch.tensor([self.space.latents[n] for n in numbers]))
        if self.offsets:
            spans = [torch.arange(self.space.widths[n]) + self.space.starts[n] for n in numbers]
            self.register_buffer(f"offsets_{g}", torch.cat(spans))  # k * C
        self.register_buffer(f"weight_{g}", torch.stack([a.weight.T for a in affines]))  # k, D, C
        self.register_buffer(f"bias_{g}", torch.stack([a.bias for a in affines])[:, None])  # k, 1, C
        weights = [layer.conv.weight[0] * layer.conv.scale for layer in layers]
        norms = torch.stack([_norms(layer.conv) for layer in layers])[:, None] if self.normalise else None
        if demodulate:
            # 1 / (gain * norm)^2: what `outer` is multiplied by besides.
            undo = torch.tensor([layer.gain**-2 for layer in layers])[:, None, None]
            undo = undo if norms is None else undo / norms.square()
            energy = torch.stack([w.square().sum(dim=(2, 3)).T for w in weights])
            self.register_buffer(f"energy_{g}", energy * undo)  # k, C, C'
            self.register_buffer(f"epsilon_{g}", _EPS * undo)  # k, 1, C' or k, 1, 1
        elif norms is not None:
            self.register_buffer(f"norms_{g}", norms)

    def forward(self, ws: Tensor) -> list[Style]:
        styles: list[Style | None] = [None] * self.count
        for g, (members, demodulate) in enumerate(self.groups):
            inner, outer = self._group(str(g), ws, demodulate)
            for k, i in enumerate(members):
                styles[i] = Style(inner[k], None if outer is None else outer[k])
        return styles  # type: ignore[return-value]

    def _group(self, g: str, ws: Tensor, demodulate: bool) -> tuple[Tensor, Tensor | None]:
        latents = ws.index_select(1, self.get_buffer(f"latents_{g}")).transpose(0, 1)  # k, N, D
        style = torch.matmul(latents, self.get_buffer(f"weight_{g}")) + self.get_buffer(f"bias_{g}")
        if self.offsets:
            found = ws[:, self.space.n_latent :].flatten(1).index_select(1, self.get_buffer(f"offsets_{g}"))
            style = style + found.unflatten(1, (style.shape[0], style.shape[2])).transpose(0, 1)
        outer, largest = None, None
        if self.normalise:
            largest = style.abs().amax(dim=2, keepdim=True).clamp_min(_NO_STYLE)
            style = style / largest
        if demodulate:
            epsilon = self.get_buffer(f"epsilon_{g}")
            epsilon = epsilon if largest is None else epsilon / largest / largest
            outer = torch.rsqrt(torch.matmul(style * style, self.get_buffer(f"energy_{g}")) + epsilon)
        elif largest is not None:
            outer = largest * self.get_buffer(f"norms_{g}")
        return style[..., None, None], None if outer is None else outer[..., None, None]


def up_kernel(weight: Tensor) -> Tensor:  # C',C,3,3 => C,C',6,6
    """Transposed 3x3 convolution and FIR as one kernel (stride 2, padding 2)."""
    taps = fir_kernel(gain=4).expand(weight.shape[1], 1, 4, 4)
    # Full convolution of two kernels; the FIR is symmetric.
    return F.conv2d(weight, taps, padding=3, groups=weight.shape[1]).transpose(0, 1).contiguous()


def polyphase_kernel(weight: Tensor) -> Tensor:  # C',C,3,3 => 4C',C,3,3
    """`up_kernel` by output position: channel 4c + 2a + b holds row a, column b of every 2x2 block."""
    kernel = up_kernel(weight).transpose(0, 1)  # C',C,6,6
    # Output row 2m + a is the sum over k of x[m - 1 + k] times tap a + 4 - 2k.
    taps = torch.tensor([[a + 4 - 2 * k for k in range(3)] for a in range(2)])
    phases = [kernel[:, :, taps[a][:, None], taps[b]] for a in range(2) for b in range(2)]
    return torch.stack(phases, dim=1).flatten(0, 1)


class Convolution(nn.Module):
    """layers.StyledConv: x [N, C, H, W] and its Style -> activated [N, C', H, W] or [N, C', 2H, 2W]."""

    weight: Tensor
    bias: Tensor
    noise: Tensor | None
    taps: Tensor

    def __init__(self, layer: StyledConv, noise: Tensor, up: str, dtype: torch.dtype) -> None:
        super().__init__()
        weight = _weight(layer.conv, dtype)
        self.form = up if layer.conv.upsample else "plain"
        shaped = {
            "plain": lambda: weight,
            "transposed": lambda: weight.transpose(0, 1).contiguous(),
            "single": lambda: up_kernel(weight),
            "polyphase": lambda: polyphase_kernel(weight),
        }[self.form]()
        self.register_buffer("weight", shaped.to(dtype))
        bias = layer.activate.bias.detach() * _GAIN
        self.register_buffer("bias", (bias if self.form == "transposed" else bias[:, None, None]).to(dtype))
        strength = float(layer.noise.weight.detach())
        self.register_buffer("noise", (noise[0] * (strength * _GAIN)).to(dtype) if strength else None)
        if self.form == "transposed":
            taps = fir_kernel(gain=4).expand(weight.shape[0], 1, 4, 4)
            self.register_buffer("taps", taps.contiguous().to(dtype))

    def forward(self, x: Tensor, style: Style) -> Tensor:
        dtype = self.weight.dtype
        assert style.outer is not None
        x, outer = cast(x, dtype) * cast(style.inner, dtype), cast(style.outer, dtype)
        if self.form == "transposed":
            # Demodulation before the FIR, which acts on every channel alone, so that the FIR adds the bias.
            y = F.conv_transpose2d(x, self.weight, stride=2) * outer
            y = F.conv2d(y, self.taps, self.bias, padding=1, groups=y.shape[1])
        elif self.form == "single":
            y = F.conv_transpose2d(x, self.weight, stride=2, padding=2) * outer + self.bias
        elif self.form == "polyphase":
            y = F.pixel_shuffle(F.conv2d(x, self.weight, padding=1), 2) * outer + self.bias
        else:
            y = F.conv2d(x, self.weight, padding=1) * outer + self.bias
        return F.leaky_relu(y if self.noise is None else y + self.noise, 0.2)


class Coefficients(nn.Module):
    """tWavelets (or ToRGB): x [N, C, H, W] and its Style -> [N, 12 (or 3), H, W] in FP32."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        conv: ModulatedConv2d = layer.conv  # type: ignore[assignment]
        self.register_buffer("weight", _weight(conv, dtype).to(dtype))
        self.register_buffer("bias", layer.bias.detach()[0])  # type: ignore[operator, index]
        self.padding = conv.padding

    def forward(self, x: Tensor, style: Style) -> Tensor:
        dtype = self.weight.dtype
        x = cast(x, dtype) * cast(style.inner, dtype)
        if style.outer is None:
            return F.conv2d(x, self.weight, self.bias.flatten(), padding=self.padding)
        y = cast(F.conv2d(x, self.weight, padding=self.padding), torch.float32)
        return y * style.outer + self.bias


class Synthesis(nn.Module):
    """`Generator.prefix` and `.suffix` around the fused block `start`, stored noise, constants folded.

    Args: up: one of UP_FORMS; dtype: of the convolutions; skip: one of SKIP_FORMS; offsets: see Styles.
    Features between the two parts are in `dtype`.
    """

    input: Tensor

    def __init__(
        self,
        generator: Generator,
        start: int,
        up: str,
        dtype: torch.dtype,
        skip: str = "folded",
        offsets: bool = False,
    ) -> None:
        super().__init__()
        if up not in UP_FORMS:
            raise ValueError(f"up form {up!r}: choose from {', '.join(UP_FORMS)}")
        self.start = generator.resolutions.index(start)
        self.resolutions = list(generator.resolutions)
        self.scale, self.in_wavelets = generator.feature_scale, bands(generator) == WAVELET_CHANNELS
        self.register_buffer("input", generator.input.input.detach())
        noises = dict(generator.noises.named_buffers())
        convs = [generator.conv1, *generator.convs]
        rgbs = [generator.to_rgb1, *generator.to_rgbs]
        self.convs = nn.ModuleList(
            Convolution(conv, noises[f"noise_{j}"], up, dtype)  # type: ignore[arg-type]
            for j, conv in enumerate(convs)
        )
        self.rgbs = nn.ModuleList(Coefficients(rgb, dtype) for rgb in rgbs)
        self.skip_path = SkipPath(generator, skip)
        # Latents and noise maps: decision 8. In running order, two convolutions come before every tWavelets.
        features = [Layer(c.conv, j + (j + 1) // 2, _GAIN) for j, c in enumerate(convs)]  # type: ignore[arg-type]
        wavelets = [Layer(c.conv, 3 * i + 1, 1.0) for i, c in enumerate(rgbs)]  # type: ignore[arg-type]
        below, kind = 2 * self.start + 2, (generator.space, dtype == torch.float16, offsets)
        self.prefix_styles = Styles(features[:below] + wavelets[: self.start + 1], *kind)
        self.suffix_styles = Styles(features[below:] + wavelets[self.start + 1 :], *kind)

    @property
    def dtype(self) -> torch.dtype:
        """Of features and convolutions."""
        return self.convs[0].weight.dtype  # type: ignore[return-value]

    def prefix(self, ws: Tensor) -> tuple[Tensor, Tensor]:
        """ws -> features behind the up-convolution of block `start`, coefficients of the block before."""
        styles = self.prefix_styles(ws)
        convs, rgbs = styles[: 2 * self.start + 2], styles[2 * self.start + 2 :]
        x = self.convs[0](self.input, convs[0])
        skip = self.rgbs[0](x, rgbs[0])
        for i in range(self.start + 1):
            x = self.convs[2 * i + 1](x, convs[2 * i + 1])
            if i < self.start:
                x = self.convs[2 * i + 2](x, convs[2 * i + 2])
                skip = self.skip_path(skip, self.rgbs[i + 1](x, rgbs[i + 1]))
        return x, skip

    def suffix(
        self, styles: list[Style], x: Tensor, skip: Tensor, gates: Gates, size: int | None = None
    ) -> Tensor:
        """The image from `suffix_styles(ws)` and what `prefix` returned; gates hold 1 + g and h.

        size: as of Generator.suffix.
        """
        blocks = len(self.resolutions)
        drawn = [res for res in self.resolutions if size is None or res * self.scale <= size]
        convs, rgbs = styles[: -(blocks - self.start)], styles[-(blocks - self.start) :]
        next_conv = iter(zip(self.convs[2 * self.start + 2 :], convs, strict=True))
        for i in range(self.start, len(drawn)):
            if i > self.start:
                conv, style = next(next_conv)
                x = conv(x, style)
            x = _gated(x, gates.features.get(self.resolutions[i]))
            conv, style = next(next_conv)
            x = conv(x, style)
            coefficients = self.rgbs[i + 1](x, rgbs[i - self.start])
            pair = gates.wavelets.get(self.resolutions[i])
            if gates.post_skip:
                skip = _gated(self.skip_path(skip, coefficients), pair)
            else:
                skip = self.skip_path(skip, _gated(coefficients, pair))
        return inverse_haar(skip) if self.in_wavelets else skip


def _gated(x: Tensor, pair: Gate | None) -> Tensor:
    """WaGI eq. (8) and (9), the 1 of `1 + g` already added."""
    if pair is None:
        return x
    g, h = (cast(part, x.dtype) for part in pair)
    return g * x + h
