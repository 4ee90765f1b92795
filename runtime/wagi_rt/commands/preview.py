"""A strip of frames for a first look: some frames of a clip above, the same ones edited below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from wagi_rt import files, pictures
from wagi_rt.errors import UserError

_MOST, _HEIGHT, _GAP = 6, 180, 4  # frames; px


class Preview:
    """The strip of `count` frames, evenly spaced, as they come."""

    def __init__(self, path: str, count: int) -> None:
        """UserError (status 2) for a name that is no picture's."""
        self._path = Path(path)
        if self._path.suffix.lower() not in pictures.WRITTEN:
            raise UserError(f"--preview {path}: must end in {', '.join(pictures.WRITTEN)}", status=2)
        some = min(_MOST, count)
        self._chosen = {round((2 * k + 1) * count / (2 * some) - 0.5) for k in range(some)}
        self._columns: list[tuple[Image.Image, Image.Image]] = []

    def add(self, place: int, before: Image.Image, after: Image.Image) -> None:
        """The frame at a place of the range, from 0 on."""
        if place in self._chosen:
            width = max(1, round(before.width * _HEIGHT / before.height))
            self._columns.append((before.resize((width, _HEIGHT)), after.resize((width, _HEIGHT))))

    def write(self) -> None:
        """The file, whole. UserError."""
        width = sum(column[0].width + _GAP for column in self._columns) - _GAP
        strip = Image.new("RGB", (width, 2 * _HEIGHT + _GAP), "white")
        left = 0
        for before, after in self._columns:
            strip.paste(before, (left, 0))
            strip.paste(after, (left, _HEIGHT + _GAP))
            left += before.width + _GAP
        files.write_atomic(self._path, pictures.encode(np.asarray(strip), self._path.suffix.lower()))
