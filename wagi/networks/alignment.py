"""ADA, the adaptive distortion alignment: moves the residual onto the (edited) naive inversion."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.networks.irse import stem, units

# Standard deviation of a residual, which the BatchNorms on its way divide and multiply by.
_RESIDUAL_STD = 0.2


class DistortionAligner(nn.Module):
    """Encoder-decoder of HFGI section 3.3, kept by the WaGI paper; names are those of HFGI's `grid_align.`.

    Args: channels: widths at R, R/2, R/4, R/8; the default is HFGI's.
    Call: residual [N, 3, R, R] (range [-2, 2]) and naive or edited image [N, 3, R, R] in [-1, 1]
    -> aligned residual [N, 3, R, R]; before training, the residual as it is. The last layer is linear. Any R
    works: maps are enlarged to the size of the skip they meet, which at 256 px is what the public code has
    hard-coded.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        c1, c2, c3, c4 = channels
        self.conv_layer1 = stem(6, c1)
        self.conv_layer2 = units((c1, c2, c2, c2), stride=2)
        self.conv_layer3 = units((c2, c3, c3, c3), stride=2)
        self.conv_layer4 = units((c3, c4, c4, c4), stride=2)
        self.dconv_layer1 = units((c4 + c3, c4, c2, c2), stride=1)
        self.dconv_layer2 = units((c2 + c2, c2, c1, c1), stride=1)
        self.dconv_layer3 = units((c1 + c1, c1, 3, 3), stride=1)
        self._start_as_identity(c1)

    # Neither paper says how ADA starts. From random weights it has first to learn to copy what is aligned
    # already, which at a small budget it never does better than doing nothing.
    @torch.no_grad()
    def _start_as_identity(self, c1: int) -> None:
        """Carry the residual through the first and the last layers, whose other branches start at zero."""
        weight = self.get_parameter
        self.get_buffer("conv_layer1.1.running_var")[:3] = _RESIDUAL_STD**2
        weight("conv_layer1.2.weight")[:3] = 1  # PReLU
        weight("dconv_layer3.1.shortcut_layer.1.weight").fill_(_RESIDUAL_STD)
        # The first three channels pass; the encoder's map is the second half of the last layers' input.
        paths = (
            ("conv_layer1.0", 0),
            ("dconv_layer3.0.shortcut_layer.0", c1),
            ("dconv_layer3.1.shortcut_layer.0", 0),
        )
        for name, first in paths:
            kernel = weight(f"{name}.weight")
            kernel[:3] = 0
            centre = kernel.shape[-1] // 2
            for i in range(3):
                kernel[i, first + i, centre, centre] = 1
        for unit in range(3):
            weight(f"dconv_layer3.{unit}.res_layer.4.weight")[:3] = 0

    def forward(self, residual: Tensor, image: Tensor) -> Tensor:
        at_full = self.conv_layer1(torch.cat((residual, image), dim=1))
        at_half = self.conv_layer2(at_full)
        at_quarter = self.conv_layer3(at_half)
        x = self.conv_layer4(at_quarter)
        x = self.dconv_layer1(_join(x, at_quarter))
        x = self.dconv_layer2(_join(x, at_half))
        return self.dconv_layer3(_join(x, at_full))


def _join(x: Tensor, skip: Tensor) -> Tensor:
    """Enlarge the decoder map to the size of the encoder's, decoder channels first."""
    x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat((x, skip), dim=1)
