"""The pSp encoder (Richardson et al. 2021): the network of e4e with independent heads, and a small one."""

import torch
from torch import Tensor

from wagi.networks.e4e import Encoder4Editing
from wagi.networks.small_encoder import SmallEncoder


class IndependentHeads:
    """The offsets of pSp, for any encoder of `wagi.networks.e4e.ProgressiveEncoder`'s interface."""

    n_styles: int

    def compose(self, first: Tensor, deltas: list[Tensor]) -> Tensor:
        # e4e adds the first head to the others, pSp does not (decision 14).
        rest = self.n_styles - 1 - len(deltas)
        return torch.stack([first, *deltas, *([first] * rest)], dim=1)


class PixelToStyle(IndependentHeads, Encoder4Editing):
    """Names, shapes and call of `Encoder4Editing`; every offset is a head of its own."""


class SmallPixelToStyle(IndependentHeads, SmallEncoder):
    """The same of `SmallEncoder`."""
