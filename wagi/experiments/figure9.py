"""Figure 9: pictures without the high bands of one octave: the argument for K = 2 levels of the wavelet loss.

python -m wagi.evaluate figure9 --data portraits:9001:4 --size 256 --out OUT

As in appendix A.2.2: the Haar transform of a picture, the bands LH, HL, HH of one level at zero, the inverse
transform. Level 0 is f_nyq/2 to f_nyq (configuration A), 1 the octave below (B), 2 the next (C). The caption
defines A to C only; D is drawn as the octave after C. Two readings: that level alone, or all down to it.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from wagi.errors import UserError, option
from wagi.experiments import tables
from wagi.experiments.heldout import PIXEL_METRICS, add_pictures, load_images
from wagi.experiments.tables import new_figure, show, spread
from wagi.haar import decompose, inverse_haar
from wagi.metrics import METRICS

LEVELS = "ABCD"  # configuration -> number of the level, 0 the finest
ONE, DOWN_TO = "one level", "all levels down to it"
SHOWN = 2


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate figure9",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(p, "portraits:9001:16")
    p.add_argument("--size", type=int, default=256, metavar="PX", help="size they are read at (default 256)")
    p.add_argument("--out", required=True, type=Path, metavar="DIR", help="writes figure9.md, .json, .png")
    return p


def without_levels(images: Tensor, levels: range) -> Tensor:  # N,3,S,S => N,3,S,S
    """Images with the bands LH, HL and HH of these Haar levels at zero (0: the finest)."""
    coefficients = decompose(images, levels.stop)
    low = coefficients[-1][:, : images.shape[1]]
    for level in reversed(range(levels.stop)):
        high = coefficients[level][:, images.shape[1] :]
        low = inverse_haar(torch.cat([low, torch.zeros_like(high) if level in levels else high], dim=1))
    return low


def variants(images: Tensor) -> dict[tuple[str, str], Tensor]:
    """(reading, configuration) -> the images [N, 3, S, S] as it leaves them."""
    return {
        (reading, name): without_levels(images, range(level if reading == ONE else 0, level + 1))
        for reading in (ONE, DOWN_TO)
        for level, name in enumerate(LEVELS)
    }


def run(args: argparse.Namespace) -> None:
    if args.size < 32 or args.size % 2 ** len(LEVELS):
        raise UserError(f"--size {args.size}: must be a multiple of 16, at least 32", 2)
    with option("--data"):
        images = load_images(args.data, args.size, args.count)
    found = variants(images)
    lines = [
        {"left out": reading, "configuration": name, "level": LEVELS.index(name)}
        | {metric: spread(METRICS[metric](result, images).tolist()) for metric in PIXEL_METRICS}
        for (reading, name), result in found.items()
    ]
    meta = {
        "title": "Figure 9: pictures without the high bands of an octave",
        "pictures": f"{args.data} at {args.size} px, in [-1, 1]",
        "numbers": "against the whole picture: mean ± standard deviation (min..max) over the pictures",
        "notes": [
            "A, B, C: without f_nyq/2 to f_nyq, f_nyq/4 to f_nyq/2, f_nyq/8 to f_nyq/4 (levels 0, 1, 2). The "
            "paper's caption defines these three; its text also speaks of D, here the next octave. It has no "
            "numbers.",
        ],
    }
    columns = ["left out", "configuration", "level", *PIXEL_METRICS]
    print(tables.write_report(args.out, "figure9", lines, columns, meta))
    tables.write_figure(args.out, "figure9", figure(images, found))


def figure(images: Tensor, found: dict[tuple[str, str], Tensor]) -> Figure:
    """Two lines per picture, one per reading: the picture, then A to D."""
    count = min(SHOWN, len(images))
    result = new_figure(2 * (1 + len(LEVELS)), 4.3 * count)
    panels = result.subplots(2 * count, 1 + len(LEVELS), squeeze=False)
    for row, line in enumerate(panels):
        picture, reading = row // 2, (ONE, DOWN_TO)[row % 2]
        show(line[0], images[picture], "picture" if row % 2 == 0 else "")
        for axes, name in zip(line[1:], LEVELS, strict=True):
            level = LEVELS.index(name)
            gone = f"level {level}" if reading == ONE else f"levels 0 to {level}"
            show(axes, found[reading, name][picture], f"{name}: without {gone}")
    return result
