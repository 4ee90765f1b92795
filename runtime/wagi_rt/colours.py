"""Any of Pillow's modes, value ranges and colour profiles as 8-bit sRGB."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

WHITE = (255, 255, 255)
Range = tuple[float, float]

# Pillow's mode -> one whose values can be averaged, with nothing lost. Palettes become what they stand for.
_AVERAGED = {
    "1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "HSV": "RGB",
    "YCbCr": "RGB", "I;16": "I", "I;16B": "I", "I;16L": "I", "I;16N": "I",
}  # fmt: skip
# Integers of 16 bits that all lie below 1/16 of the range come from a device of fewer bits: no photo is as
# dark. 14 bits are not in the list, because a dark photo may well stay below a quarter.
_FEWER_BITS = (255, 1023, 4095)
_FLOAT_TOPS = (1, 255, 1023, 4095, 16383, 65535)
_FLOAT_SHARE = 99.9  # percentile that decides: a few hot pixels do not
_FLOAT_SLACK = 16  # times 1: no picture of 0..255 is as dark, while highlights of 0..1 may reach that
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "LAB ": "LAB"}  # of ICC profiles -> Pillow's mode
_NEAR = 1  # levels: a profile that moves no colour by more is sRGB


def averaged(image: Image.Image) -> Image.Image:
    """The picture in a mode whose values can be averaged: L, LA, RGB, RGBA, CMYK, LAB, I or F."""
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        return image.convert("RGBA")
    while image.mode in _AVERAGED:
        image = image.convert(_AVERAGED[image.mode])
    return image


def to_srgb(image: Image.Image, declared: Range | None = None) -> tuple[Image.Image, list[str]]:
    """A picture of any mode as RGB in sRGB, and notes on what had to be assumed.

    Transparency is laid on white; the picture's own colour profile (`info["icc_profile"]`) is applied.
    declared: the values that mean black and white, for pictures of more than 8 bits.

    Raises:
        UserError: values that are not numbers.
    """
    notes = []
    image = averaged(image)
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F"):
        image, notes = _eight_bits(image, declared)
    opacity = None
    if image.mode in ("LA", "RGBA"):
        opacity = image.getchannel("A")
        image = image.convert(image.mode[:-1])
    if profile:
        image, problems = _from_profile(image, bytes(profile))
        notes += problems
    if opacity is not None:
        layer = image.convert("RGBA")
        layer.putalpha(opacity)
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*WHITE, 255)), layer)
    return image if image.mode == "RGB" else image.convert("RGB"), notes


def from_srgb(image: Image.Image, profile: bytes) -> Image.Image:  # RGB => RGB
    """An sRGB picture in the colours of a profile, so that it can be laid into a photo that has it.

    Raises:
        UserError: a profile that is broken or not one of RGB.
    """
    from PIL import ImageCms

    try:
        target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return _applied(ImageCms.buildTransform(ImageCms.createProfile("sRGB"), target, "RGB", "RGB"), image)
    except (ImageCms.PyCMSError, OSError, ImportError, TypeError, ValueError) as error:
        raise UserError(f"colour profile cannot be used ({_first_line(error)})") from None


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, the same bytes every time."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # the time at which it was made: now
    return bytes(profile)


def _from_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
    """The picture in sRGB by way of its profile; with a note where that is not possible."""
    from PIL import ImageCms  # a photo without a profile does not pay for it

    try:
        mode, transform = _transform(profile)
        if image.mode == "L" and mode == "RGB":  # grey pictures often carry the profile of their colour twin
            image = image.convert("RGB")
        if image.mode != mode:
            return image, [f"its colour profile is for {mode}, the picture is {image.mode}; profile ignored"]
        return (image if transform is None else _applied(transform, image)), []
    except (ImageCms.PyCMSError, OSError, ImportError, TypeError, ValueError) as error:
        return image, [f"its colour profile cannot be used ({_first_line(error)}); colours may be off"]


@lru_cache(maxsize=8)
def _transform(profile: bytes) -> tuple[str, ImageCmsTransform | None]:
    """The mode a profile is for, and its way to sRGB; None where it is sRGB itself."""
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = str(source.profile.xcolor_space)  # type: ignore[attr-defined]
    if space not in _SPACES:
        raise ValueError(f"colour space {space.strip()!r}")
    mode = _SPACES[space]
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode in ("RGB", "L"):
        samples = _samples(mode)
        wanted = np.asarray(samples.convert("RGB")).astype(int)
        if np.abs(np.asarray(_applied(transform, samples)).astype(int) - wanted).max() <= _NEAR:
            return mode, None
    return mode, transform


def _applied(transform: ImageCmsTransform, image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    result = ImageCms.applyTransform(image, transform)
    assert result is not None  # only in-place transforms give none
    return result


def _samples(mode: str) -> Image.Image:
    """Colours all over the gamut: 17 levels of each channel, or every grey."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(17, -1, 3))


