"""Figure 12: inversions, and edits of attributes, by every system.

python -m wagi.evaluate figure12 --table1 OUT/table1.json --runs RUNS --out figure12.jpg
python -m wagi.evaluate figure12 --model pSp=P.pt HFGI=A.pt WaGI=D.pt --directions DIR-A DIR-D --out f.jpg

A line per picture, a column per system. Each edits as its own paper does: encoders by their generator,
HyperStyle by the one that it refined for the picture, HFGI and WaGI with the whole residual aligned to the
edit. Without --directions the edited latents are the system's own of the true edit, which is rendered beside
it; with them, a folder for each kind of generator, latents move along the direction.
"""

import argparse
from pathlib import Path

from wagi.errors import UserError
from wagi.experiments.attribute_edits import add_edits, draw
from wagi.experiments.models import add_models

INVERSIONS, EDITS = 3, 5


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate figure12",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(p)
    p.add_argument("--out", required=True, type=Path, metavar="FILE", help="picture to write, *.jpg or *.png")
    add_edits(p, EDITS)
    p.add_argument(
        "--inversions", type=int, default=INVERSIONS, metavar="N",
        help=f"pictures that are inverted only, above the edits (default {INVERSIONS})",
    )  # fmt: skip
    return p


def run(args: argparse.Namespace) -> None:
    if args.inversions < 0:
        raise UserError(f"--inversions {args.inversions}: must be 0 or more", 2)
    draw(args, args.inversions, EDITS)
