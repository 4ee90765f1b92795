"""Pictures that are no portraits of this renderer: scikit-image's astronaut, cat and coffee, inverted.

python -m wagi.evaluate ood --model CHECKPOINT --out OUT
python -m wagi.evaluate ood --model CHECKPOINT --out OUT --data FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wagi.checkpoint import load_model
from wagi.data import to_float
from wagi.errors import UserError
from wagi.evaluation.inputs import Inputs
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.heldout import BATCH
from wagi.experiments.tables import write_report
from wagi.metrics import METRICS

# Name -> (left, top, side) of the square, in pixels: the face where there is one, at about the height and
# size that portraits have; None is the centred square.
CROPS: dict[str, tuple[int, int, int] | None] = {
    "astronaut": (128, 0, 200),
    "cat": None,
    "coffee": None,
}
BLOCK = 16


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate ood",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    p.add_argument("--out", required=True, type=Path, metavar="OUT", help="folder of the sheet and the table")
    p.add_argument("--data", metavar="DATA", help="pictures in place of these three: a folder")
    return p


def photo(name: str, size: int) -> np.ndarray:  # => size,size,3 uint8
    """One of CROPS, from the files that come with scikit-image."""
    from skimage import data

    pixels = getattr(data, name)()
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top, side = CROPS[name] or ((width - side) // 2, (height - side) // 2, side)
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box))


def block_errors(image: Tensor, target: Tensor, block: int = BLOCK) -> Tensor:
    """|difference of the blocks' mean colours| [N, 3, S/block, S/block]: colour blocks, not lost detail."""
    return avg_pool2d(image - target, block).abs()


def rows_of(names: Sequence[str], images: dict[str, Tensor], target: Tensor) -> list[dict[str, Any]]:
    """One row per picture and method."""
    rows = []
    for k, name in enumerate(names):
        for method, found in images.items():
            one, wanted = found[k : k + 1], target[k : k + 1]
            blocks = block_errors(one, wanted)
            row: dict[str, Any] = {"picture": name, "method": method}
            row |= {key: float(METRICS[key](one, wanted)) for key in ("l2", "l_wave", "ssim")}
            rows.append({**row, "mean block": float(blocks.mean()), "worst block": float(blocks.max())})
    return rows


def pictures(data: str | None, size: int) -> dict[str, Tensor]:
    """Name -> [3, size, size] of --data, or of CROPS."""
    if data:
        return {name: to_float(pixels) for name, pixels in Inputs(data, size)}
    try:
        return {name: to_float(photo(name, size)) for name in CROPS}
    except ImportError:
        raise UserError("scikit-image is not installed; run: pip install 'wagi[test]'") from None


def run(args: argparse.Namespace) -> None:
    model = load_model(args.model)
    chosen = pictures(args.data, model.generator.size)
    target = torch.stack(list(chosen.values()))
    with torch.no_grad():
        found = [model.results(batch) for batch in target.split(BATCH)]
    naive, final = (torch.cat(parts).clamp(-1, 1) for parts in zip(*found, strict=True))
    images = {"naive": naive, "WaGI": final}
    write_picture(args.out / "ood.png", comparison({"input": target, **images}))
    rows = rows_of(list(chosen), images, target)
    meta = {
        "title": "Out of distribution: photos that are no portraits of this renderer",
        "model": args.model.name,
        "notes": [
            f"mean, worst block: |difference| of the mean colour of {BLOCK}x{BLOCK} px blocks, per channel, "
            "of images in [-1, 1]: low where no patch of wrong colour shows.",
        ],
    }
    print(write_report(args.out, "ood", rows, list(rows[0]), meta))
