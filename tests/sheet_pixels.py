"""Comparison sheets as if small pictures were not enlarged: cells at the pixels of the models."""

from pathlib import Path

import numpy as np
from PIL import Image

from wagi.experiments.comparison import LEAST, TITLE


def cells(sheet: np.ndarray | Path, size: int = 32, left: int = 0) -> np.ndarray:
    """A sheet [H, W, 3] with one pixel of each block; titles above and `left` pixels of labels stay."""
    pixels = sheet if isinstance(sheet, np.ndarray) else np.asarray(Image.open(sheet).convert("RGB"))
    scale = -(-LEAST // size)
    height, width = pixels.shape[:2]
    return pixels[np.ix_(np.r_[0:TITLE, TITLE:height:scale], np.r_[0:left, left:width:scale])]
