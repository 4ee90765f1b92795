"""Promise: training steps are the textbook's, written out in plain torch.

Each phase has the gradient of its own loss alone, micro-batches are averaged, the rate falls as a cosine, and
the running average follows.
"""

import dataclasses
import math

import pytest
import torch
from torch import nn

from tests.training_helpers import write_portraits
from wagi.config import TrainConfig
from wagi.data import open_dataset
from wagi.training.loop import Trainer
from wagi.training.stage import Phase, Stage


class Duel(Stage):
    """Two networks whose losses both depend on both: a leak between the phases would show."""

    name = "duel"

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(0)
        self.config, self.frozen, self.averaged = config, {}, ("a",)
        self.models = {name: nn.Linear(3, 3).double() for name in "ab"}
        self.optimizers = {
            name: torch.optim.SGD([{"params": list(m.parameters()), "initial_lr": config.lr}], config.lr, 0.9)
            for name, m in self.models.items()
        }
        self.drawn: list[float] = []

    def phases(self, step):
        return [Phase("a", self.first), Phase("b", self.second)]

    def first(self, batch, rng):
        self.drawn.append(torch.rand((), generator=rng).item())
        x = batch["image"].double().mean((2, 3))
        loss = (self.models["b"](self.models["a"](x)) - 1).square().mean()
        return loss, {"first": loss}

    def second(self, batch, rng):
        x = batch["image"].double().mean((2, 3))
        loss = (self.models["a"](x) * self.models["b"](x)).square().mean()
        return loss, {"second": loss}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_dataset(write_portraits(tmp_path_factory.mktemp("data") / "p"), 32)


STEPS, BATCH = 6, 4
CONFIG = TrainConfig(
    batch=BATCH, lr=0.3, kimg=STEPS * BATCH / 1000, lr_rampdown=0.5, ema_kimg=0.02, flip=False
)


def trainer(data, folder, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return Trainer(Duel(config), data, folder, torch.device("cpu"), 0, 1, 0)


def batches(data, step):
    return [{"image": torch.stack([data.get((4 * step + i) % len(data))["image"] for i in range(BATCH)])}]


def textbook(data, steps):
    """The same run by autograd, momentum and arithmetic alone => (models, averages of a, losses)."""
    stage = Duel(CONFIG)
    models = {name: [p.detach().clone() for p in m.parameters()] for name, m in stage.models.items()}
    momentum = {name: [torch.zeros_like(p) for p in values] for name, values in models.items()}
    average, losses = [p.clone() for p in models["a"]], []

    def apply(name, x):
        return x @ models[name][0].T + models[name][1]

    for step in range(steps):
        x = batches(data, step)[0]["image"].double().mean((2, 3))
        left, ramp = STEPS - step, 0.5 * STEPS
        rate = 0.3 * (1 if left >= ramp else 0.5 - 0.5 * math.cos(math.pi * left / ramp))
        for name in "ab":
            for p in models[name]:
                p.requires_grad_()
            if name == "a":
                loss = (apply("b", apply("a", x)) - 1).square().mean()
            else:
                loss = (apply("a", x) * apply("b", x)).square().mean()
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, models[name])
            momentum[name] = [0.9 * m + g for m, g in zip(momentum[name], gradients, strict=True)]
            models[name] = [
                (p - rate * m).detach() for p, m in zip(models[name], momentum[name], strict=True)
            ]
        decay = min(0.5 ** (BATCH / 20), (2 + step) / (11 + step))
        average = [decay * v + (1 - decay) * p for v, p in zip(average, models["a"], strict=True)]
    return models, average, losses


def run_steps(loop, data, steps, split=1):
    losses = []
    for step in range(steps):
        (whole,) = batches(data, step)
        parts = [{"image": part} for part in whole["image"].chunk(split)]
        scalars = loop.train_step(parts)
        losses += [scalars["first"].item(), scalars["second"].item()]
        loop.step += 1
        loop.averages.update(loop.step, BATCH, 1000 * CONFIG.ema_kimg)
    return losses


@pytest.mark.parametrize("split", [1, 2, 4])
def test_steps_are_the_textbooks(data, tmp_path, split):
    """Whole batches, or means over micro-batches: the same weights, losses and averages."""
    loop = trainer(data, tmp_path, accumulate=split)
    losses = run_steps(loop, data, STEPS, split)
    models, average, expected = textbook(data, STEPS)
    assert losses == pytest.approx(expected, rel=1e-9) and losses[0] != losses[2]
    for name, values in models.items():
        for mine, theirs in zip(loop.stage.models[name].parameters(), values, strict=True):
            torch.testing.assert_close(mine.detach(), theirs, atol=1e-10, rtol=1e-8)
    for mine, theirs in zip(loop.averages.models["a"].parameters(), average, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-8)
    assert any((m - v).abs().max() > 1e-3 for m, v in zip(models["a"], average, strict=True))


def test_every_micro_batch_draws_its_own_numbers(data, tmp_path):
    """And the same ones when the same run is made again; others with another seed."""
    drawn = []
    for seed in (0, 0, 1):
        loop = trainer(data, tmp_path / str(len(drawn)), accumulate=2, seed=seed)
        run_steps(loop, data, 3, 2)
        drawn.append(loop.stage.drawn)
    assert drawn[0] == drawn[1] and len(set(drawn[0] + drawn[2])) == 12
