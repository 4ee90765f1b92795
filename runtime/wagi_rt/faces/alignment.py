"""The way from a photo to an upright square with one face and back, as a value that is kept with the result.

Coordinates are (x, y) in pixels of the upright photo, which covers [0, W] x [0, H]: the first pixel's centre
is at (0.5, 0.5). A quad has its corners in FFHQ's order: upper left, lower left, lower right, upper right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from wagi_rt.errors import UserError

FEATHER = 0.1  # of the side, at each border of a square that is put back
Box = tuple[int, int, int, int]  # left, top, right, bottom
_OUTSIDE = 4  # sides of the photo, beyond which nothing of a quad may lie


class Landmarks(NamedTuple):
    """Centres of the eyes and corners of the mouth; first those on the left of an upright picture."""

    eyes: np.ndarray  # [2, 2] px
    mouth: np.ndarray  # [2, 2] px

    @property
    def eye_distance(self) -> float:
        return float(np.hypot(*(self.eyes[1] - self.eyes[0])))

    def quad(self) -> np.ndarray:  # => [4, 2] px
        """The square that FFHQ cuts out: only the eyes and the mean of the mouth corners enter.

        Its direction is the mean of the eyes' and of the line across the eyes and the mouth.
        """
        across = self.eyes[1] - self.eyes[0]
        down = self.mouth.mean(0) - self.eyes.mean(0)
        right = across + np.array([down[1], -down[0]])
        length = np.hypot(*right)
        if not np.isfinite(length) or length == 0:
            raise UserError("eyes and mouth are in one place; check the landmarks")
        half = max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down))
        return square(self.eyes.mean(0) + 0.1 * down, right / length * half)


def square(centre: np.ndarray, right: np.ndarray) -> np.ndarray:  # => [4, 2] px
    """The quad around a centre whose right edge is at `right` from it."""
    below = np.array([-right[1], right[0]])
    return centre + np.stack([-right - below, -right + below, right + below, right - below])


class Alignment:
    """A quad of a photo and the size of the square that it becomes: `cut` and, the other way, `put`."""

    def __init__(self, quad: Sequence[Sequence[float]] | np.ndarray, size: int) -> None:
        """quad: [4, 2] px, a parallelogram with its corners in order, not mirrored; else UserError."""
        corners = np.asarray(quad, np.float64)
        if corners.shape != (4, 2) or not np.isfinite(corners).all():
            raise UserError("a quad is four corners of two finite numbers each")
        right, below = corners[3] - corners[0], corners[1] - corners[0]
        if right[0] * below[1] - right[1] * below[0] < 1:
            raise UserError("the corners of a quad go upper left, lower left, lower right, upper right")
        if np.abs(corners[0] + corners[2] - corners[1] - corners[3]).max() > 0.01 * np.hypot(*right):
            raise UserError("a quad must be a square or parallelogram")
        self.quad, self.size = corners, size

    @property
    def side(self) -> float:
        """The mean length of the quad's sides in px of the photo."""
        right, below = self.quad[3] - self.quad[0], self.quad[1] - self.quad[0]
        return float(np.hypot(*right) + np.hypot(*below)) / 2

    @cached_property
    def matrix(self) -> np.ndarray:  # [3, 3]
        """Homogeneous: from px of the square to px of the photo."""
        right, below = self.quad[3] - self.quad[0], self.quad[1] - self.quad[0]
        columns = np.stack([right / self.size, below / self.size, self.quad[0]], 1)
        return np.vstack([columns, [0.0, 0.0, 1.0]])

    @cached_property
    def inverse(self) -> np.ndarray:  # [3, 3]
        """Homogeneous: from px of the photo to px of the square."""
        return np.asarray(np.linalg.inv(self.matrix))

    def box(self, width: int, height: int) -> Box:
        """Left, top, right, bottom of the photo's pixels that the quad touches."""
        low, high = np.floor(self.quad.min(0)), np.ceil(self.quad.max(0))
        left, top = (int(v) for v in low.clip(0, (width, height)))
        right, bottom = (int(v) for v in high.clip(0, (width, height)))
        return left, top, right, bottom

    def cut(self, photo: Image.Image, mirror: bool = True) -> Image.Image:
        """The square out of an RGB photo, antialiased; outside of the photo its blurred mirror image, as in
        FFHQ, or without `mirror` black.

        A large part is shrunk first, to less than two of its px for one of the square; then the square is
        drawn, at twice its size where that is not enough, and made smaller with a Lanczos filter.
        """
        part, offset, scale = self._part(photo)
        if mirror:
            part, grown = _padded(part, (self.quad - offset) / scale, self.side / scale)
            offset = offset - grown * scale
        drawn = self.size * (1 if self.side <= scale * self.size else 2)
        matrix = self.matrix[:2] * [self.size / drawn, self.size / drawn, 1]
        matrix[:, 2] -= offset
        planes = []
        for band in part.split():
            plane = _transform(band.convert("F"), (drawn, drawn), matrix / scale)
            if drawn > self.size:
                plane = plane.resize((self.size, self.size), Image.Resampling.LANCZOS)
            planes.append(np.asarray(plane))
        return Image.fromarray(np.rint(np.stack(planes, -1)).clip(0, 255).astype(np.uint8))

    def _part(self, photo: Image.Image) -> tuple[Image.Image, np.ndarray, int]:
        """The part of the photo that is needed => (the part, where it begins, by what it is shrunk)."""
        middle = np.array(photo.size) / 2
        far = np.abs(self.quad.mean(0) - middle).max() + self.side / 2
        border = max(3, round(0.1 * self.side))
        grown = Alignment(self.quad + np.sign(self.quad - self.quad.mean(0)) * border, self.size)
        left, top, right, bottom = grown.box(*photo.size)
        if left >= right or top >= bottom or far > _OUTSIDE * max(photo.size):
            raise UserError("a quad lies outside of the photo; check its coordinates")
        factor = max(1, int(self.side / self.size))
        part = photo.crop((left, top, right, bottom))
        return part.reduce(factor) if factor > 1 else part, np.array([left, top], float), factor

    def put(self, square: np.ndarray, box: Box) -> np.ndarray:  # [S, S, C] => [h, w, C]
        """A square's values, any real numbers, where they lie in a box of the photo; antialiased, float32."""
        left, top, right, bottom = box
        drawn = min(self.size, max(2, round(self.side)))
        ratio = drawn / self.size
        inverse = self.inverse[:2] * ratio
        inverse[:, 2] += inverse[:, :2] @ (left, top)
        planes = []
        for channel in range(square.shape[2]):
            plane = Image.fromarray(np.ascontiguousarray(square[..., channel], np.float32))
            if ratio < 1:
                plane = plane.resize((drawn, drawn), Image.Resampling.LANCZOS)
            planes.append(np.asarray(_transform(plane, (right - left, bottom - top), inverse)))
        return np.stack(planes, -1)

    def place(self, box: Box) -> np.ndarray:  # => [h, w, 2]
        """The pixel centres of a box of the photo as positions in the square, whose borders are 0 and 1."""
        left, top, right, bottom = box
        x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
        m = self.inverse / self.size
        return np.stack([m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]], -1)


