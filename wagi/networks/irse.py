"""Improved residual units (IR, IR-SE) and the ArcFace backbone built from them.

Names and shapes are those of the public `model_ir_se50.pth` (InsightFace_Pytorch); pSp, e4e and HFGI share
them.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (input channels, output channels, units) of the four groups of the 50-layer body; each starts with stride 2.
IR50_GROUPS = ((64, 64, 3), (64, 128, 4), (128, 256, 14), (256, 512, 3))


class SqueezeExcite(nn.Module):
    """Channel attention: global mean -> C/r -> ReLU -> C -> sigmoid -> multiply (Hu et al. 2018, r = 16)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed))))


class Bottleneck(nn.Module):
    """Improved residual unit: BN, conv, PReLU, strided conv, BN [, SE], plus the shortcut.

    [N, in_channels, H, W] -> [N, depth, ceil(H / stride), ceil(W / stride)]. The shortcut is a plain
    subsampling when the number of channels does not change, a strided 1x1 convolution with BN otherwise.
    """

    def __init__(self, in_channels: int, depth: int, stride: int, squeeze: bool = False) -> None:
        super().__init__()
        if in_channels == depth:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, depth, 1, stride, bias=False), nn.BatchNorm2d(depth)
            )
        layers: list[nn.Module] = [
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, depth, 3, 1, 1, bias=False),
            nn.PReLU(depth),
            nn.Conv2d(depth, depth, 3, stride, 1, bias=False),
            nn.BatchNorm2d(depth),
        ]
        if squeeze:
            layers.append(SqueezeExcite(depth))
        self.res_layer = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


def stem(in_channels: int, channels: int) -> nn.Sequential:
    """Conv3x3, BN, PReLU: the first layer of every network of this family; keeps the resolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.PReLU(channels)
    )


def units(widths: tuple[int, ...], stride: int) -> nn.Sequential:
    """A chain of plain IR units through `widths` (first entry: input channels); the first has `stride`."""
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return nn.Sequential(*(Bottleneck(i, o, stride if n == 0 else 1) for n, (i, o) in enumerate(pairs)))


def _ir50_units() -> Iterator[Bottleneck]:
    for in_channels, depth, count in IR50_GROUPS:
        yield Bottleneck(in_channels, depth, 2, squeeze=True)
        for _ in range(count - 1):
            yield Bottleneck(depth, depth, 1, squeeze=True)


def ir_se50_body() -> nn.Sequential:
    """The 24 IR-SE units of IR-SE50: [N, 64, H, W] -> [N, 512, H/16, W/16]."""
    return nn.Sequential(*_ir50_units())


class Backbone(nn.Module):
    """ArcFace IR-SE50 (Deng et al. 2019): faces [N, 3, 112, 112] in [-1, 1] -> unit vectors [N, 512]."""

    def __init__(self, dropout: float = 0.6) -> None:
        super().__init__()
        self.input_layer = stem(3, 64)
        self.body = ir_se50_body()
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512),
        )

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.output_layer(self.body(self.input_layer(images))), dim=1)
