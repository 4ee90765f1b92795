"""Rendered identities: the same head under other poses, faces pulled, lights, clothes and places."""

import dataclasses
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wagi.errors import UserError
from wagi.files import beside
from wagi.portraits import Portrait, render
from wagi.portraits.dataset import portrait

# What makes a person; every other parameter, the seed of single hairs and freckles too, changes by view.
IDENTITY = (
    "head_width", "jaw", "chin", "cheeks", "nose_length", "nose_width", "eye_size", "eye_spacing",
    "mouth_width", "lips", "brow_height", "brow_weight", "skin", "age", "freckles", "scar", "hair_length",
    "hair_volume", "hair_wave", "fringe", "part", "hairline", "hair_style", "beard", "hair_colour",
    "iris_colour", "lip_colour",
)  # fmt: skip
SIZE = 64
BLOCK = 32  # identities per file


@dataclasses.dataclass(frozen=True)
class Identities:
    """`identities:SEED:COUNT:VIEWS`."""

    seed: int
    count: int
    views: int

    @classmethod
    def parse(cls, text: str) -> "Identities":
        """Raises UserError for anything else."""
        try:
            kind, *numbers = text.split(":")
            seed, count, views = (int(number) for number in numbers)
        except ValueError:
            kind, seed, count, views = "", 0, 0, 0
        if kind != "identities" or seed < 0 or count < 4 or views < 2:
            raise UserError(
                f"--data {text}: write identities:SEED:COUNT:VIEWS, COUNT 4 or more, VIEWS 2 or more", 2
            )
        return cls(seed, count, views)

    def portrait(self, identity: int, view: int) -> Portrait:
        """Another random portrait that wears this identity."""
        person = portrait(self.seed, identity)
        scene = portrait(self.seed + 1, identity * self.views + view)
        return dataclasses.replace(scene, **{name: getattr(person, name) for name in IDENTITY})


def _render(task: tuple[Identities, int]) -> tuple[np.ndarray, list[float]]:
    data, identity = task
    portraits = [data.portrait(identity, view) for view in range(data.views)]
    return np.stack([render(one, SIZE) for one in portraits]), [one.yaw for one in portraits]


def rendered(data: Identities, folder: Path, workers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Views uint8 [COUNT, VIEWS, 64, 64, 3] and yaw [COUNT, VIEWS] in radians.

    Files of `BLOCK` identities stay in `folder`; what is there from an earlier call is not rendered again.
    """
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    blocks = []
    with tqdm(total=data.count, unit="identity") as bar:
        for start in range(0, data.count, BLOCK):
            people = range(start, min(start + BLOCK, data.count))
            path = folder / f"{data.seed}-{data.views}-{start:05d}-{len(people)}.npz"
            if not path.exists():
                views, yaws = zip(*_mapped([(data, one) for one in people], workers), strict=True)
                with beside(path) as part, open(part, "wb") as file:
                    np.savez(file, views=np.stack(views), yaws=np.array(yaws, np.float32))
            with np.load(path) as block:
                blocks.append((block["views"], block["yaws"]))
            bar.update(len(people))
    views, yaws = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return views, yaws


def _mapped(tasks: list, workers: int) -> Iterator[tuple[np.ndarray, list[float]]]:
    if workers <= 1:
        yield from map(_render, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_render, tasks)