def _transform(plane: Image.Image, size: tuple[int, int], matrix: np.ndarray) -> Image.Image:
    """A float plane resampled: Pillow cuts the fractions of bytes off, which darkens by half a level."""
    return plane.transform(size, Image.Transform.AFFINE, matrix.ravel().tolist(), Image.Resampling.BICUBIC)


def _padded(part: Image.Image, quad: np.ndarray, side: float) -> tuple[Image.Image, np.ndarray]:
    """The part with what the quad wants outside of it => (picture, (x, y) by which it grew at left and top).

    FFHQ's way: mirrored over at least 0.3 of the side, more blurred further outside, up to the median.
    """
    margin = max(3, round(0.1 * side))
    before = np.ceil(margin - quad.min(0))
    after = np.ceil(margin + quad.max(0) - part.size)
    if max(before.max(), after.max()) <= margin - 4:
        return part, np.zeros(2)
    before, after = (np.maximum(v, round(0.3 * side)).astype(int) for v in (before, after))
    across, down = ((int(a), int(b)) for a, b in zip(before, after, strict=True))
    pixels = np.pad(np.asarray(part), (down, across, (0, 0)), "reflect")
    outside = np.maximum(_outside(part.height, *down)[:, None], _outside(part.width, *across))[..., None]
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.02 * side)), np.float32)
    values = pixels + (blurred - pixels) * (3 * outside + 1).clip(0, 1)
    values += (np.median(values, axis=(0, 1)) - values) * outside.clip(0, 1)
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)), before.astype(float)


def _outside(length: int, before: int, after: int) -> np.ndarray:  # => [before + length + after] float32
    """Distance outside of `length` pixels: 1 at the end of the padding, 0 at its start, below 0 inside."""
    at = np.arange(before + length + after, dtype=np.float32)
    return 1 - np.minimum(at / before, (len(at) - 1 - at) / after)


def weights(alignments: Sequence[Alignment], width: int, height: int) -> list[tuple[Box, np.ndarray]]:
    """The share of each square that is put back: [(box, [h, w] float32 in [0, 1])], 0 at the quad's borders.

    Where squares overlap, a pixel belongs to the face whose centre is nearer, in sides of its own quad, so
    that none is painted over by its neighbour's; the change between them is as soft as the borders.
    """
    found = []
    for alignment in alignments:
        box = alignment.box(width, height)
        at = alignment.place(box)
        inside = (np.minimum(at, 1 - at).min(-1) / FEATHER).clip(0, 1)
        own = inside * inside * (3 - 2 * inside)
        for other in alignments:
            if other is not alignment and _overlap(box, other.box(width, height)):
                nearer = _distance(other.place(box)) - _distance(at)
                own *= (0.5 + nearer / (2 * FEATHER)).clip(0, 1)
        found.append((box, own.astype(np.float32)))
    return found


def paste(
    pixels: np.ndarray,  # [H, W, C] uint8, changed in place
    alignments: Sequence[Alignment],
    after: Sequence[np.ndarray],  # each [S, S, C], 0 to 255
    before: Sequence[np.ndarray] | None = None,
    mask: np.ndarray | None = None,  # [H, W] bool: where something may change
) -> None:
    """Squares put back at their places, soft at the borders; with `before`, what they were made from, only
    the difference is added, so that a pixel where nothing was changed keeps its value."""
    for number, (box, share) in enumerate(weights(alignments, pixels.shape[1], pixels.shape[0])):
        left, top, right, bottom = box
        there = pixels[top:bottom, left:right]
        if mask is not None:
            share = share * mask[top:bottom, left:right]
        change = np.asarray(after[number], np.float32)
        if before is not None:
            change = change - before[number]
        change = alignments[number].put(change, box)
        if before is None:
            change -= there
        there[:] = np.rint(there + share[..., None] * change).clip(0, 255)


def _overlap(a: Box, b: Box) -> bool:
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])


def _distance(at: np.ndarray) -> np.ndarray:
    """From the centre of the square."""
    return np.asarray(np.hypot(at[..., 0] - 0.5, at[..., 1] - 0.5))
