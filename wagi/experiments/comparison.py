"""Comparison sheets: rows or columns of images with their names, as PNG or JPEG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wagi.data import to_uint8
from wagi.errors import UserError
from wagi.files import beside

TITLE = 22  # pixels above a column
LEAST = 96  # pixels of a column, so that its title can be read: smaller pictures are enlarged


def comparison(columns: Mapping[str, Tensor], repeat: int = 1) -> np.ndarray:
    """One titled column per entry, one line per image; `repeat` > 1 folds the lines into that many blocks.

    columns: title -> images [N, 3, S, S]; all N are equal. Those below LEAST are drawn with every pixel as a
    block. => uint8 [H, W, 3].
    """
    pictures = np.stack([to_uint8(images) for images in columns.values()], axis=1)  # N,C,S,S,3
    scale = -(-LEAST // pictures.shape[2])
    pictures = pictures.repeat(scale, 2).repeat(scale, 3)
    n, width, size = pictures.shape[:3]
    lines = -(-n // repeat)
    sheet = np.full((TITLE + lines * size, repeat * width * size, 3), 255, np.uint8)
    for k, line in enumerate(pictures):
        left, top = k // lines * width * size, TITLE + k % lines * size
        sheet[top : top + size, left : left + width * size] = line.swapaxes(0, 1).reshape(size, -1, 3)
    drawn = Image.fromarray(sheet)
    draw = ImageDraw.Draw(drawn)
    for k, title in enumerate(list(columns) * min(repeat, -(-n // lines))):
        draw.text((k * size + size / 2, TITLE / 2), title, (0, 0, 0), _font(draw, title, size), anchor="mm")
    return np.asarray(drawn)


def with_labels(sheet: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """A comparison with the name of each line left of it, read upwards."""
    size = (len(sheet) - TITLE) // len(labels)
    whole = Image.new("RGB", (TITLE + sheet.shape[1], len(sheet)), (255, 255, 255))
    whole.paste(Image.fromarray(sheet), (TITLE, 0))
    for k, label in enumerate(labels):
        strip = Image.new("RGB", (size, TITLE), (255, 255, 255))
        draw = ImageDraw.Draw(strip)
        draw.text((size / 2, TITLE / 2), label, (0, 0, 0), _font(draw, label, size), anchor="mm")
        whole.paste(strip.rotate(90, expand=True), (0, TITLE + k * size))
    return np.asarray(whole)


def _font(draw: ImageDraw.ImageDraw, text: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest size, up to 13, in which the title fits its column."""
    sizes = range(13, 4, -1)
    fonts = [ImageFont.load_default(size) for size in sizes]
    return next((font for font in fonts if draw.textlength(text, font) < width - 4), fonts[-1])


def write_picture(path: Path, pixels: np.ndarray, quality: int = 88) -> None:
    """PNG or JPEG by the name's suffix; folders are made. Raises UserError for another suffix, status 2."""
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in kinds:
        raise UserError(f"{path}: name the picture *.png or *.jpg", 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as part:
        Image.fromarray(pixels).save(part, format=kinds[path.suffix.lower()], quality=quality, optimize=True)
