"""The interface between a training stage and the loop."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wagi.config import ModelConfig, TrainConfig
from wagi.data import Item
from wagi.training.images import Scalars


@dataclass
class Phase:
    """One optimiser step of a training step: what to minimise and with which of the stage's optimisers."""

    optimizer: str
    loss: Callable[[Item, torch.Generator], tuple[Tensor, Scalars]]
    fp32: bool = False  # keep autocast out: second derivatives


class Stage:
    """A training stage. `models` are trained; `frozen` go into the checkpoint unchanged."""

    name: str
    model_config: ModelConfig
    config: TrainConfig
    models: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    averaged: tuple[str, ...]  # names in `models` of which inference uses the weight average
    optimizers: dict[str, Optimizer]
    helpers: tuple[nn.Module, ...] = ()  # networks inside losses, neither trained nor saved

    def phases(self, step: int) -> list[Phase]:
        raise NotImplementedError

    def evaluate(self, models: dict[str, nn.Module], batch: Item) -> dict[str, float]:
        """Numbers of the averaged models on pictures; `loss` is the validation loss, where there is one."""
        raise NotImplementedError

    def settled(self, step: int) -> bool:
        """All parts are trained from this step on: until then the loss says nothing of the end."""
        return True

    def grid(self, models: dict[str, nn.Module], batch: Item) -> tuple[Tensor, int]:
        """Pictures [N, 3, S, S] row by row and the number of columns."""
        raise NotImplementedError

    def train_mode(self) -> None:
        for model in self.models.values():
            model.train()

    def state(self) -> dict:
        """Whatever besides weights and optimisers the next step depends on (plain containers and tensors)."""
        return {}

    def load_state(self, state: dict) -> None:
        assert not state
