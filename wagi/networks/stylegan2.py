"""StyleGAN2 synthesis in the pixel domain: the generator of configuration A (HFGI)."""

import torch
from torch import Tensor, nn

from wagi.networks.layers import ModulatedConv2d, Upsample
from wagi.networks.swagan import Generator


class ToRGB(nn.Module):
    """Features to an image, and the resampling of the skip path."""

    def __init__(self, in_ch: int, style_dim: int, kernel: int = 1, upsample: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if upsample:
            self.upsample = Upsample()
        self.conv = ModulatedConv2d(in_ch, 3, kernel, style_dim, demodulate=False)

    def forward(self, x: Tensor, w: Tensor, offset: Tensor | None = None) -> Tensor:  # => N,3,H,W
        return self.conv(x, w, offset) + self.bias

    def resample(self, skip: Tensor) -> Tensor:  # N,3,H/2,W/2 => N,3,H,W
        return self.upsample(skip)


class StyleGAN2Generator(Generator):
    """As `swagan.Generator`, with blocks up to the image size and n_latent = 2 log2(size) - 2."""

    feature_scale = 1

    def _to_rgb(self, in_ch: int, kernel: int, upsample: bool = True) -> nn.Module:
        return ToRGB(in_ch, self.style_dim, kernel, upsample)

    def _final(self) -> None:
        pass

    def _image(self, skip: Tensor) -> Tensor:
        return skip
