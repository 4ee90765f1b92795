"""Figure 5: attributes of held-out portraits edited along directions, by the ways that the paper compares.

python -m wagi.evaluate figure5 --model CKPT --directions BUNDLE --papers ADA.safetensors --out figure5.jpg

A column per attribute, each with a portrait of its own, the first ones of the seed to which the edit applies;
lines: input, naive edit (E0 and G0, as e4e), the papers' edit (HFGI-style: ADA, nothing faded), WaGI.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from wagi.checkpoint import load_model
from wagi.data import to_float
from wagi.editing.attributes import ATTRIBUTES, true_edit
from wagi.errors import UserError
from wagi.experiments.comparison import comparison, with_labels, write_picture
from wagi.experiments.ways import NAIVE, PAPERS, SHIPPED, Compared, load_directions, load_papers
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
    return p


def strengths_of(texts: list[str]) -> dict[str, float]:
    """{name: strength} of NAME=STRENGTH texts. Raises UserError, status 2."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UserError(f"--set {text}: write NAME=STRENGTH, such as yaw=-1", 2) from None
    return found


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
    asked = strengths_of(args.set)
    model = load_model(args.model)
    papers = load_papers(args.papers, model)
    directions = load_directions(args.directions, model, list(asked))[: len(asked) or COLUMNS]
    strengths = [asked.get(one.name, usual(one)) for one in directions]
    names = [one.name for one in directions]
    chosen = portraits(list(zip(names, strengths, strict=True)), args.seed)
    columns: dict[str, Tensor] = {}
    with torch.no_grad():
        for direction, strength, index in zip(directions, strengths, chosen, strict=True):
            source = to_float(render(dataset.portrait(args.seed, index), model.generator.size))[None]
            ways = Compared(source, model, papers)(strength * torch.from_numpy(direction.vector))
            shown = [image for name, image in {"input": source, **ways}.items() if name in LINES]
            columns[f"{direction.name} {strength:+g}"] = torch.cat(shown)
    lines = [label for name, label in LINES.items() if name != PAPERS or papers]
    write_picture(args.out, with_labels(comparison(columns), lines))
    print(f"{args.out}: {', '.join(columns)}; portraits {', '.join(map(str, chosen))} of seed {args.seed}")
    if missing := [name for name in ATTRIBUTES if name not in names]:
        print(f"{len(names)} of the paper's {COLUMNS} attributes; not shown: {', '.join(missing)}")
