"""Images of every kind that a session takes: paths, file bytes, PIL images, arrays, CPU tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from wagi_rt import decoding, pictures
from wagi_rt.errors import UserError
from wagi_rt.pictures import Prepared

if TYPE_CHECKING:
    from PIL.Image import Image

    Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image | np.ndarray


def items(images: Source | Iterable[Source]) -> list[Source]:
    """The images one by one, whether one or many were given."""
    from PIL.Image import Image

    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image):
        return [images]
    if hasattr(images, "__array__"):
        array = _array(images)
        return list(array) if array.ndim == 4 else [array]
    if not isinstance(images, Iterable):
        _array(images)  # says what it is
    return [item for source in images for item in items(source)]


def prepare(item: Source, size: int, fit: str = "crop", name: str = "") -> Prepared:
    """One image of any accepted kind as a model of `size` takes it; `name` is how errors call it."""
    from PIL.Image import Image, fromarray

    if fit not in pictures.FITS:
        raise UserError(f"fit {fit!r} is unknown; use {', '.join(pictures.FITS)}", status=2)
    if isinstance(item, bytearray | memoryview):
        item = bytes(item)
    if not isinstance(item, str | os.PathLike | bytes | Image):
        item = _array(item)
        if np.issubdtype(item.dtype, np.floating):
            return Prepared(_check_float(item, size))
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
            raise UserError(
                f"an array image must be uint8 [H, W, 3], this is {item.dtype} {list(item.shape)}"
            )
        item = fromarray(item)
    if isinstance(item, Image):
        picture = decoding.from_pillow(item, size, fit)
    else:
        picture = decoding.decode(item, name, size, fit)
    return pictures.prepare(picture, size, fit)


def _check_float(item: np.ndarray, size: int) -> np.ndarray:
    if item.shape != (3, size, size):
        raise UserError(f"a float image must be [3, {size}, {size}], this is {list(item.shape)}")
    if not (np.abs(item) <= 1.001).all():  # also refuses NaN
        raise UserError("a float image must be in [-1, 1]")
    return np.ascontiguousarray(item, dtype=np.float32)


def _array(item: Any) -> np.ndarray:
    """Whatever is an array by itself, such as a torch tensor on the CPU; UserError for anything else."""
    with suppress(Exception):  # tensors on a GPU and the like raise what they please
        if hasattr(item, "__array__"):
            return np.asarray(item)
    raise UserError(
        f"an image must be a path, bytes, a PIL image or an array, this is {type(item).__name__}", status=2
    )
