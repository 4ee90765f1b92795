"""Figure 5: attributes of held-out portraits edited, by every system or by the ways of one model.

python -m wagi.evaluate figure5 --table1 OUT/table1.json --runs RUNS --out figure5.jpg
python -m wagi.evaluate figure5 --model CKPT --directions BUNDLE --papers ADA.safetensors --out figure5.jpg

Each attribute has a portrait of its own, the first ones of the seed to which the edit applies; with --data
those pictures in their order, again from the first when there are fewer. Several systems: a line for each
attribute and a column for each system (python -m wagi.evaluate figure12 --help says how each edits). One
--model: a column for each attribute, along directions; lines: input, naive edit (E0 and G0, as e4e), the
papers' edit (HFGI-style: ADA, nothing faded), WaGI.
"""

import argparse
from pathlib import Path

import torch

from wagi.checkpoint import load_model
from wagi.editing.attributes import ATTRIBUTES
from wagi.errors import UserError
from wagi.experiments.attribute_edits import add_edits, along, draw, of_data, rendered, whose
from wagi.experiments.comparison import comparison, with_labels, write_picture
from wagi.experiments.models import add_models, named_models
from wagi.experiments.ways import NAIVE, PAPERS, SHIPPED, Compared, load_papers

COLUMNS = 7
LINES = {"input": "input", NAIVE: NAIVE, PAPERS: "HFGI-style edit", SHIPPED: SHIPPED}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate figure5",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(p, "; one alone is shown by its ways to edit")
    p.add_argument("--out", required=True, type=Path, metavar="FILE", help="picture to write, *.jpg or *.png")
    p.add_argument(
        "--papers", type=Path, metavar="CKPT",
        help="one model: another with ADA and the same generator, for the papers' edit (default: the model "
        "itself, if it has ADA)",
    )  # fmt: skip
    add_edits(p, COLUMNS)
    return p


def run(args: argparse.Namespace) -> None:
    if len(args.model) != 1 or args.table1:
        if args.papers:
            raise UserError("--papers: is for one --model; name it among several as one of them", 2)
        draw(args, 0, COLUMNS)
        return
    if len(args.directions) != 1:
        raise UserError("--directions: one --model is edited along directions; name one folder or bundle", 2)
    (model,) = named_models(args.model, load_model).values()
    papers = load_papers(args.papers, model)
    edits, shifts = along({"": model}, args.directions, args.set, COLUMNS)
    size, names, columns = model.generator.size, [name for name, _ in edits], {}
    cases = of_data(args.data, size, len(edits)) if args.data else rendered(edits, args.seed, size)
    with torch.no_grad():
        for direction, (name, strength), case in zip(shifts[""], edits, cases, strict=True):
            ways = Compared(case.source, model, papers)(strength * torch.from_numpy(direction.vector))
            shown = [image for way, image in {"input": case.source, **ways}.items() if way in LINES]
            columns[f"{name} {strength:+g}"] = torch.cat(shown)
    labels = [label for name, label in LINES.items() if name != PAPERS or papers]
    write_picture(args.out, with_labels(comparison(columns), labels))
    print(f"{args.out}: {', '.join(columns)}; {whose(args, cases)}")
    if missing := [name for name in ATTRIBUTES if name not in names]:
        print(f"{len(names)} of the paper's {COLUMNS} attributes; not shown: {', '.join(missing)}")
