"""Figure 1: inversions of noisy pictures, zoomed to where the naive inversion loses most.

python -m wagi.evaluate figure1 --model e4e=E.pt HFGI=A.pt WaGI=D.pt --noise 0.1 --out OUT
python -m wagi.evaluate figure1 --table1 OUT/table1.json --runs RUNS --out OUT

The pictures with seeded Gaussian noise are what every model gets and is compared with: an inversion that
keeps high frequencies keeps the noise too. --noise 0 takes the pictures as they are.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from wagi.errors import UserError, option
from wagi.experiments import tables
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.heldout import PIXEL_METRICS, add_pictures, eight_bit, load_images
from wagi.experiments.models import Inverter, add_models, one_each, size_of
from wagi.experiments.zooms import lost, worst
from wagi.metrics import METRICS
from wagi.model import area_resize

NOISE_SEED = 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate figure1",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(p, "; one alone stands beside its naive inversion")
    add_pictures(p)
    p.add_argument(
        "--noise", type=float, default=0.1, metavar="SIGMA",
        help="standard deviation, of images in [-1, 1] (default 0.1)",
    )  # fmt: skip
    p.add_argument("--out", required=True, type=Path, metavar="DIR", help="writes figure1.md, .json, .png")
    return p


def noisy(images: Tensor, sigma: float) -> Tensor:
    """Images [N, 3, S, S] with seeded Gaussian noise, as 8-bit pictures."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
    return eight_bit(images + sigma * noise)


@torch.no_grad()
def columns(models: dict[str, Inverter], images: Tensor) -> dict[str, Tensor]:
    """Title -> images [N, 3, S, S]: input, the naive inversion of a model that is alone, inversions."""
    found = {}
    for name, model in models.items():
        naive, final = model.results(images)
        if len(models) == 1 and final is not naive:
            found["naive"] = eight_bit(naive)
        found[name] = eight_bit(final)
    return {"input": images, **found}


def run(args: argparse.Namespace) -> None:
    if args.noise < 0:
        raise UserError(f"--noise {args.noise:g}: must be 0 or more", 2)
    models = one_each(args)
    size = size_of(models)
    with option("--data"):
        images = load_images(args.data, size, args.count)
    images = noisy(images, args.noise)
    shown = columns(models, images)
    zoom = worst(lost(next(iter(models.values())), images))
    pairs = {title: torch.stack([x, zoom(x)], 1).flatten(0, 1) for title, x in shown.items()}
    write_picture(args.out / "figure1.png", comparison(pairs))
    size, lines = min(256, size), []
    for name in list(shown)[1:]:
        x, y = (area_resize(each, size) for each in (shown[name], images))
        lines.append({"model": name, **{m: float(METRICS[m](x, y).mean()) for m in PIXEL_METRICS}})
    meta = {
        "title": "Figure 1: noisy pictures",
        "pictures": f"{args.data}, noise {args.noise:g}, seed {NOISE_SEED}",
        "numbers": f"means against the noisy pictures at {size} px, 8 bit in [-1, 1]",
    }
    print(tables.write_report(args.out, "figure1", lines, ["model", *PIXEL_METRICS], meta))