def _eight_bits(image: Image.Image, declared: Range | None) -> tuple[Image.Image, list[str]]:
    """Mode I or F as L, scaled from the declared range or from one that its values speak for."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise UserError("holds values that are not numbers; convert it to PNG or JPEG")
    notes = []
    if declared is None or (image.mode == "I" and values.max() > declared[1]):  # no range of these values
        top, sure = _float_top(values) if image.mode == "F" else _integer_top(values)
        declared = (0.0, top)
        if not sure:
            kind = "float values" if image.mode == "F" else "whole numbers"
            notes.append(f"{kind} without a declared range, taken as 0 (black) to {top:g} (white)")
    black, white = declared
    levels = np.empty(values.shape, np.uint8)
    for row, target in zip(values, levels, strict=True):  # never all in float64
        target[:] = np.rint((row.astype(np.float64).clip(black, white) - black) * (255 / (white - black)))
    return Image.fromarray(levels), notes


def _float_top(values: np.ndarray) -> tuple[float, bool]:
    """The value of white, and whether nothing else is possible."""
    high, highest = float(np.percentile(values, _FLOAT_SHARE)), float(values.max())
    if high <= _FLOAT_SLACK:
        return 1.0, bool(0 <= values.min() and highest <= 1)
    return float(next((top for top in _FLOAT_TOPS[1:] if high <= top), highest)), False


def _integer_top(values: np.ndarray) -> tuple[float, bool]:
    """The value of white: 16 bits, unless all values fit into far fewer bits or need more."""
    highest = float(values.max())
    if highest <= 0:
        return 65535.0, True
    fewer = next((top for top in _FEWER_BITS if highest <= top), None)
    if fewer is not None:
        return float(fewer), False
    return (65535.0, True) if highest <= 65535 else (highest, False)


def declared(image: Image.Image) -> Range | None:
    """The values of black and white that the file itself declares, for pictures of more than 8 bits."""
    if image.format == "TIFF":
        return _declared_by(getattr(image, "tag_v2", {}))
    stream = getattr(image, "fp", None)
    if image.format != "PNG" or image.mode not in ("I", "I;16") or stream is None:
        return None
    position = stream.tell()
    stream.seek(8)
    bits = 0
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            break
        content = stream.read(length + 4)
        if kind == b"sBIT" and length == 1:
            bits = content[0]
    stream.seek(position)
    return (0, 2**bits - 1) if 1 < bits < 16 else None


def _declared_by(tags: Mapping[int, Any]) -> Range | None:
    """The range that a TIFF's SMinSampleValue and SMaxSampleValue declare, where they make sense."""
    black, white = (_number(tags.get(tag)) for tag in (340, 341))
    if white is None or not math.isfinite(white):
        return None
    black = 0.0 if black is None or not math.isfinite(black) else black
    return (black, white) if white > black else None


def _number(value: Any) -> float | None:
    if isinstance(value, tuple) and value:
        value = value[0]
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
