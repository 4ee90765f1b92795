"""A photo with three portraits at known places, angles and sizes in a smooth scene, and a folder with it."""

import json
from pathlib import Path

import numpy as np
from checkout import ROOT
from PIL import Image
from test_faces_alignment import quad, smooth

from wagi_rt.faces.alignment import Alignment

SAMPLES = ROOT / "runtime" / "wagi_rt" / "demo" / "samples"
PLACES = [((110, 120), 150, 0), ((300, 150), 130, 25), ((480, 130), 110, -40)]  # centre, side, degrees
BOX = (0, 0, 600, 300)


def scene() -> tuple[Image.Image, list[np.ndarray]]:
    """The photo, with three of the embedded model's portraits, and their quads."""
    photo, quads = np.asarray(smooth(300, 600, 20), np.float32).copy(), []
    for name, place in zip(("01", "06", "09"), PLACES, strict=True):
        portrait = np.asarray(Image.open(SAMPLES / f"portrait-{name}.png").convert("RGB"), np.float32)
        alignment = Alignment(quad(*place), portrait.shape[0])
        inside = within(alignment)
        photo[inside] = alignment.put(portrait, BOX)[inside]
        quads.append(alignment.quad)
    return Image.fromarray(photo.round().clip(0, 255).astype(np.uint8)), quads


def within(alignment: Alignment, margin: float = 0) -> np.ndarray:  # [300, 600] bool
    """The pixels whose centres lie in a square of the photo, by at least a part of its side."""
    at = alignment.place(BOX)
    return ((at >= margin) & (at <= 1 - margin)).all(-1)


def write_folder(place: Path) -> Path:
    """party.png, wall.png without faces, and quads.json of both."""
    photo, quads = scene()
    photo.save(place / "party.png")
    Image.new("RGB", (90, 60), "grey").save(place / "wall.png")
    faces = [{"quad": corners.tolist()} for corners in quads]
    (place / "quads.json").write_text(json.dumps({"party.png": faces, "wall.png": []}))
    return place
