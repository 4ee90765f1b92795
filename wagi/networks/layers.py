"""Building blocks of StyleGAN2 and SWAGAN, with the published parameter names.

Fixed FIR and Haar kernels are registered as buffers only because public checkpoints carry them:
with the same names, `load_state_dict(strict=True)` works in both directions.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.haar import haar, inverse_haar

Noise = Literal["stored", "random"]
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)


def channels(resolution: int, channel_multiplier: float = 2, max_channels: int = 512) -> int:
    """Feature channels at `resolution`: the published table, capped for small models."""
    return min(max_channels, int(16384 * channel_multiplier) // resolution)


def fir_kernel(gain: float = 1.0) -> Tensor:  # => 4, 4
    """The separable low-pass filter outer([1,3,3,1], [1,3,3,1]) / 64, times `gain`."""
    taps = torch.tensor(FIR_TAPS)
    return gain * torch.outer(taps, taps) / taps.sum() ** 2


def fir(x: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:  # N,C,H,W => N,C,H',W'
    """Filter every channel with the same (symmetric) kernel, zero padding `pad` before and after."""
    c = x.shape[1]
    x = F.pad(x, (pad[0], pad[1], pad[0], pad[1]))
    return F.conv2d(x, kernel.to(x.dtype).expand(c, 1, 4, 4), groups=c)


def window_mean(x: Tensor, side: int) -> Tensor:  # N,C,H,W => N,C,H,W; side odd
    """The mean over the part of each side x side window that lies inside the image."""
    # Rows, then columns: engines pool pixel by pixel, 17 + 17 of them in place of 17 x 17 at R = 256.
    rows = F.avg_pool2d(x, (1, side), stride=1, padding=(0, side // 2), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), stride=1, padding=(side // 2, 0), count_include_pad=False)


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class FusedLeakyReLU(nn.Module):
    """sqrt(2) * leaky_relu(x + bias, 0.2) over dimension 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias.view(1, -1, *[1] * (x.ndim - 2))
        return math.sqrt(2) * F.leaky_relu(x + bias, 0.2)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate; with `activation`, followed by sqrt(2) * leaky_relu."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        bias: bool = True,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_dim,), float(bias_init))) if bias else None
        self.scale = lr_mul / math.sqrt(in_dim)
        self.lr_mul = lr_mul
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:  # ..., in_dim => ..., out_dim
        bias = None if self.bias is None else self.bias * self.lr_mul
        y = F.linear(x, self.weight * self.scale, bias)
        return math.sqrt(2) * F.leaky_relu(y, 0.2) if self.activation else y


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate."""

    def __init__(
        self, in_ch: int, out_ch: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_ch, in_ch, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_ch)) if bias else None
        self.scale = 1 / math.sqrt(in_ch * kernel**2)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class Blur(nn.Module):
    kernel: Tensor

    def __init__(self, pad: tuple[int, int], gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain))
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return fir(x, self.kernel, self.pad)


class Upsample(nn.Module):
    """Zero-insertion by two and FIR of gain 4, as one depthwise transposed convolution."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain=4))

    def forward(self, x: Tensor) -> Tensor:  # N,C,H,W => N,C,2H,2W
        c = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(c, 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=c)


class Downsample(nn.Module):
    """FIR of gain 1, then every second sample."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel())

    def forward(self, x: Tensor) -> Tensor:  # N,C,H,W => N,C,H/2,W/2
        c = x.shape[1]
        return F.conv2d(x, self.kernel.to(x.dtype).expand(c, 1, 4, 4), stride=2, padding=1, groups=c)


class _HaarBuffers(nn.Module):
    """The published 2x2 kernels; the arithmetic itself is `wagi.haar`."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        half = torch.tensor([[1.0, 1.0], [1.0, 1.0]]) / 2
        rows, columns = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-1.0, 1.0]])
        self.register_buffer("ll", half)
        self.register_buffer("lh", sign * half * rows)
        self.register_buffer("hl", sign * half * columns)
        self.register_buffer("hh", half * rows * columns)


class HaarTransform(_HaarBuffers):
    def __init__(self) -> None:
        super().__init__(sign=1.0)

    def forward(self, x: Tensor) -> Tensor:  # N,C,H,W => N,4C,H/2,W/2
        return haar(x)


class InverseHaarTransform(_HaarBuffers):
    def __init__(self) -> None:
        super().__init__(sign=-1.0)

    def forward(self, y: Tensor) -> Tensor:  # N,4C,H,W => N,C,2H,2W
        return inverse_haar(y)


class ModulatedConv2d(nn.Module):
    """Modulated convolution (StyleGAN2), written on activations instead of weights.

    The published form scales the weights per sample: W' = d * scale * W * s. As s acts on input channels
    and d on output channels, conv(x, W') = d * conv(x * s, scale * W), exactly; the weights stay constant,
    which is faster, needs no grouping by batch, and exports to any runtime.
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        kernel: int,
        style_dim: int,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_ch, in_ch, kernel, kernel))
        self.modulation = EqualLinear(style_dim, in_ch, bias_init=1.0)
        self.scale = 1 / math.sqrt(in_ch * kernel**2)
        self.padding = kernel // 2
        self.demodulate, self.upsample = demodulate, upsample
        if upsample:
            self.blur = Blur(pad=(1, 1), gain=4)

    def forward(self, x: Tensor, w: Tensor, offset: Tensor | None = None) -> Tensor:
        """x [N, C, H, W], w [N, style_dim] => [N, C', H', W']; offset [N, C]: what is added to the style."""
        # Style and demodulation stay in float32 under autocast: their squares leave half precision.
        with torch.autocast(x.device.type, enabled=False):
            s = self.modulation(w.to(self.weight.dtype))
            s = s if offset is None else s + offset
            weight = self.weight[0] * self.scale
            if self.demodulate:
                d = torch.rsqrt(s.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8)
        x = x * s[:, :, None, None].to(x.dtype)
        if self.upsample:
            y = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            y = F.conv2d(x, weight, padding=self.padding)
        return y * d[:, :, None, None].to(y.dtype) if self.demodulate else y


class NoiseInjection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + self.weight * noise


class StyledConv(nn.Module):
    """Modulated convolution, noise, biased leaky ReLU."""

    def __init__(self, in_ch: int, out_ch: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_ch, out_ch, 3, style_dim, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(out_ch)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor, offset: Tensor | None = None) -> Tensor:
        return self.activate(self.noise(self.conv(x, w, offset), noise))


class ConvLayer(nn.Sequential):
    """Discriminator layer: [blur,] convolution, biased leaky ReLU; `downsample` halves the resolution."""

    def __init__(self, in_ch: int, out_ch: int, kernel: int, downsample: bool = False) -> None:
        layers: list[nn.Module] = [Blur(pad=(2, 2))] if downsample else []
        stride, padding = (2, 0) if downsample else (1, kernel // 2)
        layers += [EqualConv2d(in_ch, out_ch, kernel, stride, padding, bias=False), FusedLeakyReLU(out_ch)]
        super().__init__(*layers)
