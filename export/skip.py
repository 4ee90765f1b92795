"""The skip path of the exported generator: what adds one block's coefficients to the next one's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.haar import onnx_node
from wagi.networks.fusion import WAVELET_CHANNELS
from wagi.networks.swagan import Generator

# folded: one transposed convolution; wavelet: nodes HaarIDWT and HaarDWT around the FIR, as in training;
# plugin: one node SkipUpsample, which adds the coefficients too. On CPUs the first and the last are the same.
SKIP_FORMS = ("folded", "wavelet", "plugin")


def resample_kernel(layer: nn.Module, channels: int) -> Tensor:  # => channels, channels, 4, 4
    """The skip path of a block as the kernel of one transposed convolution (stride 2, padding 1).

    It is read off the training module: the answers to one impulse in every channel.
    """
    impulses = torch.zeros(channels, channels, 5, 5)
    impulses[:, :, 2, 2] = torch.eye(channels)
    return layer.resample(impulses)[:, :, 3:7, 3:7].contiguous()  # type: ignore[operator]


def bands(generator: Generator) -> int:
    """Channels of the skip path: wavelet coefficients, or the colours of a generator in the pixel domain."""
    return WAVELET_CHANNELS if generator.feature_scale == 2 else 3


class SkipPath(nn.Module):
    """skip [N, 12, H, W] and coefficients [N, 12, 2H, 2W] -> the next block's coefficients, in FP32.

    A generator in the pixel domain has three colours in the place of bands, and the form `folded` only.
    """

    kernel: Tensor

    def __init__(self, generator: Generator, form: str) -> None:
        super().__init__()
        if form not in SKIP_FORMS:
            raise ValueError(f"skip form {form!r}: choose from {', '.join(SKIP_FORMS)}")
        if form != "folded" and bands(generator) != WAVELET_CHANNELS:
            raise ValueError(f"skip form {form!r}: this generator has no wavelets; use folded")
        self.form, layer = form, generator.to_rgbs[0]
        self.register_buffer("kernel", resample_kernel(layer, bands(generator)))
        self.layer = layer if form == "wavelet" else None

    def forward(self, skip: Tensor, coefficients: Tensor) -> Tensor:
        if self.layer is not None:
            return coefficients + self.layer.resample(skip)  # type: ignore[operator]
        if self.form == "plugin" and torch.onnx.is_in_onnx_export():
            return onnx_node("SkipUpsample", (skip, coefficients), coefficients.shape)
        return coefficients + F.conv_transpose2d(skip, self.kernel, stride=2, padding=1)
