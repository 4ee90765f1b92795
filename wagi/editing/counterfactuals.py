"""Counterfactual pairs: portraits, and the true pictures of the same scenes with one parameter changed.

No face data set has them; a renderer whose random choices each have their own stream does (decision 38).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wagi.data import to_float
from wagi.errors import UserError
from wagi.files import beside
from wagi.portraits import LABELS, Portrait, dataset, edit, render_regions
from wagi.portraits.edits import Edit
from wagi.portraits.motion import motion
from wagi.portraits.scene import render_both

SOURCE = "source"
LAYOUT = 2  # of the kept files
# What a portrait wears, which the renderer's labels call accessory: numbers after those of LABELS.
WORN = ("glasses", "earrings")
TURNS = ("yaw", "pitch", "roll")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Pair:
    """One portrait and its true edit, or a batch of them: pictures [3, S, S] in [-1, 1], facts of the edit.

    regions: [S, S], LABELS and then WORN. newly, flow: of turns only, at r = min(256, S): what the source
    hides [1, r, r] (0 or 1), and the way of each pixel to its place there [2, r, r] (x, y) in pixels.
    """

    source: Tensor
    edited: Tensor
    regions: Tensor
    newly: Tensor | None
    flow: Tensor | None


@dataclass(frozen=True)
class Pairs:
    """The first `count` portraits of data set `seed` to which an edit applies, rendered at most once.

    `folder` keeps every picture; a stopped run goes on where it was, and edits share their sources.
    """

    folder: Path
    seed: int
    size: int
    count: int

    def chosen(self, change: Edit | None) -> list[int]:
        """Indices of the portraits that the edit can be applied to; None is the edit of nothing."""
        if change is None:
            return list(range(self.count))
        portraits = ((k, dataset.portrait(self.seed, k)) for k in range(100 * self.count))
        found = list(islice((k for k, one in portraits if change.apply(one)), self.count))
        if len(found) < self.count:
            raise UserError(f"{change.text}: applies to hardly any portrait; make it smaller", 2)
        return found

    def fits(self, change: Edit | None) -> bool:
        """True when the edit can be applied to as many portraits as are asked for."""
        try:
            return bool(self.chosen(change))
        except UserError:
            return False

    def __call__(self, change: Edit | None, indices: Sequence[int] | None = None) -> Iterator[Pair]:
        """The pairs of one edit, in the order of the data set; of these portraits, which it must fit."""
        for index in self.chosen(change) if indices is None else indices:
            portrait = dataset.portrait(self.seed, index)
            source = self._kept(SOURCE, index, portrait)
            found = source
            if change is not None:
                edited = change.apply(portrait)
                assert edited is not None
                turned = portrait if change.parameter in TURNS else None
                found = self._kept(change.text, index, edited, turned)
            pictures = to_float(source["image"]), to_float(found["image"])
            regions = torch.from_numpy(found["regions"])
            yield Pair(*pictures, regions, _floats(found, "newly"), _floats(found, "flow"))

    def _kept(self, name: str, index: int, portrait: Portrait, before: Portrait | None = None) -> Arrays:
        world = f"v{dataset.VERSION}-{self.size}px-seed{self.seed}-{LAYOUT}"
        path = self.folder / world / name / f"{index:06d}.npz"
        try:
            if path.is_file():
                with np.load(path) as stored:
                    return {key: stored[key] for key in stored.files}
            path.parent.mkdir(parents=True, exist_ok=True)
            found = _rendered(portrait, before, self.size)
            with beside(path) as part, open(part, "wb") as file:
                np.savez_compressed(file, **found)  # type: ignore[arg-type]
            return found
        except (OSError, ValueError, KeyError) as error:
            reason = getattr(error, "strerror", None) or "damaged"
            raise UserError(
                f"{path}: cannot be used ({reason}); delete it or name a new folder"
            ) from None


def _rendered(portrait: Portrait, before: Portrait | None, size: int) -> Arrays:
    """image, regions, and with the portrait before a turn newly and flow."""
    image, regions = render_both(portrait, size)
    found = {"image": image, "regions": regions.copy()}
    for number, name in enumerate(WORN, len(LABELS)):
        if getattr(portrait, name) != "none":  # the renderer calls both accessory
            without = render_regions(edit(portrait, **{name: "none"}), size)
            accessory = LABELS.index("accessory")
            found["regions"][(regions == accessory) & (without != accessory)] = number
    if before is not None:
        flow, seen = motion(portrait, before, min(256, size))
        found |= {"newly": ~seen[None], "flow": flow.astype(np.float16)}
    return found


def _floats(found: Arrays, name: str) -> Tensor | None:
    return torch.from_numpy(found[name].astype(np.float32)) if name in found else None


def batches(pairs: Iterator[Pair], size: int) -> Iterator[Pair]:
    """At most `size` pairs each, stacked; none is dropped."""
    while group := list(islice(pairs, size)):
        yield _stack(group)


def _stack(group: list[Pair]) -> Pair:
    def stacked(name: str) -> Any:
        values = [getattr(pair, name) for pair in group]
        return None if values[0] is None else torch.stack(values)

    return Pair(*map(stacked, ("source", "edited", "regions", "newly", "flow")))
