"""The face of a photo that the model does not know: where it is, for a note to say what to do."""

from __future__ import annotations

import functools

import numpy as np

from wagi_rt.errors import UserError
from wagi_rt.faces import models, photos
from wagi_rt.faces.alignment import Alignment
from wagi_rt.faces.detection import Detector
from wagi_rt.pictures import Placement

_QUESTION = "is the face aligned? (--fit face)"
_ALIGNED = 0.15  # of the side, within which the corners of a square are those of an aligned face


def advice(source: str | bytes, name: str, placement: Placement | None, threads: int | None) -> str:
    """A line on the largest face of a photo, or a question where nothing can look for it.

    placement: the square that the model saw.
    """
    if not models.installed():
        return _QUESTION
    try:
        faces = _detector(threads).find(photos.read(source, name).upright)
    except UserError:  # a file of --from, for one
        return _QUESTION
    if not faces:
        return "no face is found in it"
    quad = faces[0].landmarks.quad()
    side = Alignment(quad, 1).side
    if placement and np.hypot(*(np.array(placement.corners) - quad).T).max() < _ALIGNED * side:
        return "its face is aligned, but the model was not trained on such faces"
    x, y = quad.mean(0)
    return f"its face is at ({x:.0f}, {y:.0f}), {side:.0f} px wide; --fit face aligns it"


_detector = functools.cache(Detector)
