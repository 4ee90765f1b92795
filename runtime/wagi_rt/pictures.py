"""Pictures in and out: decode anything Pillow reads, fit, resize, range, round, encode.

Inside the runtime a picture is [S, S, 3] uint8 RGB; the engine gets [N, 3, S, S] float32 in [-1, 1].
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from wagi_rt.errors import UserError

FITS = ("crop", "pad", "stretch")
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # that are written
WHITE = (255, 255, 255)


class Picture(NamedTuple):
    """Decoded RGB pixels and what a user should know about how they were read."""

    pixels: Image.Image
    notes: list[str]


def decode(source: str | os.PathLike[str] | bytes, name: str = "", least: int | None = None) -> Picture:
    """Read a file (or its bytes) as upright 8-bit RGB; UserError in one line for whatever cannot be read.

    EXIF orientation is applied; transparency is laid on white; 16-bit and float grey is scaled, not clipped;
    of an animation the first frame is taken. `least`: the sides that will be needed, which lets a large JPEG
    be decoded at a fraction of its size.
    """
    name = name or ("image" if isinstance(source, bytes) else os.fspath(source))
    with io.BytesIO(source) if isinstance(source, bytes) else _open(source, name) as stream:
        try:
            return _decode(stream, least)
        except UserError as error:
            reason = str(error)
        except Image.DecompressionBombError:
            reason = "too many pixels to be a photo (a decompression bomb?); shrink it first"
        except UnidentifiedImageError:
            stream.seek(0)
            empty = not stream.read(1)
            reason = (
                "the file is empty; replace it"
                if empty
                else "not an image that Pillow can read; convert it to PNG or JPEG"
            )
        except Exception as error:  # damaged files raise anything out of Pillow's decoders, even MemoryError
            detail = " ".join(str(error).split()) or type(error).__name__
            reason = f"damaged or truncated image ({detail}); replace the file"
    raise UserError(f"{name}: {reason}")


def _open(path: str | os.PathLike[str], name: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, not an image; name the image files in it") from None
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise UserError(f"{name}: cannot be opened ({detail}); check its path and permissions") from None


def _decode(stream: IO[bytes], least: int | None) -> Picture:
    with warnings.catch_warnings():
        # Pillow warns from half of its pixel limit on, and about odd metadata: both are ordinary photos.
        warnings.simplefilter("ignore")
        image = Image.open(stream)
        notes = []
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            notes.append(f"animated or multi-page, the first of {frames} frames is used")
        if least is not None:
            image.draft(None, (2 * least, 2 * least))  # twice: the rest is left to the antialiased resize
        image.load()
        return Picture(_to_rgb(_upright(image)), notes)


def from_pillow(image: Image.Image) -> Picture:
    """An image that is already open, read like a file."""
    try:
        return Picture(_to_rgb(_upright(image)), [])
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"damaged or unusable image ({' '.join(str(error).split())}); replace it") from None


def _upright(image: Image.Image) -> Image.Image:
    """EXIF orientation applied; broken EXIF is no reason to refuse the pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, TypeError, KeyError, SyntaxError, OSError, struct.error):
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB; transparent parts become white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_to_8_bit(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        premultiplied = {"RGBa": "RGBA", "La": "LA"}.get(image.mode, image.mode)
        layer = image.convert(premultiplied).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*WHITE, 255)), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """Modes I;16 and I hold 0..65535; F holds 0..1, 0..255 or 0..65535, told apart by its largest value."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError("holds values that are not numbers; convert it to PNG or JPEG")
    top = 65535.0
    if image.mode == "F":
        top = next((limit for limit in (1.0, 255.0) if values.max() <= limit), 65535.0)
    return Image.fromarray(np.rint(values.clip(0, top) * (255 / top)).astype(np.uint8))


def fit_square(picture: Picture, size: int, fit: str = "crop") -> np.ndarray:
    """The picture at size x size, antialiased (Lanczos) => [S, S, 3] uint8.

    fit: "crop" takes the largest centred square, "pad" adds white bars, "stretch" ignores the aspect.
    """
    image = picture.pixels
    width, height = image.size
    if width != height:
        done = {"crop": "its centre is used", "pad": "padded with white", "stretch": "stretched"}[fit]
        picture.notes.append(f"not square, {done} (--fit {fit})")
    if fit == "pad":
        return np.asarray(_padded(image, size))
    if fit == "crop" and width != height:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _padded(image: Image.Image, size: int) -> Image.Image:
    """The whole picture in the middle of a white square."""
    longest = max(image.size)
    width, height = (max(1, round(side * size / longest)) for side in image.size)
    square = Image.new("RGB", (size, size), WHITE)
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


def area_resize(images: np.ndarray, size: int) -> np.ndarray:  # [N, C, H, H] => [N, C, size, size]
    """Mean over square blocks, as wagi.model does it; H must be `size` times a power of two."""
    while images.shape[-1] > size:
        top = images[..., 0::2, 0::2] + images[..., 0::2, 1::2]
        bottom = images[..., 1::2, 0::2] + images[..., 1::2, 1::2]
        images = (top + bottom) * images.dtype.type(0.25)
    assert images.shape[-1] == images.shape[-2] == size
    return images


def encode(pixels: np.ndarray, suffix: str) -> bytes:  # [H, W, 3] uint8
    """File contents. PNG at level 1 (a quarter of the default's time), JPEG and WebP at quality 95."""
    buffer = io.BytesIO()
    options = {"PNG": {"compress_level": 1}}.get(FORMATS[suffix], {"quality": 95})
    Image.fromarray(pixels).save(buffer, FORMATS[suffix], **options)
    return buffer.getvalue()


def write_atomic(path: Path, content: bytes) -> None:
    """`write_beside`, or UserError."""
    try:
        write_beside(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another -o") from None


def write_beside(path: Path, content: bytes) -> None:
    """Write beside, then rename: the file is whole or not there, also after Ctrl-C. OSError if it fails."""
    beside = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as stream:
            stream.write(content)
        os.replace(beside, path)
    finally:
        with suppress(OSError):
            beside.unlink()
