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
from wagi.experiments.attribute_edits import USUAL, lines
from wagi.experiments.comparison import comparison, with_labels, write_picture
from wagi.experiments.models import add_models, one_each
from wagi.experiments.photos import add_data

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


def add_edits(p: argparse.ArgumentParser, count: int) -> None:
    """The options of `attribute_edits.lines`."""
    p.add_argument(
        "--directions", type=Path, nargs="+", default=[], metavar="DIR",
        help="folders of directions (python -m wagi.directions) or bundles; each model takes its generator's",
    )  # fmt: skip
    p.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=STRENGTH",
        help=f"the edits (default: the first {count} directions, 1 unit each, within their ranges; several "
        f"models without directions: {', '.join(USUAL[:count])})",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=9001, metavar="K", help="of the portraits (default 9001)")
    add_data(p)


def run(args: argparse.Namespace) -> None:
    if args.inversions < 0:
        raise UserError(f"--inversions {args.inversions}: must be 0 or more", 2)
    draw(args, args.inversions, EDITS)


def draw(args: argparse.Namespace, inversions: int, edits: int) -> None:
    """The sheet of all systems."""
    found = lines(one_each(args), args, inversions, edits)
    write_picture(args.out, with_labels(comparison(found.columns), found.labels))
    print(f"{args.out}: {', '.join(found.labels)}; {found.whose}")
