"""Counterfactual pairs: portraits, and the true pictures of the same scenes with one parameter changed.

No face data set has them; a renderer whose random choices each have their own stream does (decision 38).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wagi.data import to_float
from wagi.errors import UserError
from wagi.files import beside
from wagi.portraits import Portrait, dataset
from wagi.portraits.edits import Edit
from wagi.portraits.scene import render_both

SOURCE = "source"


@dataclass(frozen=True)
class Pair:
    """One portrait and its true edit: pictures [3, S, S] in [-1, 1], region labels [S, S] of the edit."""

    source: Tensor
    edited: Tensor
    regions: Tensor


@dataclass(frozen=True)
class Pairs:
    """The first `count` portraits of data set `seed` to which an edit applies, rendered at most once.

    `folder` keeps every picture; a stopped run goes on where it was, and edits share their sources.
    """

    folder: Path
    seed: int
    size: int
    count: int

    def chosen(self, change: Edit) -> list[int]:
        """Indices of the portraits that the edit can be applied to."""
        found: list[int] = []
        for index in range(100 * self.count):
            if change.apply(dataset.portrait(self.seed, index)) is not None:
                found.append(index)
            if len(found) == self.count:
                return found
        raise UserError(f"{change.text}: applies to hardly any portrait; make it smaller", 2)

    def __call__(self, change: Edit) -> Iterator[Pair]:
        """The pairs of one edit, in the order of the data set."""
        for index in self.chosen(change):
            portrait = dataset.portrait(self.seed, index)
            edited = change.apply(portrait)
            assert edited is not None
            source, _ = self._picture(SOURCE, index, portrait)
            target, regions = self._picture(change.text, index, edited)
            yield Pair(to_float(source), to_float(target), torch.from_numpy(regions))

    def _picture(self, name: str, index: int, portrait: Portrait) -> tuple[np.ndarray, np.ndarray]:
        world = f"v{dataset.VERSION}-{self.size}px-seed{self.seed}"
        path = self.folder / world / name / f"{index:06d}.npz"
        try:
            if path.is_file():
                with np.load(path) as stored:
                    return stored["image"], stored["regions"]
            path.parent.mkdir(parents=True, exist_ok=True)
            image, regions = render_both(portrait, self.size)
            with beside(path) as part, open(part, "wb") as file:
                np.savez_compressed(file, image=image, regions=regions)
            return image, regions
        except (OSError, ValueError, KeyError) as error:
            reason = getattr(error, "strerror", None) or "damaged"
            raise UserError(
                f"{path}: cannot be used ({reason}); delete it or name a new folder"
            ) from None


def batches(pairs: Iterator[Pair], size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(sources, edited [N, 3, S, S], regions [N, S, S]) of at most `size` pairs each; none is dropped."""
    group: list[Pair] = []
    for pair in pairs:
        group.append(pair)
        if len(group) == size:
            yield _stack(group)
            group = []
    if group:
        yield _stack(group)


def _stack(group: list[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.stack([pair.source for pair in group]),
        torch.stack([pair.edited for pair in group]),
        torch.stack([pair.regions for pair in group]),
    )
