"""`python -m wagi.portraits.prints OUT.jpg`: a photo of portraits at known places, angles and sizes.

Three prints on a patterned wall, and beside the photo a file with their quads, as `wagi-rt --quads` reads it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from wagi.errors import UserError, run_command
from wagi.files import beside, write_text
from wagi.portraits.background import pattern
from wagi_rt.faces.alignment import Alignment, Box, square

# Centre (x, y) and side in widths of the photo, and the angle in degrees.
PLACES = (((0.205, 0.235), 0.30, 0), ((0.525, 0.485), 0.30, 25), ((0.82, 0.225), 0.23, -40))
SEED, CHOSEN = 9001, (1, 5, 34)  # held out of the embedded model's training
_BORDER = 0.05  # of a print, in its sides
_WALL = np.array([[206, 196, 180], [186, 172, 154]], np.float32)


def quads(width: int) -> list[np.ndarray]:  # each [4, 2] px
    """The corners of the portraits in a photo of this width, in the order of `wagi_rt.faces.alignment`."""
    found = []
    for centre, side, angle in PLACES:
        turn = np.radians(angle)
        right = np.array([np.cos(turn), np.sin(turn)]) * side / 2
        found.append(square(np.array(centre), right) * width)
    return found


def photo(portraits: Sequence[np.ndarray], width: int) -> Image.Image:
    """Prints of up to three pictures, [S, S, 3] uint8, on a wall; width x 3/4 width px."""
    x = (np.arange(width, dtype=np.float32) + 0.5)[None] / width
    y = (np.arange(width * 3 // 4, dtype=np.float32) + 0.5)[:, None] / width
    image = _WALL[0] + pattern("plaid", x, y, 22)[..., None] * (_WALL[1] - _WALL[0])
    image = (image * (1.06 - 0.25 * np.hypot(x - 0.35, y - 0.2))[..., None]).astype(np.float32)
    for portrait, corners in zip(portraits, quads(width), strict=False):
        _shade(image, _grown(corners, 1 + 2 * _BORDER) + 0.008 * width, 0.008 * width)
        _lay(image, np.full((2, 2, 3), 246, np.uint8), _grown(corners, 1 + 2 * _BORDER))
        _lay(image, portrait, corners)
    return Image.fromarray(np.rint(image).clip(0, 255).astype(np.uint8))


def _grown(corners: np.ndarray, factor: float) -> np.ndarray:
    centre = corners.mean(0)
    return centre + (corners - centre) * factor


def _shade(image: np.ndarray, corners: np.ndarray, blur: float) -> None:
    """A soft shadow of corners in [H, W, 3] float32."""
    place = Alignment(corners, 1)
    left, top, right, bottom = box = Alignment(_grown(corners, 1 + 8 * blur / place.side), 1).box(
        *image.shape[1::-1]
    )
    shadow = Image.fromarray(_cover(place, box)).filter(ImageFilter.GaussianBlur(blur))
    image[top:bottom, left:right] *= 1 - 0.4 * np.asarray(shadow, np.float32)[..., None] / 255


def _lay(image: np.ndarray, picture: np.ndarray, corners: np.ndarray) -> None:
    """A picture into [H, W, 3] float32, with smooth edges."""
    place = Alignment(corners, 1)
    left, top, right, bottom = box = place.box(*image.shape[1::-1])
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), "edge").astype(np.float32)
    drawn = Alignment(_grown(corners, len(padded) / len(picture)), len(padded)).put(padded, box)
    there = image[top:bottom, left:right]
    there += np.float32(1 / 255) * _cover(place, box)[..., None] * (drawn - there)


def _cover(place: Alignment, box: Box) -> np.ndarray:  # => [h, w] uint8
    """The part of each pixel that lies within a quad."""
    at = place.place(box)
    inside = np.minimum(at, 1 - at).min(-1) * place.side + 0.5
    return np.rint(255 * inside.clip(0, 1)).astype(np.uint8)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m wagi.portraits.prints",
        description="Render a photo of three portraits, and a .json file with their quads beside it.",
    )
    result.add_argument("out", type=Path, metavar="OUT", help="the photo, .jpg or .png")
    result.add_argument("--width", type=int, default=720, metavar="W", help="pixels (default 720)")
    return result


def run(arguments: argparse.Namespace) -> None:
    """Render both files."""
    from wagi.portraits.dataset import portrait
    from wagi.portraits.scene import render

    out, width = arguments.out, arguments.width
    if not 128 <= width <= 4000:
        raise UserError(f"--width {width}: must be between 128 and 4000", status=2)
    if out.suffix.lower() not in (".jpg", ".png"):
        raise UserError(f"{out}: must end in .jpg or .png", status=2)
    sides = [round(side * width) for _, side, _ in PLACES]
    rendered = [render(portrait(SEED, i), side) for i, side in zip(CHOSEN, sides, strict=True)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with beside(out) as part:
        photo(rendered, width).save(part, "JPEG" if out.suffix.lower() == ".jpg" else "PNG", quality=90)
    faces = [{"quad": corners.round(2).tolist()} for corners in quads(width)]
    write_text(out.with_suffix(".json"), json.dumps({out.name: faces}) + "\n")
    print(f"{out}, and the quads of its faces in {out.with_suffix('.json')}")


if __name__ == "__main__":
    sys.exit(run_command(lambda: run(parser().parse_args()), "; nothing was written"))
