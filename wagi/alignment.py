"""ADA, the adaptive distortion alignment: moves the residual onto the (edited) naive inversion."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.irse import stem, units

# Standard deviation of the untrained output, about that of a residual.
_START_SCALE = 0.1


class DistortionAligner(nn.Module):
    """Encoder-decoder of HFGI section 3.3, kept by the WaGI paper; names are those of HFGI's `grid_align.`.

    Args: channels: widths at R, R/2, R/4, R/8; the default is HFGI's.
    Call: residual [N, 3, R, R] (range [-2, 2]) and naive or edited image [N, 3, R, R] in [-1, 1]
    -> aligned residual [N, 3, R, R]. The last layer is linear. Any R works: maps are enlarged to the size of
    the skip they meet, which at 256 px is what the public code has hard-coded.
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
        # BatchNorms start at scale one, ten times a residual: without this the first hundreds of steps only
        # shrink the output.
        for norm in (self.dconv_layer3[1].res_layer[4], self.dconv_layer3[1].shortcut_layer[1]):
            nn.init.constant_(norm.weight, _START_SCALE)
        nn.init.constant_(self.dconv_layer3[2].res_layer[4].weight, _START_SCALE)

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
