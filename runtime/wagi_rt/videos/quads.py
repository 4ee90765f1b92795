"""Faces of a clip as JSON, by the name of the clip: {clip: faces}. `faces` is one of

    [face, ...]                          the same in every frame
    [[face, ...], [face, ...], ...]      one list for each frame
    {"0": [face, ...], "50": [face]}     from these frames on; straight in between where their number stays

A face, and its coordinates, are those of wagi_rt.faces.quads; frames are numbered from 0, in the whole clip.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from wagi_rt.faces import quads


class ClipQuads(quads.Quads):
    """The quads of one clip out of a file. UserError in one line where there are none."""

    form = '{clip: [{"quad": [[x, y], ...]}, ...]}, {clip: [[face, ...], ...]} or {clip: {"0": [face, ...]}}'

    def __init__(self, path: str, clip: str) -> None:
        super().__init__(path)
        self._keys: dict[int, list[np.ndarray]] = self.entry(clip)
        self._numbers = sorted(self._keys)

    def parsed(self, faces: Any) -> dict[int, list[np.ndarray]]:
        """Frame -> quads, of any of the three forms."""
        if isinstance(faces, dict):
            found = {int(number): _quads(some) for number, some in faces.items()}
        elif faces and isinstance(faces[0], list):
            found = dict(enumerate(map(_quads, faces)))
        else:
            found = {0: _quads(faces)}
        if not found or min(found) < 0:
            raise ValueError("frames are numbered from 0")
        return found

    def at(self, number: int) -> list[np.ndarray]:
        """The quads [4, 2] of a frame."""
        place = bisect_right(self._numbers, number)
        before = self._numbers[max(place - 1, 0)]
        after = self._numbers[min(place, len(self._numbers) - 1)]
        here, there = self._keys[before], self._keys[after]
        if after <= before or len(here) != len(there):
            return here
        share = max(number - before, 0) / (after - before)
        return [a + (b - a) * share for a, b in zip(here, there, strict=True)]


def _quads(faces: Any) -> list[np.ndarray]:
    return [quads.parse(face).quad for face in faces]
