"""Zooms that nobody chose: of each picture the window in which the naive inversion lost the most."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wagi.experiments.models import Inverter

SHARE = 4  # a window's side is this part of the picture's


class Zoom(NamedTuple):
    """One window per picture: the pixels of its corners, and its side."""

    tops: list[int]
    lefts: list[int]
    side: int

    def __call__(self, images: Tensor) -> Tensor:  # N,C,S,S => N,C,S,S
        """The windows, every pixel enlarged to a block."""
        scale = images.shape[-1] // self.side
        windows = [
            image[:, top : top + self.side, left : left + self.side]
            for image, top, left in zip(images, self.tops, self.lefts, strict=True)
        ]
        return torch.stack(windows).repeat_interleave(scale, 2).repeat_interleave(scale, 3)


@torch.no_grad()
def lost(model: Inverter, images: Tensor) -> Tensor:  # N,3,S,S => N,3,S,S
    """Input minus naive inversion."""
    return images - model.results(images)[0].clamp(-1, 1)


def worst(lost: Tensor) -> Zoom:
    """The windows with the largest mean square of what was lost [N, 3, S, S]."""
    side = lost.shape[-1] // SHARE
    energy = avg_pool2d(lost.square().mean(1, keepdim=True), side, stride=max(1, side // 4))[:, 0]
    places = energy.flatten(1).argmax(1)
    step, width = max(1, side // 4), energy.shape[-1]
    return Zoom([int(p) // width * step for p in places], [int(p) % width * step for p in places], side)
