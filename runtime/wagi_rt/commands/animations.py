"""Sweeps as something that moves: there and back, as a GIF or a clip."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from wagi_rt import videos
from wagi_rt.commands.stages import put_file

SUFFIXES = (".gif", *videos.WRITTEN)
_FRAME_MS = 120


def write_animation(target: str, pixels: Sequence[np.ndarray]) -> None:  # each [S, S, 3] uint8
    """A clip where the target's ending says so, else a GIF, also on stdout. Raises UserError."""
    there = [Image.fromarray(np.ascontiguousarray(one)) for one in pixels]
    both = [*there, *there[-2:0:-1]]
    if not videos.is_clip(target):
        put_file(target, _gif(both))
        return
    from wagi_rt.videos.writing import Timing, clip_writer

    with clip_writer(Path(target), both[0].size, Timing.even(len(both), Fraction(1000, _FRAME_MS))) as writer:
        for frame in both:
            writer.put(frame)


def _gif(frames: Sequence[Image.Image]) -> bytes:
    """An animation that runs for ever."""
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0)
    return buffer.getvalue()
