"""Numbered pictures as a moving picture: a folder's, or those of a pattern such as frame_%05d.png."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from wagi_rt import decoding, files, pictures
from wagi_rt.errors import UserError

PATTERN = re.compile(r"%0?(\d*)d")
DEFAULT = "frame_%05d.png"  # of pictures for which only a folder is named


class Sequence:
    """The pictures of a folder by name, or those whose numbers fit a pattern, in the order of the numbers.

    files: their paths; size: of the first that can be read.
    """

    def __init__(self, path: str) -> None:
        self.name, self.notes = path, list[str]()
        self.files = _folder(path) if os.path.isdir(path) else _numbered(path)
        if not self.files:
            raise UserError(f"{path}: no pictures of this name; check the folder and the pattern")
        self.count = len(self.files)
        first = next((one for one in map(self._read, self.files) if one is not None), None)
        if first is None:
            raise UserError(f"{path}: no picture of it can be read; check one of them")
        self.size = first.size

    def read(self, start: int, stop: int) -> Iterator[Image.Image | None]:
        """Pictures that cannot be read, or are of another size than the first, are damaged frames."""
        for path in self.files[start:stop]:
            image = self._read(path)
            yield image if image is not None and image.size == self.size else None

    def _read(self, path: str) -> Image.Image | None:
        try:
            return decoding.decode(path).pixels
        except UserError:
            return None


def _folder(path: str) -> list[str]:
    names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    return [os.path.join(path, name) for name in names if Path(name).suffix.lower() in decoding.READ_SUFFIXES]


def _numbered(pattern: str) -> list[str]:
    folder, name = os.path.split(pattern)
    before, digits, after = PATTERN.split(name)
    wanted = re.compile(rf"{re.escape(before)}(\d{{{int(digits or 1)},}}){re.escape(after)}")
    found = {}
    for one in os.listdir(folder or ".") if os.path.isdir(folder or ".") else []:
        if match := wanted.fullmatch(one):
            found[int(match[1])] = os.path.join(folder, one)
    return [found[number] for number in sorted(found)]


class PictureWriter:
    """Numbered pictures out, each there as a whole or not at all."""

    def __init__(self, names: list[str]) -> None:
        self._names = iter(names)

    def put(self, image: Image.Image) -> None:
        import numpy as np

        path = Path(next(self._names))
        files.write_atomic(path, pictures.encode(np.asarray(image), path.suffix.lower()))


def named(place: str, numbers: range, files: list[str] | None) -> list[str]:
    """The files that frames are written to: of a pattern, or in a folder, named like `files` if any."""
    folder, name = os.path.split(place)
    if PATTERN.search(name):
        return [os.path.join(folder, name % number) for number in numbers]
    if files is None:
        return [os.path.join(place, DEFAULT % number) for number in numbers]
    return [os.path.join(place, f"{Path(files[number]).stem}.png") for number in numbers]
