"""Clips and numbered pictures: frames in, faces followed over time, frames out with the sound of the clip.

clips, writing: files by PyAV (the extra `video`), which is imported when a clip is opened. sequences:
numbered pictures. quads: faces of frames that a file names. steady: cuts, tracks of faces, smoothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

READ = frozenset(".mp4 .mov .m4v .mkv .webm .avi .mts .m2ts .ts .mpg .mpeg .wmv .3gp".split())
WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}  # and their formats by name


class Frames(Protocol):
    """A moving picture of `count` frames, numbered from 0. notes: what a user should know of it."""

    name: str
    count: int
    notes: list[str]

    def read(self, start: int, stop: int) -> Iterator[Image.Image | None]:
        """One upright RGB picture for each frame of the range, None for one that cannot be decoded."""
        ...


def is_clip(path: str) -> bool:
    """True for what is read or written as one file with frames, by its ending."""
    return Path(path).suffix.lower() in READ | set(WRITTEN) and not os.path.isdir(path)


def is_moving(inputs: Sequence[str], output: str | None) -> bool:
    """True where a command reads or writes a clip or numbered pictures, such as frame_%05d.png."""
    return any(is_clip(path) or "%" in os.path.basename(path) for path in [*inputs, output or ""])


def mended(frames: Iterable[Image.Image | None]) -> Iterator[tuple[Image.Image, bool]]:
    """Every frame, and False where the last good one stands for it (at the start: the first good one)."""
    last: Image.Image | None = None
    waiting = 0
    for frame in frames:
        if frame is None and last is None:
            waiting += 1
            continue
        if frame is not None:
            for _ in range(waiting):
                yield frame, False
            waiting, last = 0, frame
        assert last is not None
        yield last, frame is not None
