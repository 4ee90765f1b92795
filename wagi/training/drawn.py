"""Scenes of edits that a generator draws: true edits without labels or a renderer."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wagi.data import to_uint8
from wagi.errors import UserError
from wagi.files import contact_sheet, write_png
from wagi.networks.swagan import Generator
from wagi.portraits import dataset, vector
from wagi.portraits.edits import PER_SCENE
from wagi.portraits.folder import SAVE_EVERY, Folder
from wagi.portraits.parameters import NUM_PARAMETERS
from wagi.training.generator import scene_latent
from wagi_rt.directions import SUFFIX, Direction, read, require_fit

VERSION = 1  # of what a seed draws
_SHOWN = 12  # scenes on the contact sheet


class Edits(NamedTuple):
    """Directions that leave everything where it is, and those that turn; the range of those without one."""

    appearance: list[Direction]
    views: list[Direction]
    strength: float

    def facts(self) -> list[list[Any]]:
        """Facts that decide the edits, as JSON holds them."""
        kinds = (("appearance", self.appearance), ("view", self.views))
        return [
            [kind, one.name, *self.span(one), zlib.crc32(one.vector.tobytes())]
            for kind, known in kinds
            for one in known
        ]

    def span(self, direction: Direction) -> tuple[float, float]:
        """The strengths that a direction is drawn from."""
        return direction.range or (-self.strength, self.strength)

    def draw(self, rng: np.random.Generator, n_latent: int) -> np.ndarray:  # => PER_SCENE, n_latent, D
        """Changes of the latents of a scene: none, two edits, a turn, the first of them turned."""
        first, second, turn = (
            self._drawn(rng, known, n_latent) for known in (self.appearance, self.appearance, self.views)
        )
        return np.stack([np.zeros_like(turn), first, second, turn, first + turn])

    def _drawn(self, rng: np.random.Generator, known: Sequence[Direction], n_latent: int) -> np.ndarray:
        """One of the directions, at a strength of its span that is to be seen."""
        direction = known[int(rng.integers(len(known)))]
        low, high = self.span(direction)
        strength = 0.0
        while abs(strength) < (high - low) / 8:
            strength = float(rng.uniform(low, high))
        return direction.shift(strength, n_latent)


def read_edits(
    folder: Path, views: Sequence[str], strength: float, generator: Generator, origin: str
) -> Edits:
    """The edits of a folder of directions, those named `views` apart. Raises UserError, status 2."""
    found = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        direction = read(path)
        require_fit(direction, generator.n_latent, generator.style_dim, origin, str(path))
        found[direction.name] = direction
    if wrong := [name for name in views if name not in found]:
        raise UserError(f"--views {wrong[0]}: no such direction; there are {', '.join(found) or 'none'}", 2)
    appearance = [one for name, one in found.items() if name not in views]
    if not appearance:
        raise UserError(f"--directions {folder}: holds no direction that is not among --views", 2)
    return Edits(appearance, [found[name] for name in dict.fromkeys(views)], strength)


class Scenes(NamedTuple):
    """A generator's scenes of edits by number, whatever their count."""

    generator: Generator
    edits: Edits
    seed: int
    param_dim: int  # > 0: W is drawn from portraits' parameters, else from noise
    truncation: float

    @torch.no_grad()
    def latents(self, number: int) -> Tensor:  # => PER_SCENE, n_latent, style_dim
        """Of the pictures of a scene, in the order of wagi.portraits.edits.scene."""
        rng = np.random.default_rng([self.seed, number])
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        generator, device = self.generator, self.generator.latent_avg.device
        if self.param_dim:
            params = torch.from_numpy(vector(dataset.portrait(self.seed, number)))
            z = scene_latent(params[None], generator.style_dim, noise)
        else:
            z = torch.randn(1, generator.style_dim, generator=noise)
        w = generator.map(z.to(device), self.truncation)
        shifts = torch.from_numpy(self.edits.draw(rng, generator.n_latent))
        return generator.broadcast(w) + shifts.to(w)

    @torch.no_grad()
    def pictures(self, number: int) -> np.ndarray:  # => PER_SCENE, S, S, 3 uint8
        return to_uint8(self.generator(self.latents(number)))


def generate(out: Path, scenes: Scenes, count: int, origin: str, progress: bool = True) -> int:
    """Draw `count` scenes into a folder that `ScenePairs` reads; how many this call drew.

    A killed run is taken up by the same call. Labels are all background and there are no parameters. The flow
    is not known: `seen` is 0 everywhere, which says so. Raises UserError.
    """
    settings = {
        "count": count * PER_SCENE, "size": scenes.generator.size, "seed": scenes.seed, "scenes": True,
        "generator": origin, "edits": scenes.edits.facts(),
        "truncation": scenes.truncation, "version": VERSION,
    }  # fmt: skip
    folder = Folder(out, settings, 0, "scenes")
    first = folder.done // PER_SCENE
    try:
        arrays = folder.arrays()
        images = arrays["images"]
        for number in tqdm(range(first, count), "scenes", count, initial=first, disable=not progress):
            images[number * PER_SCENE : (number + 1) * PER_SCENE] = scenes.pictures(number)
            if (number + 1) % SAVE_EVERY == 0 or number + 1 == count:
                folder.save((number + 1) * PER_SCENE, arrays)
        shown = [np.asarray(image) for image in images[: _SHOWN * PER_SCENE]]
        write_png(out / "contact_sheet.png", contact_sheet(shown, PER_SCENE * 2))
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be written ({error.strerror or error}); free space or name another folder"
        ) from None
    return count - first


def check_parameters(param_dim: int, path: Path) -> None:
    """UserError for a generator that reads other parameters than a portrait has."""
    if param_dim not in (0, NUM_PARAMETERS):
        raise UserError(f"--model {path}: reads {param_dim} parameters, a portrait has {NUM_PARAMETERS}", 2)
