"""The pictures that a run is judged by, and its end when their loss has saturated."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wagi import checkpoint, splits
from wagi.config import TrainConfig
from wagi.data import Dataset, ImageFolder, Item, open_dataset
from wagi.errors import UserError, option
from wagi.loader import batch_of
from wagi.training.scenes import ScenePairs
from wagi.training.stage import Stage

EVALUATED, BATCH = 64, 16
LOSS = "loss"  # of what `Stage.evaluate` returns, the one that ends a run


def open_validation(path: str | None, data: Dataset, size: int, config: TrainConfig) -> Dataset | None:
    """The pictures of --validation, which `data`, an image folder, forgets where it has them too; or None.

    path: data of the kind that the stage trains on, or a text file with a path per line, absolute or below
    the folder of `data`. Raises UserError, status 2.
    """
    if not path:
        if config.patience and not config.holdout:
            what = "needs pictures that are not trained on; give --validation, or --set holdout=64"
            raise UserError(f"patience={config.patience}: {what}", 2)
        return None
    with option("--validation"):
        found = _opened(path, data, size)
        if isinstance(data, ImageFolder) and isinstance(found, ImageFolder):
            count = data.leave_out(found)
            print(f"--validation: {len(found)} pictures, {count} of them in --data and not trained on",
                  file=sys.stderr)  # fmt: skip
            if len(data) <= config.holdout:
                rest = f"{len(data)} images, holdout={config.holdout} of them are kept, too; set it to 0"
                raise UserError(f"{path}: leaves {rest}", 2)
        elif getattr(found, "root", None) == getattr(data, "root", Path()):
            raise UserError(f"{path}: the training data themselves; name others", 2)
        needed = {"params": getattr(config, "mode", "") == "distill", "mask": getattr(config, "interest", ())}
        if missing := [name for name in needed if needed[name] and name not in found.get(0, False)]:
            raise UserError(f"{path}: without {missing[0]}, which this stage needs; use portraits", 2)
    return found


def _opened(path: str, data: Dataset, size: int) -> Dataset:
    if isinstance(data, ScenePairs):
        return ScenePairs(path, size)
    if not Path(path).is_file():
        return open_dataset(path, size)
    if not isinstance(data, ImageFolder):
        raise UserError(f"{path}: a list of pictures, for a --data that is a folder of images", 2)
    return ImageFolder(data.root, size, splits.listed(Path(path), data.root))


class Judged:
    """The pictures of the logged numbers and grids: all of --validation, or the first ones of --data.

    unseen: no training step sees them. name: what they are, for people.
    """

    def __init__(self, data: Dataset, validation: Dataset | None, holdout: int) -> None:
        self.data = data if validation is None else validation
        self.unseen = validation is not None or holdout > 0
        self.count = len(self.data) if validation is not None else min(holdout or len(data), EVALUATED)
        self.name = "validation" if validation is not None else "held out"
        if not self.unseen:
            self.name = "training images (neither --validation nor holdout)"

    def batches(self, device: torch.device) -> Iterator[Item]:
        for first in range(0, self.count, BATCH):
            yield self.first(min(BATCH, self.count - first), device, first)

    def first(self, count: int, device: torch.device, start: int = 0) -> Item:
        """At most `count` pictures from number `start` on, as one batch."""
        batch = batch_of(self.data, range(start, min(start + count, self.count)))
        return {key: value.to(device) for key, value in batch.items()}

    def means(self, stage: Stage, models: dict[str, nn.Module], device: torch.device) -> dict[str, float]:
        """The stage's numbers over all pictures."""
        totals: dict[str, float] = {}
        for batch in self.batches(device):
            for name, value in stage.evaluate(models, batch).items():
                totals[name] = totals.get(name, 0.0) + value * len(batch["image"])
        return {name: total / self.count for name, total in totals.items()}


class Patience:
    """The lowest validation loss, the averaged weights that had it, and the evaluations since.

    limit: so many without a lower one end the run; 0: none does, and nothing is kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.best, self.step, self.waited = limit, math.inf, 0, 0
        self.weights: dict[str, checkpoint.State] = {}

    @property
    def over(self) -> bool:
        return 0 < self.limit <= self.waited

    def see(self, loss: float, step: int, models: dict[str, nn.Module]) -> None:
        """One evaluation of these averaged models."""
        if not self.limit:
            return
        self.waited += 1
        if loss < self.best:
            self.best, self.step, self.waited = loss, step, 0
            self.weights = {name: checkpoint.state_of(model) for name, model in models.items()}

    def __str__(self) -> str:
        return f"no loss below {self.best:.4g} of step {self.step} in {self.waited} evaluations"

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "step": self.step, "waited": self.waited}

    def load_state(self, state: dict[str, Any], weights: dict[str, checkpoint.State]) -> None:
        """The state that `state` returned, and the weights that had the loss."""
        if self.limit:
            self.best, self.step, self.waited = state["best"], state["step"], state["waited"]
            self.weights = weights if self.step else {}
