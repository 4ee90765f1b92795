"""Pictures between files and the model: fit, resize, range, round, encode.

Inside the runtime a picture is [S, S, 3] uint8 RGB; the engine gets [N, 3, S, S] float32 in [-1, 1].
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from wagi_rt import colours
from wagi_rt.decoding import Picture

FITS = ("crop", "pad", "stretch")
# zlib's Z_RLE at level 1: behind PNG's filters, pictures hold no longer repeats worth the search (measured by
# benchmarks/png.py: smaller and faster than level 1 alone).
FAST_PNG: dict[str, int] = {"compress_level": 1, "compress_type": 3}
WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # how our files may end


class Placement(NamedTuple):
    """The square that the model sees, in the upright photo.

    photo: its width and height; corners: top left, bottom left, bottom right, top right as (x, y), in pixels
    from the photo's top left corner. They lie outside where the picture was padded.
    """

    photo: tuple[int, int]
    corners: tuple[tuple[float, float], ...]


class Prepared:
    """A picture as the model takes it: [3, S, S] float32 in [-1, 1], with notes on how it was read.

    placement: None where the picture came as the array itself.
    """

    def __init__(
        self, image: np.ndarray, notes: list[str] | None = None, placement: Placement | None = None
    ) -> None:
        self.image, self.notes, self.placement = image, notes or [], placement


def prepare(picture: Picture, size: int, fit: str = "crop") -> Prepared:
    """`fit_square` as the model takes it."""
    pixels = fit_square(picture, size, fit)
    return Prepared(to_float(pixels[None])[0], picture.notes, placement(picture, fit))


def fit_square(picture: Picture, size: int, fit: str = "crop") -> np.ndarray:
    """The picture at size x size, antialiased (Lanczos) => [S, S, 3] uint8.

    fit: "crop" takes the largest centred square, "pad" adds white bars, "stretch" ignores the aspect.
    """
    image = picture.pixels
    if picture.photo[0] != picture.photo[1]:
        done = {"crop": "its centre is used", "pad": "padded with white", "stretch": "stretched"}[fit]
        picture.notes.append(f"not square, {done} (--fit {fit})")
    if fit == "pad":
        return np.asarray(_padded(image, size))
    if fit == "crop" and image.width != image.height:
        image = image.crop(_centre(image.size))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def placement(picture: Picture, fit: str = "crop") -> Placement:
    """The place of `fit_square`'s square in the photo."""
    left, top, right, bottom = picture.box
    across = (right - left) / picture.pixels.width  # pixels of the photo for each of ours
    down = (bottom - top) / picture.pixels.height
    if fit == "crop":
        x0, y0, x1, y1 = _centre(picture.pixels.size)
        left, top, right, bottom = left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down
    elif fit == "pad":
        x, y, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
        left, top, right, bottom = x - half, y - half, x + half, y + half
    return Placement(picture.photo, ((left, top), (left, bottom), (right, bottom), (right, top)))


def _centre(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred square of a picture: left, top, right, bottom."""
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


def _padded(image: Image.Image, size: int) -> Image.Image:
    """The whole picture in the middle of a white square."""
    longest = max(image.size)
    width, height = (max(1, round(side * size / longest)) for side in image.size)
    square = Image.new("RGB", (size, size), colours.WHITE)
    square.paste(
        image.resize((width, height), Image.Resampling.LANCZOS), ((size - width) // 2, (size - height) // 2)
    )
    return square


def to_float(pixels: np.ndarray) -> np.ndarray:  # [N, H, W, 3] uint8 => [N, 3, H, W] float32 in [-1, 1]
    """0..255 to -1..1."""
    planes = pixels.transpose(0, 3, 1, 2)
    images = np.empty(planes.shape, np.float32)
    np.multiply(planes, np.float32(1 / 127.5), out=images)
    images -= 1
    return images


def to_uint8(images: np.ndarray) -> np.ndarray:  # [N, 3, H, W] float => [N, H, W, 3] uint8
    """-1..1 to 0..255, clipped and rounded (not truncated)."""
    pixels = np.empty((len(images), *images.shape[2:], images.shape[1]), np.uint8)
    for image, target in zip(images, pixels, strict=True):
        for channel, plane in enumerate(image):  # a plane at a time stays in the CPU's cache
            scaled = plane.clip(-1, 1)
            scaled += 1
            scaled *= 127.5
            target[..., channel] = np.rint(scaled, out=scaled)
    return pixels


def encode(pixels: np.ndarray, suffix: str) -> bytes:  # [H, W, 3] uint8
    """File contents, marked as sRGB. PNG by FAST_PNG (a third of the default's time), the others at 95."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if WRITTEN[suffix] == "PNG":
        marks = PngImagePlugin.PngInfo()
        marks.add(b"sRGB", b"\0")  # perceptual
        image.save(buffer, "PNG", pnginfo=marks, **FAST_PNG)
    else:
        image.save(buffer, WRITTEN[suffix], quality=95, icc_profile=colours.srgb_profile())
    return buffer.getvalue()
