"""Files that are written whole or not at all, and pictures side by side."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to `path` at the end, removed after an error.

    The name is always the same, so what a killed process left behind is taken over by its next run.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with beside(path) as part:
        part.write_text(text)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_png(path: Path, image: np.ndarray) -> None:  # H,W,3 uint8
    from PIL import Image

    with beside(path) as part:
        Image.fromarray(image).save(part, format="PNG")


def contact_sheet(images: Sequence[np.ndarray], columns: int = 8) -> np.ndarray:
    """Square pictures side by side, uint8 [rows*S, columns*S, 3], black where none is left."""
    size = images[0].shape[0]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * size, columns * size, 3), np.uint8)
    for k, image in enumerate(images):
        top, left = k // columns * size, k % columns * size
        sheet[top : top + size, left : left + size] = image
    return sheet
