"""Figure 11: intermediate maps of inversions: residual, aligned residual, gates, coefficients.

python -m wagi.evaluate figure11 --model CKPT --data portraits:9001:3 --out OUT

Gates are drawn as the mean absolute value over channels of g (scale) and h (shift), each by its own range;
coefficients are the LH, HL and HH that wavelet fusion adds (h), around grey.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from wagi.checkpoint import load_model
from wagi.errors import option
from wagi.experiments import tables
from wagi.experiments.figure2a import GAIN
from wagi.experiments.heldout import BANDS, add_pictures, load_images
from wagi.experiments.tables import new_figure, show
from wagi.model import WaGI

Maps = dict[str, Tensor]  # title -> pictures [N, 3, s, s] in [-1, 1], or maps [N, s, s] >= 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate figure11",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    add_pictures(p)
    p.add_argument("--out", required=True, type=Path, metavar="DIR", help="writes figure11.png")
    return p


@torch.no_grad()
def maps(model: WaGI, images: Tensor) -> Maps:
    """The values that pass through an inversion of images [N, 3, S, S], in the order of its steps."""
    found = model.invert(images)
    gates = model.fusion(found.aligned)
    shown = {
        "input": images,
        "naive": found.naive,
        "residual": found.residual / 2,
        "aligned residual": found.aligned / 2,
    }
    for kind, pairs in (("features", gates.features), ("wavelets", gates.wavelets)):
        for level, pair in sorted(pairs.items()):
            for name, values in zip("gh", pair, strict=True):
                shown[f"|{name}|, {kind} {level} px"] = values.abs().mean(1)
    for level, (_, h) in sorted(gates.wavelets.items()):
        for band, values in list(zip(BANDS, h.chunk(4, 1), strict=True))[1:]:
            shown[f"{band} added, {level} px"] = GAIN * values
    return {**shown, "result": found.image}


def run(args: argparse.Namespace) -> None:
    model = load_model(args.model)
    with option("--data"):
        images = load_images(args.data, model.generator.size, args.count)
    path = tables.write_figure(args.out, "figure11", figure(maps(model, images)))
    print(f"{path}: {len(images)} pictures of {args.data}")


def figure(shown: Maps) -> Figure:
    """A line per picture, a column per map."""
    count = len(shown["input"])
    result = new_figure(1.4 * len(shown), 1.6 * count)
    for row, line in enumerate(result.subplots(count, len(shown), squeeze=False)):
        for axes, (title, values) in zip(line, shown.items(), strict=True):
            if values.ndim == 4:
                show(axes, values[row], title if not row else "")
            else:
                axes.imshow(values[row].numpy(), cmap="magma", interpolation="nearest")
                axes.set_title(title if not row else "", fontsize=7)
                axes.set_axis_off()
    return result
