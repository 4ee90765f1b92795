"""Naive inversions as a test of whether the generator can show a picture at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wagi_rt.chain import reduced

if TYPE_CHECKING:
    from wagi_rt.entries import Manifest, NaiveErrors

# Twice the error that 99 of 100 held-out pictures stay below: a face elsewhere in the picture, or no face.
_SHARE, _FAR = 0.99, 2.0


def furthest(errors: NaiveErrors | None) -> float | None:
    """The error (L2 at R) beyond which the generator does not know a picture; None where nobody measured."""
    limit = errors.quantiles.get(_SHARE) if errors else None
    return None if limit is None else _FAR * limit


def far(manifest: Manifest, naive_r: np.ndarray, image: np.ndarray) -> str:  # [3, R, R], [3, S, S]
    """The sentence that the generator cannot show a picture, so that no edit will look right; else ""."""
    limit = furthest(manifest.naive_errors)
    if limit is None:
        return ""
    image_r = reduced(image, naive_r.shape[-1], manifest.pil)
    error = float(np.square(naive_r - image_r, dtype=np.float64).mean())
    if error <= limit:
        return ""
    return (
        f"the naive inversion of this picture is far from it (L2 {error:.2g}, of held-out pictures at most "
        f"{limit / _FAR:.2g})"
    )
