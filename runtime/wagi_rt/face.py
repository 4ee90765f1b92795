"""A picture that was opened once and is edited as often as wanted."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wagi_rt import files, naive, pictures
from wagi_rt.directions import Direction
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.chain import Tensors
    from wagi_rt.manifest import Manifest
    from wagi_rt.pictures import Prepared
    from wagi_rt.results import Result
    from wagi_rt.session import Session


class Face:
    """A picture as the model knows it, made by Session.open; threads may share it as they may the session.

    ws: float32, [n_latent, style_dim], and rows of style offsets where the model takes them. kept: what its
    edits start from, a batch of one (Session.encode).
    """

    def __init__(self, session: Session, kept: Tensors, prepared: Prepared) -> None:
        self.session, self.kept, self.prepared = session, kept, prepared
        self.ws: np.ndarray = kept["ws"][0]
        missed = naive.far(session.manifest, kept["naive_r"][0], kept["image_r"][0])
        self.notes = [*prepared.notes, *([f"{missed}: is the face aligned?"] if missed else [])]

    @cached_property
    def image(self) -> np.ndarray:  # [S, S, 3] uint8
        """The inversion: the edit that changes nothing."""
        return self.edit().image

    @cached_property
    def naive_r(self) -> np.ndarray:  # [R, R, 3] uint8
        """The naive inversion at the residual's resolution."""
        return pictures.to_uint8(self.kept["naive_r"])[0]

    def edit(
        self,
        strengths: Mapping[str | Direction, float] | None = None,
        /,
        *,
        text: str | None = None,
        neutral: str | None = None,
        text_strength: float = 1,
        **more: float,
    ) -> Result:
        """The picture with more of some attributes: `edit({"smile": 1, "yaw": -0.3})` or `edit(smile=1)`.

        Keys are names of the bundle's directions, or directions read from files. Strengths outside the range
        that was measured are applied, with a note. UserError (status 2) for what is unknown or no number.
        text, neutral: also towards one text from another, where the bundle has a text model:
        `edit(text="a smiling man", neutral="a man")`.
        """
        if text is not None:
            from wagi_rt import worded

            direction = worded.of_session(self.session).direction(text, neutral)
            strengths = {**(strengths or {}), direction: text_strength}
        wanted = resolve(self.session, {**(strengths or {}), **dict[str | Direction, float](more.items())})
        return self.render(self.ws + shift(self.session.manifest, wanted), range_notes(wanted))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep what edits need, for Session.reopen and `wagi-rt edit --from`. Raises UserError."""
        from wagi_rt import latents

        files.write_atomic(Path(path), latents.content(self.session.manifest, self.kept, self.prepared))

    def render(self, ws: np.ndarray, notes: list[str] | None = None) -> Result:
        """The picture at latents of your own, of the shape Manifest.latents or [n_latent, style_dim]."""
        wanted = self.session.manifest.latents
        ws = np.asarray(ws, np.float32)
        if ws.shape == (self.session.manifest.n_latent, wanted[1]):
            ws = np.pad(ws, ((0, wanted[0] - len(ws)), (0, 0)))  # no offsets
        if ws.shape != wanted:
            raise UserError(f"latents must be {list(wanted)}, these are {list(ws.shape)}", status=2)
        edited = self.session.edit(self.kept, ws[None])
        result = self.session.results(edited, [self.prepared])[0]
        result.notes = [*self.notes, *(notes or [])]
        return result


Wanted = list[tuple[Direction, float]]


def resolve(session: Session, strengths: Mapping[str | Direction, float]) -> Wanted:
    """Directions in place of names, each checked against the model, with strengths that are numbers."""
    manifest, found = session.manifest, []
    for key, strength in strengths.items():
        if isinstance(key, Direction):
            manifest.require_fit(key, f"direction '{key.name}'")
            direction = key
        else:
            direction = session.direction(key)
        if isinstance(strength, bool) or not isinstance(strength, int | float | np.number):
            raise UserError(f"{direction.name}={strength}: the strength must be a number", status=2)
        if not math.isfinite(strength):
            raise UserError(f"{direction.name}={strength}: the strength must be finite", status=2)
        found.append((direction, float(strength)))
    return found


def shift(manifest: Manifest, wanted: Wanted) -> np.ndarray:  # => Manifest.latents
    """The step in the latents of all of them together."""
    total = np.zeros(manifest.latents, np.float32)
    for direction, strength in wanted:
        total += direction.shift(strength, manifest.n_latent, manifest.latents)
    return total


def range_notes(wanted: Wanted) -> list[str]:
    """One for each strength at which nobody has measured what happens."""
    return [
        f"{direction.name}={strength:g}: outside {direction.range[0]:g} to {direction.range[1]:g}, "
        "where its effect was measured"
        for direction, strength in wanted
        if direction.range and not direction.range[0] <= strength <= direction.range[1]
    ]
