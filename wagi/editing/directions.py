"""Editing directions as files: the format that `python -m wagi.convert` gives public ones, bound to one W."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from wagi import checkpoint
from wagi.errors import UserError
from wagi.portraits.edits import Edit


class Direction(NamedTuple):
    """A unit vector [1 or n_latent, D] in W towards more of a parameter, and its length per unit of that."""

    vector: np.ndarray
    strength: float


def latent_space(encoder: nn.Module, generator: nn.Module) -> str:
    """A name for the W that an encoder and a generator share: equal weights give the same name."""
    digest = hashlib.sha256()
    for module in (encoder, generator):
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def generator_hash(generator: nn.Module) -> str:
    """The name of a generator in bundles and directions: a direction has meaning in its latents alone."""
    digest = hashlib.sha256()
    for name, value in sorted(generator.state_dict().items()):
        digest.update(f"{name} {list(value.shape)} ".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def path_of(folder: Path, change: Edit, way: str) -> Path:
    """The file of a direction: edits of one parameter share it, in either sense."""
    name = change.parameter + (f"={change.option}" if change.option else "")
    return folder / f"{name}-{way}.safetensors"


def write(path: Path, found: Direction, facts: Mapping[str, str]) -> None:
    """Store a direction, with its origin among the facts. UserError when the disk says no."""
    vector = torch.from_numpy(np.ascontiguousarray(found.vector, np.float32))
    words = {
        **checkpoint.LABEL,
        "kind": "interfacegan",
        **facts,
        "styles": "all" if len(vector) == 1 else str(len(vector)),
        "style_dim": str(vector.shape[1]),
        "strength": repr(found.strength),
    }
    checkpoint.save_safetensors(path, {"direction": vector}, words, half=False)


def read(path: Path, space: str) -> Direction:
    """A direction that `write` left for this latent space. Raises UserError."""
    state, words = checkpoint.read_safetensors(path)
    if words.get("latent_space") != space or "strength" not in words or "direction" not in state:
        raise UserError(
            f"{path}: not a direction in this model's latent space; find it again with "
            "`python -m wagi.evaluate directions`"
        )
    return Direction(state["direction"].numpy(), float(words["strength"]))
