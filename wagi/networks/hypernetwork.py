"""HyperStyle's hypernetwork (Alaluf et al. 2022): offsets of a generator's convolutions, for each image.

Names and shapes are those of the public checkpoints (prefix `hypernet.`), except that the weights which its
blocks share are there once, as `shared_weight_hypernet`. Iterating is the work of `wagi.model.HyperInverter`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.networks.layers import EqualLinear
from wagi.networks.swagan import Generator

Offsets = dict[str, Tensor]  # parameter of the generator -> [N, out, in, k, k], or k = 1 for all of a kernel

_UNITS = (3, 4, 6, 3)  # of ResNet-34


class BasicBlock(nn.Module):
    """ResNet's unit of two convolutions, with torchvision's names."""

    def __init__(self, in_ch: int, out_ch: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_ch)
        self.conv2 = nn.Conv2d(out_ch, out_ch, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_ch)
        self.downsample = None
        if stride != 1 or in_ch != out_ch:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_ch, out_ch, 1, stride, bias=False), nn.BatchNorm2d(out_ch)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet34_body(width: int) -> nn.Sequential:
    """The sixteen units of ResNet-34, [N, width, H, W] -> [N, 8 width, H/8, W/8]."""
    units, in_ch = [], width
    for group, count in enumerate(_UNITS):
        out_ch = width << group
        for k in range(count):
            units.append(BasicBlock(in_ch, out_ch, 2 if group and not k else 1))
            in_ch = out_ch
    return nn.Sequential(*units)


def _reduction(channels: int, inner: int, first_stride: int, strided: int) -> nn.Sequential:
    """Convolutions with leaky ReLUs from `channels` by way of `inner` back to `channels`."""
    strides = [first_stride, *[2] * strided]
    widths = [channels, *[inner] * strided, channels]
    layers: list[nn.Module] = []
    for i, stride in enumerate(strides):
        layers += [nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1), nn.LeakyReLU()]
    return nn.Sequential(*layers)


class SharedKernels(nn.Module):
    """A code [N, code] to whole kernels [N, channels, channels, 3, 3], one map for all layers."""

    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        self.channels, self.code = channels, code
        self.w1 = nn.Parameter(torch.zeros(code, channels * 9))
        self.b1 = nn.Parameter(torch.zeros(channels * 9))
        self.w2 = nn.Parameter(torch.randn(code, channels * code) / 40)
        self.b2 = nn.Parameter(torch.randn(channels * code) / 40)

    def forward(self, code: Tensor) -> Tensor:
        rows = (code @ self.w2 + self.b2).view(-1, self.channels, self.code)
        return (rows @ self.w1 + self.b1).view(-1, self.channels, self.channels, 3, 3)


class CodeBlock(nn.Module):
    """Features to the code of one layer, for `SharedKernels`."""

    def __init__(self, width: int, spatial: int) -> None:
        super().__init__()
        self.convs = _reduction(8 * width, 2 * width, 1, int(math.log2(spatial)))
        self.linear = EqualLinear(8 * width, 8 * width)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.convs(features).flatten(1))


class ChannelBlock(nn.Module):
    """Features to one offset for each pair of channels of a layer: [N, out, in, 1, 1]."""

    def __init__(self, width: int, spatial: int, out_ch: int, in_ch: int) -> None:
        super().__init__()
        self.shape = (out_ch, in_ch)
        self.convs = _reduction(8 * width, 4 * width, 2, max(1, int(math.log2(spatial)) - 2))
        self.output = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8 * width, out_ch * in_ch, 1))
        for value in self.output.parameters():
            nn.init.zeros_(value)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(self.convs(features)).view(-1, *self.shape, 1, 1)


def tuned_layers(generator: Generator) -> dict[int, tuple[str, int, int]]:
    """Index of the published list of layers -> (parameter, out, in) of every 3x3 convolution, in order."""
    found = {}
    names = ["conv1", *(f"convs.{j}" for j in range(len(generator.convs)))]
    for j, name in enumerate(names):
        weight = generator.get_parameter(f"{name}.conv.weight")
        index = j and j + (j + 1) // 2  # 0, 2, 3, 5, 6, ...: 1, 4, 7, ... write the image
        found[index] = (f"{name}.conv.weight", *weight.shape[1:3])
    return found


class HyperNetwork(nn.Module):
    """ResNet-34 and one block for each 3x3 convolution of a generator.

    Args:
        layers: `tuned_layers` of the generator. Those with its widest channels on both sides share a map from
            a code to a kernel, the others have one offset per pair of channels.
        resolution: R, of the images.
        width: channels of the first layer; 64 as published.
    Call: the image and what the generator shows of it [N, 6, R, R] in [-1, 1] -> the change of each weight as
    a share of it. Fresh networks change nothing (published ones begin at random).
    """

    def __init__(
        self, layers: dict[int, tuple[str, int, int]], resolution: int = 256, width: int = 64
    ) -> None:
        super().__init__()
        spatial = resolution // 16
        self.names = {index: name for index, (name, _, _) in layers.items()}
        self.conv1 = nn.Conv2d(6, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.PReLU(width)
        self.body = resnet34_body(width)
        widest = max(in_ch for _, _, in_ch in layers.values())
        self.shared_weight_hypernet = SharedKernels(widest, 8 * width)
        self.refinement_blocks = nn.ModuleDict(
            {
                str(index): CodeBlock(width, spatial)
                if out_ch == in_ch == widest
                else ChannelBlock(width, spatial, out_ch, in_ch)
                for index, (_, out_ch, in_ch) in layers.items()
            }
        )

    def forward(self, images: Tensor) -> Offsets:
        features = self.body(self.relu(self.bn1(self.conv1(images))))
        found = {}
        for index, block in self.refinement_blocks.items():
            made = block(features)
            found[self.names[int(index)]] = self.shared_weight_hypernet(made) if made.ndim == 2 else made
        return found
