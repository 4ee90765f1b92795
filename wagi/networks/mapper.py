"""StyleCLIP's mapper (Patashnik et al. 2021, section 5): the step that one text asks of latents."""

import torch
from torch import Tensor, nn

from wagi.networks.layers import EqualLinear, PixelNorm

# Group, by its published name, -> the latents that it reads and moves.
GROUPS = {"course_mapping": slice(0, 4), "medium_mapping": slice(4, 8), "fine_mapping": slice(8, None)}
_STEP = 0.1  # of M(w) that an edit adds
_LAYERS = 4


class _Group(nn.Module):
    """Latents [N, L, style_dim] of a group; the norm runs over its L latents, as in the public code."""

    def __init__(self, style_dim: int) -> None:
        super().__init__()
        layers = [EqualLinear(style_dim, style_dim, lr_mul=0.01, activation=True) for _ in range(_LAYERS)]
        self.mapping = nn.Sequential(PixelNorm(), *layers)

    def forward(self, ws: Tensor) -> Tensor:
        return self.mapping(ws)


class Mapper(nn.Module):
    """Latents [N, n_latent, style_dim] -> the step to add to them, 0.1 M(w), of the same shape.

    A generator of fewer than nine latents has no fine group.
    """

    def __init__(self, n_latent: int, style_dim: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        for name, part in GROUPS.items():
            if range(n_latent)[part]:
                self.add_module(name, _Group(style_dim))

    def forward(self, ws: Tensor) -> Tensor:
        steps = [group(ws[:, GROUPS[name]]) for name, group in self.named_children()]
        return _STEP * torch.cat(steps, dim=1)
