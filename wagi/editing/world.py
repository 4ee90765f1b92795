"""Labelled pictures in a model's latents: what directions are found and measured in."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from wagi.checkpoint import weights_hash
from wagi.data import Dataset, ImageFolder, PortraitMemmap, open_dataset, to_float
from wagi.editing.attributes import ATTRIBUTES, Attribute, Labels
from wagi.errors import UserError
from wagi.files import beside
from wagi.model import NaiveInverter
from wagi.portraits.edits import PER_SCENE

_BATCH = 32


@dataclass(frozen=True, eq=False)
class World:
    """Codes [N, L, D] of pictures, and values [N, A] of the attributes; params [N, 133] of portraits."""

    codes: np.ndarray
    values: np.ndarray
    attributes: list[Attribute]
    params: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.attributes]

    def part(self, chosen: slice) -> "World":
        """Some of the pictures."""
        params = None if self.params is None else self.params[chosen]
        return World(self.codes[chosen], self.values[chosen], self.attributes, params)


def portraits(model: NaiveInverter, data: str, keep: Path | None, first: int, count: int | None) -> World:
    """`count` rendered portraits (None: all) from number `first` on, with all attributes of portraits.

    Of scenes of edits the first whole scene begins it.
    """
    found = open_dataset(data, model.generator.size)
    if not found.param_dim:
        raise UserError(f"--data {data}: no rendered portraits; give --labels FILE for a folder of images", 2)
    whole = PER_SCENE if getattr(found, "scenes", False) else 1
    chosen = range(-(-first // whole) * whole, len(found) // whole * whole)[:count]
    if not chosen:
        raise UserError(f"--data {data}: {len(found)} pictures, none is left after the held-out ones", 2)
    params = np.stack([_params(found, index) for index in chosen])
    codes = _kept(model, found, data, chosen, keep)
    known = list(ATTRIBUTES.values())
    return World(codes, np.stack([one.of(params) for one in known], axis=1), known, params)


def photos(model: NaiveInverter, data: str, labels: Labels, keep: Path | None) -> World:
    """The images of a folder that have labels, with the labels' attributes."""
    found = open_dataset(data, model.generator.size)
    if not isinstance(found, ImageFolder):
        raise UserError(f"--data {data}: --labels are of a folder of images, or of celeba-hq:FOLDER:PART", 2)
    values = labels.of(found.files)
    chosen = np.flatnonzero(np.isfinite(values).all(axis=1)).tolist()
    if not chosen:
        raise UserError(f"--labels: names none of the {len(found)} images in {data}", 2)
    chosen = _readable(found, chosen)
    values = values[chosen]
    known = [_labelled(name, values[:, k]) for k, name in enumerate(labels.names)]
    return World(_kept(model, found, data, chosen, keep), values, known)


def codes(model: NaiveInverter, data: str, keep: Path | None) -> np.ndarray:  # => N,L,D
    """Codes of all pictures of a data set that can be read."""
    found = open_dataset(data, model.generator.size)
    chosen = list(range(len(found)))
    return _kept(model, found, data, _readable(found, chosen), keep)


def _readable(found: Dataset, chosen: list[int]) -> list[int]:
    """Those that decode: a data set gives the neighbour of one that does not."""
    if not isinstance(found, ImageFolder):
        return chosen
    return [index for index in chosen if found.pixels(index) is not None]


def _labelled(name: str, values: np.ndarray) -> Attribute:
    """The attribute of a column of labels: a step is from one of two values to the other, or a deviation."""
    if len(np.unique(values)) == 2:
        return Attribute(name, np.zeros(0), float(np.ptp(values)), "from absent to present")
    return Attribute(name, np.zeros(0), float(values.std()), "one standard deviation")


def _params(found: Dataset, index: int) -> np.ndarray:
    if isinstance(found, PortraitMemmap):
        return np.array(found.parameters[index])
    from wagi.portraits import dataset, vector

    return vector(dataset.portrait(found.seed, index))  # type: ignore[attr-defined]


def _kept(
    model: NaiveInverter, found: Dataset, data: str, chosen: Sequence[int], keep: Path | None
) -> np.ndarray:
    """Codes of the chosen pictures, from the folder of kept ones where an earlier run left them there."""
    if keep is None:
        return _encode(model, found, chosen)
    words = *map(weights_hash, (model.encoder, model.generator)), _state(found, data), str(list(chosen))
    path = keep / f"codes-{hashlib.sha256('|'.join(words).encode()).hexdigest()[:16]}.npy"
    try:
        if path.is_file():
            return np.load(path)
        keep.mkdir(parents=True, exist_ok=True)
        codes = _encode(model, found, chosen)
        with beside(path) as part, open(part, "wb") as file:
            np.save(file, codes)
    except (OSError, ValueError) as error:
        raise UserError(f"--keep {keep}: cannot be used ({error}); name a new folder") from None
    return codes


def _state(found: Dataset, data: str) -> str:
    """The words that a set of pictures is known by: equal words, equal pictures."""
    if isinstance(found, PortraitMemmap):
        settings = f"{found.seed} {found.edited} {found.scenes} {found.images.shape}"
        return f"{found.root.resolve()} {settings} {(found.root / 'images.npy').stat().st_ino}"
    if isinstance(found, ImageFolder):
        stats = [file.stat() for file in found.files]
        return " ".join(
            f"{file} {s.st_size} {s.st_mtime_ns}" for file, s in zip(found.files, stats, strict=True)
        )
    return data


@torch.no_grad()
def _encode(model: NaiveInverter, found: Dataset, chosen: Sequence[int]) -> np.ndarray:  # => N,L,D
    codes = []
    for first in tqdm(range(0, len(chosen), _BATCH), "codes", disable=None):
        images = [_image(found, index) for index in chosen[first : first + _BATCH]]
        codes.append(model.encode(torch.stack(images).to(model.generator.latent_avg)).cpu().numpy())
    return np.concatenate(codes)


def _image(found: Dataset, index: int) -> torch.Tensor:
    if isinstance(found, ImageFolder):
        pixels = found.pixels(index)
        assert pixels is not None
        return to_float(pixels)
    return found.get(index, False)["image"]
