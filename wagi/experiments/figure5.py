"""Figure 5: attributes of held-out portraits edited along directions, by the ways that the paper compares.

python -m wagi.evaluate figure5 --model CKPT --directions BUNDLE --papers ADA.safetensors --out figure5.jpg

A column per attribute, each with a portrait of its own, the first ones of the seed to which the edit applies;
lines: input, naive edit (E0 and G0, as e4e), the papers' edit (HFGI-style: ADA, nothing faded), WaGI. With
--data the columns take those pictures in their order, again from the first when there are fewer.
"""

import argparse
from pathlib import Path

import torch

from wagi.checkpoint import load_model
from wagi.data import open_dataset, to_float
from wagi.editing.attributes import ATTRIBUTES, true_edit
from wagi.errors import UserError, option
from wagi.experiments.comparison import comparison, with_labels, write_picture
from wagi.experiments.photos import add_data
from wagi.experiments.ways import (
    NAIVE,
    PAPERS,
    SHIPPED,
    Compared,
    load_directions,
    load_papers,
    strengths_of,
)
from wagi.portraits import dataset, render
from wagi_rt.directions import Direction

COLUMNS = 7
LINES = {"input": "input", NAIVE: NAIVE, PAPERS: "HFGI-style edit", SHIPPED: SHIPPED}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate figure5",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    p.add_argument(
        "--directions", required=True, type=Path, metavar="DIR",
        help="folder of directions (python -m wagi.directions), or a bundle",
    )  # fmt: skip
    p.add_argument("--out", required=True, type=Path, metavar="FILE", help="picture to write, *.jpg or *.png")
    p.add_argument(
        "--papers", type=Path, metavar="CKPT",
        help="model with ADA and the same generator, for the papers' edit (default: a --model with ADA)",
    )  # fmt: skip
    p.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=STRENGTH",
        help=f"the columns (default: the first {COLUMNS} directions, 1 unit each, within their ranges)",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=9001, metavar="K", help="of the portraits (default 9001)")
    add_data(p)
    return p


def usual(direction: Direction) -> float:
    """1, or as much of it as the measured range has, in the sense that has more."""
    low, high = direction.range or (-1.0, 1.0)
    return min(1.0, high) if min(1.0, high) >= min(1.0, -low) else max(-1.0, low)


def portraits(edits: list[tuple[str, float]], seed: int) -> list[int]:
    """An index for each edit: no portrait twice, each the first one that the true edit applies to."""
    found: list[int] = []
    for name, strength in edits:
        change = true_edit(name, strength)
        applies = (k for k in range(10_000) if change is None or change.apply(dataset.portrait(seed, k)))
        fitting = next((k for k in applies if k not in found), None)
        if fitting is None:
            raise UserError(f"--set {name}={strength:g}: fits no portrait's true edit; make it smaller", 2)
        found.append(fitting)
    return found


def run(args: argparse.Namespace) -> None:
    asked = strengths_of(args.set, "--set")
    model = load_model(args.model)
    papers = load_papers(args.papers, model)
    directions = load_directions(args.directions, model, list(asked), "--set")[: len(asked) or COLUMNS]
    strengths = [asked.get(one.name, usual(one)) for one in directions]
    names = [one.name for one in directions]
    size, columns = model.generator.size, {}
    if args.data:
        with option("--data"):
            data = open_dataset(args.data, size)
        chosen = [k % len(data) for k in range(len(names))]
        sources = [data.get(index, False)["image"] for index in chosen]
    else:
        chosen = portraits(list(zip(names, strengths, strict=True)), args.seed)
        sources = [to_float(render(dataset.portrait(args.seed, index), size)) for index in chosen]
    with torch.no_grad():
        for direction, strength, picture in zip(directions, strengths, sources, strict=True):
            source = picture[None]
            ways = Compared(source, model, papers)(strength * torch.from_numpy(direction.vector))
            shown = [image for name, image in {"input": source, **ways}.items() if name in LINES]
            columns[f"{direction.name} {strength:+g}"] = torch.cat(shown)
    lines = [label for name, label in LINES.items() if name != PAPERS or papers]
    write_picture(args.out, with_labels(comparison(columns), lines))
    whose = f"pictures {{}} of {args.data}" if args.data else f"portraits {{}} of seed {args.seed}"
    print(f"{args.out}: {', '.join(columns)}; {whose.format(', '.join(map(str, chosen)))}")
    if missing := [name for name in ATTRIBUTES if name not in names]:
        print(f"{len(names)} of the paper's {COLUMNS} attributes; not shown: {', '.join(missing)}")
