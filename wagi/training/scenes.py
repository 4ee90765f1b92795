"""Pairs of pictures from scenes of edits (`python -m wagi.portraits --scenes --memmap`, `wagi.scenes`)."""

import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from wagi.data import Item, PortraitMemmap
from wagi.errors import UserError
from wagi.portraits.edits import BASE, PER_SCENE, TURNED

PAIRS = tuple(itertools.permutations(range(PER_SCENE), 2))
# Scenes whose pairs stand together: the first pairs of the set, which are held out, are of many scenes, and
# none of these scenes is trained on when holdout is a multiple of all their pairs (500).
GROUP = 25


class ScenePairs:
    """Every ordered pair of pictures inside a scene: an edit of `image` to `edited`.

    Items have both with their masks and parameters, and
        base, edited_base [3, S, S]: the scene's first appearance in the views of the two: pictures of the
            same things.
        flow [2, S/2, S/2]: where in `image` is what each pixel of `edited` shows, (x, y) in pixels of that
            size; seen [1, S/2, S/2]: 1 where nothing hides it there. Both are 0 everywhere between two views
            that a generator drew, which nobody knows the flow of.
        pictures [2]: the numbers of the two in the folder.

    Raises UserError for a folder of anything else, and of fewer scenes than stand together (`GROUP`).
    """

    def __init__(self, path: str | Path, size: int) -> None:
        found = PortraitMemmap(path, size) if (Path(path) / "meta.json").is_file() else None
        if found is None or not found.scenes:
            raise UserError(
                f"{path}: no scenes of edits; render them with `python -m wagi.portraits --scenes "
                "--memmap`, or draw them with `python -m wagi.scenes`", 2,
            )  # fmt: skip
        self.pictures = found
        self.size, self.param_dim = size, self.pictures.param_dim
        self.root = self.pictures.root
        try:
            self.flows = np.load(self.root / "flows.npy", mmap_mode="r")
            self.seen = np.load(self.root / "seen.npy", mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: scenes without their flow ({error}); render them again", 2) from None
        if not len(self):
            few = len(found) // PER_SCENE
            text = f"{few} scenes, and pairs are taken from {GROUP} at a time; render {GROUP} or more"
            raise UserError(f"{path}: {text}", 2)

    def __len__(self) -> int:
        return len(self.pictures) // (PER_SCENE * GROUP) * GROUP * len(PAIRS)

    def get(self, index: int, flip: bool = False) -> Item:
        group, inside = divmod(index, GROUP * len(PAIRS))
        turn, scene = divmod(inside, GROUP)
        chosen = PAIRS[(7 * turn + 3 * scene) % len(PAIRS)]  # 7 and their number have no common divisor
        first = (group * GROUP + scene) * PER_SCENE
        before, after = (self.pictures.get(first + k, flip) for k in chosen)
        bases = [self.pictures.get(first + BASE[k], flip)["image"] for k in chosen]
        return {
            **self._motion(chosen, first),
            "image": before["image"],
            "mask": before["mask"],
            "params": before["params"],
            "edited": after["image"],
            "edited_mask": after["mask"],
            "edited_params": after["params"],
            "base": bases[0],
            "edited_base": bases[1],
            "pictures": torch.tensor([first + k for k in chosen]),
        }

    def _motion(self, chosen: tuple[int, int], first: int) -> Item:
        """The motion between the pictures of a pair: nothing when both show the same view."""
        number, factor = first + chosen[1], self.pictures.factor
        flow = torch.from_numpy(self.flows[number].astype(np.float32))
        seen = torch.from_numpy(self.seen[number].astype(np.float32))[None]
        if TURNED[chosen[0]] == TURNED[chosen[1]]:
            flow, seen = torch.zeros_like(flow), torch.ones_like(seen)
        if factor > 1:
            flow, seen = F.avg_pool2d(flow, factor) / factor, F.avg_pool2d(seen, factor)
        return {"flow": flow, "seen": seen}


def with_edits(batch: Item) -> Item:
    """A batch of N pairs (wagi.training.scenes) as one of 2 N images: the N edited ones follow."""
    if "edited" not in batch:
        return batch
    pairs = {"image": "edited", "params": "edited_params", "mask": "edited_mask"}
    return {name: torch.cat([batch[name], batch[edited]]) for name, edited in pairs.items()}
