"""Steady faces: where scenes are cut, which faces of two frames are the same one, and smoothing over time.

The whole clip is known before any of it is edited, so every average looks forward as far as back and does
not lag behind a face that moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

WEIGHT = 0.2  # of a frame in its own average
_THUMBNAIL = (32, 32)
# A cut changes the picture by at least so many levels, and so many times as much as what is around it.
_LEVELS, _TIMES = 8.0, 3.0
_NEAR, _LIKE = (
    0.5,
    1.5,
)  # sides that one face moves, and the factor that it grows, from frame to frame at most
_GAP = 5  # frames for which a face may be lost
_REACH = 4  # averages reach so many times 1 / weight


def thumbnail(image: Image.Image) -> np.ndarray:  # => [32, 32, 3] float32
    """The part of a frame by which cuts are found."""
    return np.asarray(image.resize(_THUMBNAIL, Image.Resampling.BOX, reducing_gap=1), np.float32)


def cuts(changes: Sequence[float]) -> list[int]:
    """The frames that begin a new scene.

    changes: of each frame against the one before, mean absolute difference of thumbnails in levels; 0 for the
    first. A flash changes two in a row and is no cut; neither is a pan.
    """
    padded = np.pad(np.asarray(changes, np.float64), 1)
    around = np.maximum(padded[:-2], padded[2:])
    return np.flatnonzero((padded[1:-1] > _LEVELS) & (padded[1:-1] > _TIMES * around)).tolist()


@dataclass(eq=False)
class Track:
    """One face over the frames from `start` on.

    quads: [n, 4, 2] px; ws: [n, n_latent, style_dim] float32.
    """

    start: int
    quads: np.ndarray
    ws: np.ndarray

    @property
    def stop(self) -> int:
        return self.start + len(self.quads)

    @property
    def side(self) -> float:
        """Mean length of the quads' upper edges."""
        return float(np.hypot(*(self.quads[:, 3] - self.quads[:, 0]).T).mean())

    def quad(self, number: int) -> np.ndarray:
        """[4, 2] px in a frame of the clip."""
        return self.quads[number - self.start]

    def smoothed(self, weight: float) -> Track:
        return Track(self.start, smooth(self.quads, weight), smooth(self.ws, weight))


Seen = tuple[np.ndarray, np.ndarray]  # a face of a frame: quad [4, 2], ws [n_latent, style_dim]


@dataclass(eq=False)
class _Open:
    """A track in the making: frame -> the face."""

    faces: dict[int, Seen] = field(default_factory=dict)

    def closed(self) -> Track:
        """The track, straight between frames in which the face was lost."""
        known = sorted(self.faces)
        whole = np.arange(known[0], known[-1] + 1)
        after = np.searchsorted(known, whole)
        before = np.where(np.asarray(known)[after] == whole, after, after - 1)
        spans = np.maximum(np.asarray(known)[after] - np.asarray(known)[before], 1)
        share = (whole - np.asarray(known)[before]) / spans

        def filled(part: int) -> np.ndarray:
            values = np.stack([self.faces[number][part] for number in known])
            at = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
            return values[before] * (1 - at) + values[after] * at

        return Track(int(whole[0]), filled(0), filled(1))


def tracks(frames: Sequence[Sequence[Seen]], begins: Sequence[int], first: int = 0) -> list[Track]:
    """The faces of frames, the first of which is number `first`, as tracks; none crosses a scene's start."""
    running: list[_Open] = []
    done: list[_Open] = []
    scenes = set(begins)
    for number, seen in enumerate(frames, first):
        lost = [one for one in running if number in scenes or max(one.faces) < number - 1 - _GAP]
        done += lost
        running = [one for one in running if one not in lost]
        free = list(running)
        for face in seen:
            best = min(free, key=lambda one: _apart(one.faces[max(one.faces)][0], face[0]), default=None)
            if best is None or _apart(best.faces[max(best.faces)][0], face[0]) > 1:
                best = _Open()
                running.append(best)
            else:
                free.remove(best)
            best.faces[number] = face
    return [one.closed() for one in done + running]


def present(all_tracks: Sequence[Track], number: int, most: int | None = None) -> list[Track]:
    """The faces of a frame, the largest first by their mean over time; at most `most`."""
    found = [track for track in all_tracks if track.start <= number < track.stop]
    return sorted(found, key=lambda track: track.side, reverse=True)[:most]


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Between two quads: over 1 they are not one face in two frames that follow each other."""
    sides = [np.hypot(*(quad[3] - quad[0])) for quad in (a, b)]
    moved = np.hypot(*(a.mean(0) - b.mean(0))) / max(sides)
    return float(max(moved / _NEAR, abs(np.log(sides[0] / sides[1])) / np.log(_LIKE)))


def smooth(values: np.ndarray, weight: float = WEIGHT) -> np.ndarray:  # [n, ...] float
    """Averages over time, with weights in proportion to (1 - weight)^distance either way.

    An even motion comes out as it is: at the ends it is taken to go on.
    """
    count, reach = len(values), min(len(values) - 1, round(_REACH / weight))
    if weight >= 1 or reach < 1:
        return values
    before, after = values[reach:0:-1], values[-2 : -reach - 2 : -1]
    padded = np.concatenate([2 * values[0] - before, values, 2 * values[-1] - after])
    shares = (1 - weight) ** np.abs(np.arange(-reach, reach + 1))
    found = np.zeros_like(values)
    for number, share in enumerate(shares / shares.sum()):
        found += values.dtype.type(share) * padded[number : number + count]
    return found
