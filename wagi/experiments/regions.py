"""Errors over a region of the picture: pixel-weighted means over all images, so regions count by size."""

from collections import defaultdict

import torch.nn.functional as F
from torch import Tensor

from wagi.haar import decompose
from wagi.portraits import LABELS

LEVELS = 3  # K = 2 of eq. (6)
REGIONS = {"": None, "letters": LABELS.index("letters"), "mouth": LABELS.index("mouth")}


def masks(regions: Tensor) -> dict[str, Tensor]:  # N,S,S labels => each N,1,S,S float
    """Weights of the whole image (name ``) and of the regions that are reported apart."""
    return {
        name: (regions == label if label is not None else regions >= 0)[:, None].float()
        for name, label in REGIONS.items()
    }


def l1_sum(error: Tensor, mask: Tensor) -> float:  # N,C,H,W ; N,1,H,W
    """Sum over the mask's pixels of the channels' mean |error|."""
    return float((error.abs().mean(1, keepdim=True) * mask).double().sum())


def l2_sum(error: Tensor, mask: Tensor) -> float:  # N,C,H,W ; N,1,H,W
    """Sum over the mask's pixels of the channels' mean squared error."""
    return float((error.square().mean(1, keepdim=True) * mask).double().sum())


# Eq. (6) before its means: a coefficient of level i stands for 4^(i+1) pixels, the mask covers some.
def wave_sum(error: Tensor, mask: Tensor) -> float:  # N,C,H,W ; N,1,H,W
    """Sum of squared detail coefficients under the mask; over the mask's pixels it is L_wave (K = 2).

    With a mask of ones that is `losses.wavelet_loss` exactly. Sides must be multiples of 8.
    """
    total = 0.0
    for i, level in enumerate(decompose(error, LEVELS), 1):
        details = level.unflatten(1, (4, -1))[:, 1:].square().sum(1).mean(1, keepdim=True)
        total += 4**i * float((details * F.avg_pool2d(mask, 2**i)).double().sum())
    return total


MEASURES = {"l1": l1_sum, "l2": l2_sum, "l_wave": wave_sum}


class RegionMeans:
    """Means per row, measure and region over all images added so far.

    Args: measures: names in MEASURES. Row names and their order come from `add`.
    """

    def __init__(self, *measures: str) -> None:
        self.measures = measures
        self._sums: dict[str, dict[str, float]] = {}
        self._pixels: dict[str, dict[str, float]] = {}

    def add(self, row: str, error: Tensor, weights: dict[str, Tensor]) -> None:
        """error [N, C, H, W]; weights: region name -> [N, 1, H, W]."""
        sums = self._sums.setdefault(row, defaultdict(float))
        pixels = self._pixels.setdefault(row, defaultdict(float))
        for region, mask in weights.items():
            pixels[region] += float(mask.double().sum())
            for measure in self.measures:
                sums[_column(measure, region)] += MEASURES[measure](error, mask)

    def rows(self) -> dict[str, dict[str, float | None]]:
        """row -> column -> mean; None for a region that no image has."""
        return {
            row: {
                _column(measure, region): sums[_column(measure, region)] / self._pixels[row][region]
                if self._pixels[row][region]
                else None
                for region in REGIONS
                for measure in self.measures
            }
            for row, sums in self._sums.items()
        }


def _column(measure: str, region: str) -> str:
    return f"{measure} {region}".strip()
