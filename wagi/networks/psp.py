"""The pSp encoder (Richardson et al. 2021): the network of e4e with independent heads."""

import torch
from torch import Tensor

from wagi.networks.e4e import Encoder4Editing


class PixelToStyle(Encoder4Editing):
    """Names, shapes and call of `wagi.networks.e4e.Encoder4Editing`; every offset is a head of its own."""

    def compose(self, first: Tensor, deltas: list[Tensor]) -> Tensor:
        # e4e adds the first head to the others, pSp does not (decision 14).
        rest = self.n_styles - 1 - len(deltas)
        return torch.stack([first, *deltas, *([first] * rest)], dim=1)
