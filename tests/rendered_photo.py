"""A photo with three portraits at known places, angles and sizes, and a folder with it and their quads."""

import json
from pathlib import Path

import numpy as np
from checkout import ROOT
from PIL import Image

from wagi.portraits import prints
from wagi_rt.faces.alignment import Alignment

SAMPLES = ROOT / "runtime" / "wagi_rt" / "demo" / "samples"


def alignments(width: int, size: int) -> list[Alignment]:
    """The faces of the photo of this width, from the largest to the smallest."""
    return [Alignment(corners, size) for corners in prints.quads(width)]


def within(alignment: Alignment, width: int, margin: float = 0) -> np.ndarray:  # [H, W] bool
    """The pixels of the photo whose centres lie in a square, by at least a part of its side."""
    at = alignment.place(box(width))
    return ((at >= margin) & (at <= 1 - margin)).all(-1)


def box(width: int) -> tuple[int, int, int, int]:
    """The whole photo."""
    return 0, 0, width, width * 3 // 4


def write_folder(place: Path, width: int = 600) -> Path:
    """party.png with three of the embedded model's portraits, wall.png without, and quads.json of both."""
    samples = (Image.open(SAMPLES / f"portrait-{number}.png") for number in ("01", "06", "09"))
    photo = prints.photo([np.asarray(one.convert("RGB")) for one in samples], width)
    photo.save(place / "party.png", compress_level=1)
    Image.new("RGB", (90, 60), "grey").save(place / "wall.png")
    faces = [{"quad": corners.tolist()} for corners in prints.quads(width)]
    (place / "quads.json").write_text(json.dumps({"party.png": faces, "wall.png": []}))
    return place
