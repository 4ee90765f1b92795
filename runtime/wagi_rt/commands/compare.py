"""The comparison sheet: one row per image with the input, its naive inversion and WaGI's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMNS = ("Input", "Naive inversion", "WaGI")
MAX_ROWS = 48  # the sheet is for looking at; more would be an image too tall to open
_ROWS_PER_BLOCK = 8
_MIN_CELL, _MAX_CELL = 192, 512
_GAP, _CAPTION, _LABEL, _BLOCK_GAP = 6, 30, 20, 24
_PAPER, _INK, _GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class Row:
    """The three pictures [cell, cell, 3] uint8 of one image and a line under each."""

    images: tuple[np.ndarray, np.ndarray, np.ndarray]
    labels: tuple[str, str, str]


def cell_size(size: int) -> int:
    """Side of a picture on the sheet: a multiple of a small model's size, a reduced large one."""
    return min(-(-_MIN_CELL // size) * size, _MAX_CELL)


def make_row(images: tuple[np.ndarray, np.ndarray, np.ndarray], labels: tuple[str, str, str]) -> Row:
    """A row with pictures at the sheet's size: many rows of a large model would fill the memory."""
    cell = cell_size(images[0].shape[0])
    first, second, third = (np.asarray(_scaled(pixels, cell)) for pixels in images)
    return Row((first, second, third), labels)


def draw_sheet(rows: list[Row], captions: tuple[str, str, str] = COLUMNS) -> np.ndarray:  # => [H, W, 3] uint8
    """Rows under the captions; more than eight rows continue in another block to the right."""
    cell = rows[0].images[0].shape[0]
    blocks = -(-len(rows) // _ROWS_PER_BLOCK)
    height_rows = -(-len(rows) // blocks)
    block_width = len(captions) * (cell + _GAP) - _GAP
    row_height = cell + _LABEL + _GAP
    width = blocks * block_width + (blocks - 1) * _BLOCK_GAP + 2 * _GAP
    sheet = Image.new("RGB", (width, _CAPTION + height_rows * row_height + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    caption_font, label_font = _font(17), _font(12)
    for index, row in enumerate(rows):
        block, line = divmod(index, height_rows)
        top = _CAPTION + line * row_height
        for column, (pixels, label) in enumerate(zip(row.images, row.labels, strict=True)):
            left = _GAP + block * (block_width + _BLOCK_GAP) + column * (cell + _GAP)
            if line == 0:
                pen.text((left, 5), captions[column], _INK, caption_font)
            sheet.paste(Image.fromarray(pixels), (left, top))
            pen.text((left, top + cell + 2), _fitted(label, label_font, cell), _GREY, label_font)
    return np.asarray(sheet)


def _scaled(pixels: np.ndarray, cell: int) -> Image.Image:
    image = Image.fromarray(pixels)
    if image.width == cell:
        return image
    filter_ = Image.Resampling.BICUBIC if cell > image.width else Image.Resampling.LANCZOS
    return image.resize((cell, cell), filter_)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, its middle left out if it is wider than the picture."""
    text = text.encode("latin-1", "replace").decode("latin-1")  # what every fallback font can draw
    keep = len(text)
    shown = text
    while keep > 4 and font.getlength(shown) > width:
        keep -= 1
        shown = f"{text[: keep // 2]}...{text[len(text) - keep // 2 :]}"
    return shown


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
