"""Channel relevance of StyleCLIP (Patashnik et al. 2021): what styles do to a text-image model's features.

Two things differ from that paper's section 6. A channel's effect is the mean derivative of the features in
place of the difference at +-5 standard deviations, which costs a pass for each feature, not two for each
channel. And the channels are solved for together, by ridge regression, so that one that also changes other
features counts less.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wagi.networks.swagan import Generator

_RIDGE = 0.35  # of the mean squared effect on a feature
_BATCH = 16

ImageTower = Callable[[Tensor], Tensor]  # images [N, 3, S, S] in [-1, 1] => unit features [N, F]


class Relevance(NamedTuple):
    """deviation [C]: of every style over sampled latents, zero where no convolution reads it. matrix [C, F]:
    the step of every style, in deviations, for a step of one in a feature."""

    deviation: np.ndarray
    matrix: np.ndarray


def relevance(generator: Generator, tower: ImageTower, latents: Tensor, images: int) -> Relevance:
    """Relevance from latents [N, style_dim]; the first `images` of them are rendered."""
    generator.requires_grad_(False)
    deviation = deviations(generator, latents)
    effect = effects(generator, tower, latents[:images]) * deviation[:, None]
    gram = effect.T @ effect
    ridge = _RIDGE * gram.trace() / len(gram) * torch.eye(len(gram))
    return Relevance(deviation.numpy(), (effect @ torch.linalg.inv(gram + ridge)).numpy())


@torch.no_grad()
def deviations(generator: Generator, latents: Tensor) -> Tensor:  # N,style_dim => C
    """Standard deviation of every style; tWavelets and ToRGB only paint, so theirs is zero here."""
    parts = []
    for _, conv in generator.modulated():
        spread = conv.modulation(latents).std(dim=0)
        parts.append(spread if conv.demodulate else torch.zeros_like(spread))
    return torch.cat(parts)


def effects(generator: Generator, tower: ImageTower, latents: Tensor) -> Tensor:  # N,style_dim => C,F
    """Mean derivative of the images' features by the styles."""
    space, total = generator.space, torch.zeros(())
    for part in tqdm(latents.split(_BATCH), "relevance", disable=None):
        offsets = torch.zeros(len(part), space.channels, requires_grad=True)
        features = tower(generator(space.with_offsets(generator.broadcast(part), offsets)))
        columns = [
            torch.autograd.grad(column.sum(), offsets, retain_graph=True)[0].sum(dim=0)
            for column in features.unbind(dim=1)
        ]
        total = total + torch.stack(columns, dim=1)
    return total / len(latents)
