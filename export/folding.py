"""Convolutional networks for inference: a copy with every constant computed, in the precision asked for.

Encoder, aligner and consultation encoder keep the forward pass of their training modules; what is replaced
are the layers inside. Batch norms behind a convolution disappear into it. Those in front of one stay, as one
multiplication and addition: the convolution pads with zeros, so their shift cannot move behind it.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wagi.networks.fusion import ScaledLeakyReLU
from wagi.networks.irse import SqueezeExcite
from wagi.networks.layers import EqualConv2d, EqualLinear
from wagi.networks.small_encoder import SmallEncoder

_TRUNK = 2.0**-6  # of a small encoder in half precision: 577 instead of 36900 in the embedded model


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in `dtype`; leaves no node where nothing changes."""
    return x if x.dtype == dtype else x.to(dtype)


class Single(nn.Linear):
    """A linear layer that stays in FP32: latents and channel attention are small and sensitive."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(cast(x, torch.float32))


class GroupNorm(nn.Module):
    """Group norm in FP32 as one InstanceNormalization between two reshapes without shape arithmetic."""

    ones: Tensor
    zeros: Tensor

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("ones", torch.ones(norm.num_groups))
        self.register_buffer("zeros", torch.zeros(norm.num_groups))

    def forward(self, x: Tensor) -> Tensor:
        y = cast(x, torch.float32)
        if not torch.onnx.is_in_onnx_export():
            return cast(F.group_norm(y, self.groups, self.weight, self.bias, self.eps), x.dtype)
        y = y.reshape(-1, self.groups, math.prod(x.shape[1:]) // self.groups)
        y = torch.onnx.ops.symbolic(
            "InstanceNormalization", (y, self.ones, self.zeros), attrs={"epsilon": self.eps}, dtype=y.dtype,
            shape=y.shape, version=18,
        )  # fmt: skip
        y = y.reshape(-1, *x.shape[1:]) * self.weight[:, None, None] + self.bias[:, None, None]
        return cast(y, x.dtype)


class Attention(nn.Module):
    """`wagi.networks.irse.SqueezeExcite` with mean and matrix products in FP32 (FP32 islands)."""

    def __init__(self, module: SqueezeExcite) -> None:
        super().__init__()
        self.fc1, self.fc2 = (_single(fc.weight.detach().flatten(1), None) for fc in (module.fc1, module.fc2))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(cast(x, torch.float32).mean(dim=(2, 3))))))
        return x * cast(gate, x.dtype)[:, :, None, None]


class Larger(nn.Module):
    """`nn.PReLU` with slopes of at most one, as the larger of x and slope x: the same bits in less time."""

    slopes: Tensor

    def __init__(self, module: nn.PReLU, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("slopes", module.weight.detach()[:, None, None].to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, x * self.slopes)


def _single(weight: Tensor, bias: Tensor | None) -> Single:
    layer = Single(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def linear(layer: EqualLinear) -> Single:
    """The same map with its scale factors in weight and bias (no activation)."""
    assert not layer.activation
    bias = None if layer.bias is None else layer.bias * layer.lr_mul
    return _single(layer.weight * layer.scale, bias)


def _convolution(layer: EqualConv2d, gain: float) -> nn.Conv2d:
    """The same convolution with its scale factor, and `gain`, in weight and bias."""
    out_ch, in_ch, kernel, _ = layer.weight.shape
    plain = nn.Conv2d(in_ch, out_ch, kernel, layer.stride, layer.padding, bias=layer.bias is not None)
    plain.weight = nn.Parameter(layer.weight.detach() * (layer.scale * gain), requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach() * gain, requires_grad=False)
    return plain


def _scale_and_shift(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The same affine map with mean 0 and variance 1, whose constants half precision holds."""
    assert norm.running_mean is not None and norm.running_var is not None
    plain = nn.BatchNorm2d(norm.num_features).eval()
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    plain.running_var = torch.ones(norm.num_features) - plain.eps
    plain.weight = nn.Parameter(scale, requires_grad=False)
    plain.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
    return plain


def _sequence(layers: list[nn.Module]) -> list[nn.Module]:
    """Neighbours merged: convolution and batch norm, equalised convolution and its activation's gain."""
    merged: list[nn.Module] = []
    for i, layer in enumerate(layers):
        before = merged[-1] if merged else None
        if isinstance(layer, EqualConv2d):
            scaled = i + 1 < len(layers) and isinstance(layers[i + 1], ScaledLeakyReLU)
            merged.append(_convolution(layer, math.sqrt(2) if scaled else 1.0))
        elif isinstance(layer, ScaledLeakyReLU) and isinstance(before, nn.Conv2d):
            merged.append(nn.LeakyReLU(0.2))  # sqrt(2) lrelu(x) = lrelu(sqrt(2) x)
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            merged[-1] = fuse_conv_bn_eval(before, layer)
        else:
            merged.append(layer)
    return merged


def _replacement(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`module`, or what stands for it; children first, so that a merged layer is final."""
    if isinstance(module, SqueezeExcite):
        return Attention(module)  # before its convolutions are rounded to half
    if isinstance(module, nn.Sequential):
        module = nn.Sequential(*_sequence(list(module)))
    for name, child in module.named_children():
        setattr(module, name, _replacement(child, dtype))
    if isinstance(module, nn.GroupNorm):
        return GroupNorm(module)
    if isinstance(module, EqualLinear):
        return linear(module)
    if type(module) is nn.Linear:
        return _single(module.weight, module.bias)
    if isinstance(module, nn.BatchNorm2d):
        return _scale_and_shift(module).to(dtype)
    if isinstance(module, nn.MaxPool2d) and module.kernel_size == module.stride == 1:
        return nn.Identity()
    if isinstance(module, nn.PReLU) and bool((module.weight <= 1).all()):
        return Larger(module, dtype)
    return module.to(dtype) if isinstance(module, nn.Conv2d | nn.PReLU) else module


# Nothing normalises the trunk of a small encoder, only what branches off it: its values grow while it trains,
# and all that reads them divides by their spread.
def _lower_trunk(encoder: SmallEncoder) -> None:
    """Scale the trunk by a power of two, and what is added to it or to its variance: the same result."""

    def scaled(parameter: nn.Parameter) -> nn.Parameter:
        return nn.Parameter(parameter.detach() * _TRUNK, requires_grad=False)

    blocks: list[Any] = list(encoder.blocks)
    downs: list[Any] = list(encoder.downs)
    reducers: list[Any] = list(encoder.reducers.values())
    for writer in (encoder.stem, *(block.conv2 for block in blocks)):
        writer.weight, writer.bias = scaled(writer.weight), scaled(writer.bias)
    for down in downs:
        down.bias = scaled(down.bias)
    for norm in (encoder.top_norm, *(block.norm1 for block in blocks), *(layers[0] for layers in reducers)):
        norm.eps *= _TRUNK**2


@torch.no_grad()
def folded(module: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of an FP32 network in eval mode that computes the same: convolutions in `dtype`, rest in FP32.

    The copy shares the memory of what does not change; `module` stays as it is.
    """
    shared: dict[int, Tensor] = {id(b): b.detach() for b in module.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    copied = copy.deepcopy(module, shared)
    if dtype == torch.float16 and isinstance(copied, SmallEncoder):
        _lower_trunk(copied)
    return _replacement(copied, dtype).requires_grad_(False).eval()
