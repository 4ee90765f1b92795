"""Editing directions: InterFaceGAN boundaries and GANSpace components as directions of the runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wagi.config import ModelConfig
from wagi.conversion.sources import Source, tensor, tensors
from wagi.errors import UserError
from wagi.networks.build import build_part
from wagi_rt.directions import STYLE, SUFFIX, Direction, content
from wagi_rt.files import write_atomic

_UNIT = "one standard deviation of W"
_WIDEST, _W = 4096, 512  # most numbers of a latent, and those of public ones; StyleSpace has 9088 channels


def boundary(source: Source) -> dict[str, Any]:
    """A direction [D] for all styles or [n, D], from [D], [1, D], [n, D], [1, n, D] or [n, 1, D].

    One in style space [C] from [1, C], the channels of all layers as they run (StyleSpace). Its file is a
    direction of the runtime (wagi_rt.directions), whose measurements nobody knows.
    """
    where, found = str(source.path), source.content
    if isinstance(found, Mapping):
        found = found.get("vector")
    if isinstance(found, np.ndarray):
        if found.dtype.kind != "f":
            raise UserError(f"{where}: an array of {found.dtype}, a direction is floating point")
        found = torch.from_numpy(np.array(found, dtype=np.float32))
    if not isinstance(found, Tensor):
        raise UserError(f"{where}: neither a direction nor a state dict")
    value = tensor(found, where)
    if value.ndim == 1:
        value = value[None]
    if value.ndim == 3 and 1 in value.shape[:2]:
        value = value.reshape(-1, value.shape[2])
    if value.ndim == 2 and value.shape[1] > _WIDEST:
        if len(value) > 1 or not value.shape[1] % _W:
            what = f"{value.shape[1]} numbers per row are W+ laid flat, or many boundaries"
            raise UserError(f"{where}: {what}; give [1, D], [1, styles, D] or StyleSpace's [1, channels]")
        facts = {"space": STYLE, "channels": str(value.shape[1]), **_made_for(source)}
        return {"flat": {"vector": value[0].contiguous()}, "facts": facts}
    if value.ndim != 2 or not 1 <= len(value) <= 18 or value.shape[1] < 2:
        raise UserError(f"{where}: shape {list(found.shape)}, a direction has [1, D] or [1, styles, D]")
    facts = {"styles": "all" if len(value) == 1 else str(len(value)), "style_dim": str(value.shape[1])}
    vector = value[0] if len(value) == 1 else value
    return {"flat": {"vector": vector.contiguous()}, "facts": {**facts, **_made_for(source)}}


def components(source: Source) -> dict[str, Any]:
    """mean [D], comp [K, D], std [K] from the public mean [1, D], comp [K, 1, D], std [K]."""
    where, content = str(source.path), source.content
    found = tensors({name: content[name] for name in ("mean", "comp", "std") if name in content}, where)
    if sorted(found) != ["comp", "mean", "std"]:
        raise UserError(f"{where}: GANSpace components are mean, comp and std; found {', '.join(found)}")
    mean, std = found["mean"].flatten(), found["std"].flatten()
    comp = found["comp"].reshape(len(found["comp"]), -1) if found["comp"].ndim > 1 else found["comp"][None]
    if comp.shape != (len(std), len(mean)):
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in found.items())
        raise UserError(f"{where}: shapes do not belong together: {shapes}")
    facts = {"components": str(len(std)), "style_dim": str(len(mean)), **_made_for(source)}
    return {"flat": {"mean": mean, "comp": comp.contiguous(), "std": std}, "facts": facts}


def write_components(folder: Path, state: Mapping[str, Tensor], source: Source, generator: str) -> None:
    """A direction of the runtime for each component, in a new folder; a unit is one standard deviation.

    generator: the hash of its weights, "" where nobody knows. Raises UserError.
    """
    steps = (state["comp"] * state["std"][:, None]).float().numpy()
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in source.path.stem)[:60]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for k, step in enumerate(steps):
            direction = Direction(f"{name}-{k:02d}", step, _UNIT, generator=generator, note="ganspace")
            write_atomic(folder / f"{direction.name}{SUFFIX}", content(direction))
    except OSError as error:
        raise UserError(f"-o {folder}: cannot be written ({error.strerror or error})") from None


def _made_for(source: Source) -> dict[str, str]:
    """For whose W: our own files say it, public ones were all made for StyleGAN2."""
    return {"made_for": source.metadata.get("made_for", "stylegan2")}


def require_fit(facts: Mapping[str, str], config: ModelConfig, where: str) -> None:
    """Refuse directions for a generator in whose W space they mean nothing."""
    styles, latents = facts.get("styles", "all"), config.n_latent
    if facts["made_for"] != config.generator:
        raise UserError(
            f"{where}: {mismatch(facts['made_for'], config)}; if this file was computed for the generator, "
            f"say so with --made-for {config.generator}"
        )
    if facts.get("space"):
        with torch.device("meta"):
            channels = build_part(config, "generator").space.channels  # type: ignore[union-attr]
        if facts["channels"] != str(channels):
            raise UserError(f"{where}: {facts['channels']} styles, the generator has {channels}")
        return
    if int(facts["style_dim"]) != config.style_dim:
        raise UserError(f"{where}: {facts['style_dim']} dimensions, the generator's W has {config.style_dim}")
    if styles != "all" and int(styles) != latents:
        raise UserError(f"{where}: for {styles} styles, the generator has {latents}")


def mismatch(made_for: str, config: ModelConfig) -> str:
    """Why a direction of one family does not fit a generator of another."""
    names = {"stylegan2": "StyleGAN2", "swagan": "SWAGAN"}
    return (
        f"{names[made_for]} directions do not fit a {names[config.generator]}: each network's W was learned "
        "on its own, so the same vector means something else there, and the number of styles differs "
        "(1024 px: StyleGAN2 18, SWAGAN 16); find directions in this generator's own W"
    )
