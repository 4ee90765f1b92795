"""A clip in: its frames upright and in order, whatever is damaged."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from wagi_rt.errors import UserError

# swscale's numbers for bicubic, rounded, chroma at full width: by default it darkens by two levels.
EXACT = 0x4 | 0x40000 | 0x2000 | 0x4000
COLOURS = ("colorspace", "color_range", "color_primaries", "color_trc")  # how H.264 names them
_DEEP = 8  # bits of a channel, beyond which some are lost


def import_av() -> Any:
    """PyAV, its decoders' own messages off stderr; UserError where it is not installed."""
    try:
        import av
    except ImportError:
        raise UserError("videos need PyAV; run: pip install 'wagi[video]'", status=2) from None
    av.logging.set_level(None)
    return av


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """A clip's container for reading; UserError for what cannot be opened."""
    av = import_av()
    try:
        container = av.open(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not a video that can be read ({detail}); convert it to .mp4") from None
    with container:
        yield container


class Clip:
    """The first video stream of a file.

    times: when each frame is shown, ascending, in units of `base` seconds; a frame's number is its place
    there. (An AVI's frames are counted: its times are those of decoding.) size: of the upright frames. rate:
    frames per second, on average.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        self.notes: list[str] = []
        with opened(self.name) as container:
            stream = _video(container, self.name)
            self.base, self.rate = stream.time_base, stream.average_rate or stream.guessed_rate
            self.times, self.last = _times(container, stream)
            self._ordered = container.format.name == "avi"
        if not self.times:
            raise UserError(f"{self.name}: holds no frames with times; convert it to .mp4")
        self.count = len(self.times)
        self.rate = self.rate or Fraction(self.count) / (self.base * (self.times[-1] + self.last))
        if self._ordered:
            self.times, self.last, self.base = list(range(self.count)), 1, 1 / self.rate
        self._look()

    def _look(self) -> None:
        """The first frame says how all of them are to be shown."""
        first = next((frame for _, frame in self._decoded(0)), None)
        if first is None:
            raise UserError(f"{self.name}: no frame of it can be decoded; convert it to .mp4")
        self.rotation = round(first.rotation / 90) % 4
        width, height = first.width, first.height
        self.size = (height, width) if self.rotation % 2 else (width, height)
        self.colours = {
            name: getattr(first, name)
            for name in ("colorspace", "color_range", "color_primaries", "color_trc")
        }
        with opened(self.name) as container:
            aspect = _video(container, self.name).sample_aspect_ratio or Fraction(1)
        self.aspect = 1 / aspect if self.rotation % 2 and aspect else aspect
        if any(part.bits > _DEEP for part in first.format.components):
            self.notes.append("more than 8 bits, written with 8")

    def read(self, start: int, stop: int) -> Iterator[Image.Image | None]:
        """One picture for each frame of the range; None for one that cannot be decoded."""
        number = start
        for at, frame in self._decoded(start):
            if at < number:
                continue
            while number < min(at, stop):
                yield None
                number += 1
            if number >= stop:
                return
            pixels = frame.to_ndarray(format="rgb24", interpolation=EXACT)
            yield Image.fromarray(np.ascontiguousarray(np.rot90(pixels, self.rotation)))
            number += 1
        for _ in range(number, stop):
            yield None

    def _decoded(self, start: int) -> Iterator[tuple[int, Any]]:
        """(number, frame) of what can be decoded, from the key frame before `start` on."""
        av = import_av()
        with opened(self.name) as container:
            stream = _video(container, self.name)
            stream.thread_type = "AUTO"
            order = 0
            if start and not self._ordered:
                with suppress(av.FFmpegError):
                    container.seek(self.times[start], stream=stream)
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                    frames = [] if packet is None else packet.decode()
                except av.FFmpegError:  # a damaged packet: its frame is missing
                    order += 1
                    continue
                for frame in frames:
                    at = order if self._ordered else bisect_left(self.times, frame.pts or 0)
                    order += 1
                    if not frame.is_corrupt:
                        yield at, frame
                if packet is None:
                    return


def _video(container: Any, name: str) -> Any:
    if not container.streams.video:
        raise UserError(f"{name}: has no video stream; name a clip")
    return container.streams.video[0]


def _times(container: Any, stream: Any) -> tuple[list[int], int]:
    """(times of all frames, the length of the last one), from the packets alone."""
    av = import_av()
    found: dict[int, int] = {}
    packets = container.demux(stream)
    with suppress(av.FFmpegError):  # the end of a file that was cut off
        for packet in packets:
            if packet.size and packet.pts is not None and not packet.is_discard:
                found[packet.pts] = packet.duration or 0
    times = sorted(found)
    return times, found[times[-1]] if times else 0
