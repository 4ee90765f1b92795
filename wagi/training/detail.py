"""Losses for what an image loss lets a generator blur: how detail looks, how much, what an edit changes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.config import GeneratorConfig
from wagi.haar import decompose, haar
from wagi.training.images import Looks, Scalars

_FAINT = 10.0  # squared error over a picture's values: changes below it, a raised brow, need not be shown

_CELL = 4  # coefficients a side over which a fixed phase shows


def energy_loss(y: Tensor, x: Tensor) -> Tensor:  # N,3,R,R twice => scalar
    """Sum over three Haar levels of the mean difference of the local detail energy.

    A blurred picture has too little of it, a doubled edge too much; both cost an L1 distance less than detail
    in the wrong place.
    """
    total = torch.zeros((), device=y.device)
    for window, a, b in zip((8, 4, 4), decompose(y, 3), decompose(x, 3), strict=True):
        first, second = (_local_energy(level, window) for level in (a, b))
        total = total + (first - second).abs().mean()
    return total


def _local_energy(level: Tensor, window: int) -> Tensor:
    """Root mean square over colours and windows of the details [N, 12, r, r] => [N, 3, r', r']."""
    energy = level.unflatten(1, (4, -1))[:, 1:].square().mean(2)
    window = min(window, energy.shape[-1])
    return (F.avg_pool2d(energy, window, stride=max(window // 2, 1)) + 1e-4).sqrt()


def lock_loss(y: Tensor, x: Tensor, levels: int = 2) -> Tensor:  # N,3,R,R twice => scalar
    """Sum over Haar levels of the fixed phase of y - x: a grid of 2 or 4 px that sits where it always sits.

    Rewards for detail invite a generator that doubles maps by Haar transforms to write a checkerboard. It is
    the part of the coefficients that changes sign when the picture moves by half their period, averaged over
    4x4 of them: true detail has no phase and averages out.
    """
    error, total = y - x, torch.zeros((), device=y.device)
    for _ in range(levels):
        low, lh, hl, hh = haar(error).chunk(4, dim=1)
        right, down = (haar(error.roll(1, axis)).chunk(4, dim=1) for axis in (3, 2))
        locked = torch.cat([lh - down[1], hl - right[2], hh - right[3]], dim=1) / 2
        total = total + F.avg_pool2d(locked, min(_CELL, locked.shape[-1])).abs().mean()
        error = low
    return total


def change_error(found: Tensor, change: Tensor) -> Tensor:  # N,3,R,R twice => scalar
    """Mean over pairs of |found - change|^2 / (|change|^2 + a faint change): 1 where nothing is shown, 0 all.

    A mean over pixels forgets a smile: it is a few hundred of them. Here each edit counts alike, and what
    else changes with it costs as much as what is missing. Squares, since the L1 distance to a thin line that
    may be anywhere is least without the line.
    """
    missed, whole = ((x.square().sum((1, 2, 3))) for x in (found - change, change))
    return (missed / (whole + _FAINT)).mean()


class Detail(nn.Module):
    """lambda_looks `Looks` + lambda_energy `energy_loss` + lambda_lock `lock_loss`.

    All three rise from 0 to their weights over `detail_kimg`. Terms of weight 0 are left out.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.looks = Looks() if config.lambda_looks else None

    def forward(self, y: Tensor, x: Tensor, step: int, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """Images y and targets x [N, 3, S, S] => (the weighted sum, its terms before weighting)."""
        config, terms = self.config, {}
        if self.looks is not None:
            terms["looks"] = self.looks(y, x, rng)
        if config.lambda_energy:
            terms["energy"] = energy_loss(y, x)
        if config.lambda_lock:
            terms["lock"] = lock_loss(y, x)
        share = min(1.0, step * config.batch / (1000 * config.detail_kimg)) if config.detail_kimg else 1.0
        total = torch.zeros((), device=y.device)
        for name, term in terms.items():
            total = total + share * getattr(config, f"lambda_{name}") * term
        return total, terms
