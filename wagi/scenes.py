"""Pairs of pictures from scenes of edits (`python -m wagi.portraits --scenes --memmap`)."""

import itertools
from pathlib import Path

import torch

from wagi.data import Item, PortraitMemmap
from wagi.errors import UserError
from wagi.portraits.edits import BASE, PER_SCENE

PAIRS = tuple(itertools.permutations(range(PER_SCENE), 2))
# Scenes whose pairs stand together: the first pairs of the set, which are held out, are of many scenes, and
# none of these scenes is trained on when holdout is a multiple of all their pairs (500).
GROUP = 25


class ScenePairs:
    """Every ordered pair of pictures inside a scene: an edit of `image` to `edited`.

    Items have, besides both with their masks, `base` and `edited_base` [3, S, S]: the scene's first appearance
    in the views of the two, which are two pictures of the same things; and `pictures` [2], the numbers of the
    pair's pictures in the folder.

    Raises UserError for a folder of anything else.
    """

    def __init__(self, path: str | Path, size: int) -> None:
        self.pictures = PortraitMemmap(path, size)
        if not self.pictures.scenes:
            raise UserError(
                f"--data {path}: no scenes of edits; render them with `python -m wagi.portraits --scenes --memmap`",
                2,
            )
        self.size, self.param_dim = size, self.pictures.param_dim
        self.root = self.pictures.root

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
            "image": before["image"],
            "mask": before["mask"],
            "edited": after["image"],
            "edited_mask": after["mask"],
            "base": bases[0],
            "edited_base": bases[1],
            "pictures": torch.tensor([first + k for k in chosen]),
        }
