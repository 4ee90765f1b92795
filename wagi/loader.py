"""Order and batches of training images; the order depends on seed and step only."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from wagi.data import Dataset, Item


class Order:
    """The images of each step: a pure function of (seed, step), so a resumed run needs no sampler state.

    Images are visited in a fresh permutation per epoch; a batch may span two epochs.
    """

    def __init__(self, count: int, batch: int, seed: int, first: int = 0, flip: bool = False) -> None:
        self.count, self.batch, self.seed, self.first, self.flip = count, batch, seed, first, flip
        self._epoch = -1
        self._permutation: np.ndarray = np.arange(0)

    def _at(self, position: int) -> int:
        epoch, offset = divmod(position, self.count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng((self.seed, 1, epoch)).permutation(self.count)
        return self.first + int(self._permutation[offset])

    def __call__(self, step: int) -> list[tuple[int, bool]]:
        """[(image index, mirrored)] of the whole batch of this step."""
        indices = [self._at(step * self.batch + i) for i in range(self.batch)]
        flips = np.random.default_rng((self.seed, 2, step)).random(self.batch) < 0.5
        return [(i, bool(f) and self.flip) for i, f in zip(indices, flips, strict=True)]


def batch_of(data: Dataset, indices: Iterable[int]) -> Item:
    """The items of these indices as one batch, not mirrored."""
    return collate([data.get(index, False) for index in indices])


def collate(items: list[Item]) -> Item:
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


class Loader:
    """Micro-batches of one process: `for batches in loader.steps(first)` yields one list per step.

    With workers, threads decode the next step's images while this one trains; the order stays the same.
    """

    def __init__(
        self,
        data: Dataset,
        order: Order,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        self.data, self.order, self.accumulate = data, order, accumulate
        self.rank, self.world = rank, world
        self.pool = ThreadPoolExecutor(workers) if workers else None

    def _plan(self, step: int) -> list[list[tuple[int, bool]]]:
        mine = self.order(step)[self.rank :: self.world]
        size = len(mine) // self.accumulate
        return [mine[i * size : (i + 1) * size] for i in range(self.accumulate)]

    def steps(self, first: int) -> Iterator[list[Item]]:
        """Batches of step `first`, `first` + 1, ... without end."""
        step, pending = first, self._submit(first)
        while True:
            ahead = self._submit(step + 1) if self.pool else None
            yield self._collect(step, pending)
            step, pending = step + 1, ahead

    def _submit(self, step: int) -> list[list[Future]] | None:
        if self.pool is None:
            return None
        return [[self.pool.submit(self.data.get, i, f) for i, f in micro] for micro in self._plan(step)]

    def _collect(self, step: int, pending: list[list[Future]] | None) -> list[Item]:
        if pending is None:
            return [collate([self.data.get(i, f) for i, f in micro]) for micro in self._plan(step)]
        return [collate([future.result() for future in micro]) for micro in pending]

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
