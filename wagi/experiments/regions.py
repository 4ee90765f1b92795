"""Errors over a region of the picture: pixel-weighted means over all images, so regions count by size."""

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from wagi.editing.counterfactuals import WORN, Pair
from wagi.haar import decompose
from wagi.portraits import LABELS

_KINDS = (*LABELS, *WORN)
LEVELS = 3  # K = 2 of eq. (6)
LABELLED = ("letters", "mouth", "eyes", "hair", "background", *WORN)
NEWLY, ACCESSORY = "newly visible", "accessory"
REGIONS = ("", *LABELLED, ACCESSORY, NEWLY, "changed", "unchanged")
CHANGED = 0.1  # mean difference of the colours, of images in [-1, 1], from which a pixel counts as changed


def masks(pair: Pair) -> dict[str, Tensor]:  # => each N,1,S,S
    """Weights of the whole image (name ``) and of the regions that are reported apart, of a batch of pairs.

    Labels are those of the edited picture; changed, unchanged: what the true edit changes and what it leaves;
    accessory: glasses and earrings among them; newly visible: nowhere unless the edit is a turn.
    """
    changed = ((pair.edited - pair.source).abs().mean(1, keepdim=True) > CHANGED).float()
    numbers = {name: _KINDS.index(name) for name in (*LABELLED, ACCESSORY)}
    named = {name: (pair.regions == number)[:, None].float() for name, number in numbers.items()}
    for name in WORN:
        named[ACCESSORY] = named[ACCESSORY] + named[name]
    newly = torch.zeros_like(changed)
    if pair.newly is not None:
        newly = F.interpolate(pair.newly, size=changed.shape[-1])  # nearest
    return {"": torch.ones_like(changed), **named, NEWLY: newly, "changed": changed, "unchanged": 1 - changed}


class Strength:
    """The way that a result goes from the source to the true edit, over the pixels that the edit changes.

    The projection of result - source onto edited - source: 0 for a copy, 1 for the true edit.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, row: str, result: Tensor, source: Tensor, edited: Tensor, changed: Tensor) -> None:
        """Images [N, 3, S, S]; changed [N, 1, S, S], of `masks`."""
        way = (edited - source) * changed
        sums = self._sums.setdefault(row, [0.0, 0.0])
        sums[0] += float(((result - source) * way).double().sum())
        sums[1] += float(way.double().square().sum())

    def rows(self) -> dict[str, float | None]:
        """row -> strength; None when nothing changed."""
        return {row: done / whole if whole else None for row, (done, whole) in self._sums.items()}


Maps = list[Tensor]  # each N,1,h,h: the error's share of every pixel, or of every 2x2, 4x4, ... pixels


def l1_maps(error: Tensor) -> Maps:  # N,C,H,W
    """The channels' mean |error|."""
    return [error.abs().mean(1, keepdim=True)]


def l2_maps(error: Tensor) -> Maps:  # N,C,H,W
    """The channels' mean squared error."""
    return [error.square().mean(1, keepdim=True)]


# Eq. (6) before its means: a coefficient of level i stands for 4^(i+1) pixels, a mask covers some.
def wave_maps(error: Tensor) -> Maps:  # N,C,H,W
    """Squared detail coefficients, level by level; summed under a mask and over its pixels, L_wave (K = 2).

    With a mask of ones that is `losses.wavelet_loss` exactly. Sides must be multiples of 8.
    """
    levels = decompose(error, LEVELS)
    return [level.unflatten(1, (4, -1))[:, 1:].square().sum(1).mean(1, keepdim=True) for level in levels]


def masked_sum(maps: Maps, mask: Tensor) -> float:  # mask N,1,H,W
    """Sum over the mask's pixels."""
    total = 0.0
    for values in maps:
        side = mask.shape[-1] // values.shape[-1]
        covered = mask if side == 1 else F.avg_pool2d(mask, side)
        total += side**2 * float((values * covered).double().sum())
    return total


MEASURES = {"l1": l1_maps, "l2": l2_maps, "l_wave": wave_maps}


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
        maps = {measure: MEASURES[measure](error) for measure in self.measures}
        for region, mask in weights.items():
            pixels[region] += float(mask.double().sum())
            for measure in self.measures:
                sums[_column(measure, region)] += masked_sum(maps[measure], mask)

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
