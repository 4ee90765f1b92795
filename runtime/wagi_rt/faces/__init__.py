"""Faces of a photo: found, cut out upright as the models know them, put back.

alignment: from landmarks or quads to squares and back. photos: a whole photo in and out, with its profile,
EXIF and alpha. detection: where the faces are, by models that `wagi-rt faces install` brings (models,
conversion). quads: faces that a file names. Only detection needs more than numpy and Pillow: an engine.
"""

from __future__ import annotations


def limit(text: str) -> int | None:
    """Number of faces that "all" (None), "largest" or a number means. ValueError for other text."""
    if text in ("all", "largest"):
        return None if text == "all" else 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"must be all, largest or a number of at least 1, not '{text}'")
    return int(text)
