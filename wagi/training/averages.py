"""The weights that inference uses: a running average of those that are trained."""

import copy

import torch
from torch import nn


class Averages:
    """Exponential moving averages of whole models: parameters and floating-point buffers alike, so that
    BatchNorm statistics lag exactly as the weights they belong to."""

    def __init__(self, models: dict[str, nn.Module], names: tuple[str, ...]) -> None:
        self.live = {name: models[name] for name in names}
        self.models = {
            name: copy.deepcopy(model).eval().requires_grad_(False) for name, model in self.live.items()
        }

    @torch.no_grad()
    def update(self, step: int, images: int, half_life: float) -> None:
        """`half_life` in images; young runs forget their first steps sooner."""
        decay = min(0.5 ** (images / half_life), (1 + step) / (10 + step))
        for name, live in self.live.items():
            for kind in (nn.Module.parameters, nn.Module.buffers):
                for average, value in zip(kind(self.models[name]), kind(live), strict=True):
                    if value.is_floating_point():
                        average.lerp_(value, 1 - decay)
                    else:
                        average.copy_(value)
