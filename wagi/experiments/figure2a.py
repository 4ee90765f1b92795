"""Figure 2a: the coefficients of pictures, band by band.

python -m wagi.evaluate figure2a --data portraits:9001:3 --size 256 --out OUT

One level of the Haar transform: LL as a picture, LH, HL and HH around grey, all with one gain.
"""

import argparse
from pathlib import Path

from torch import Tensor

from wagi.errors import UserError, option
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.heldout import BANDS, add_pictures, load_images
from wagi.experiments.ways import enlarged
from wagi.haar import haar

GAIN = 2.0  # of the high bands


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate figure2a",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_pictures(p)
    p.add_argument("--size", type=int, default=256, metavar="PX", help="size they are read at (default 256)")
    p.add_argument("--out", required=True, type=Path, metavar="DIR", help="writes figure2a.png")
    return p


def bands(images: Tensor) -> dict[str, Tensor]:  # N,3,S,S => each N,3,S,S
    """The bands as pictures: LL divided by 2, which is the mean of each block, the others by their gain."""
    parts = haar(images).chunk(4, dim=1)
    scale = (0.5, GAIN, GAIN, GAIN)
    return {b: enlarged(part * s, images) for b, part, s in zip(BANDS, parts, scale, strict=True)}


def run(args: argparse.Namespace) -> None:
    if args.size < 32 or args.size % 2:
        raise UserError(f"--size {args.size}: must be even, at least 32", 2)
    with option("--data"):
        images = load_images(args.data, args.size, args.count)
    path = args.out / "figure2a.png"
    write_picture(path, comparison({"picture": images, **bands(images)}))
    print(f"{path}: {len(images)} pictures of {args.data} at {args.size} px")
