"""Comparison sheets of held-out portraits that nobody chose: the README's picture, Figure 4, edits.

python -m wagi.evaluate sheet --model CKPT --out docs/held-out.jpg
python -m wagi.evaluate sheet --model HFGI=A.pt WaGI=D.pt --out docs/figure4.jpg --count 8
python -m wagi.evaluate sheet --table1 OUT/table1.json --runs RUNS --out docs/figure4.jpg --count 8
python -m wagi.evaluate sheet --kind edit --edit yaw+0.3 --model HFGI=A.pt WaGI=D.pt --out docs/edit.jpg

`inversion` (Figure 4): input and the inversion of each model, before them the naive one (E0 and G0 alone, as
e4e) where no model is an encoder alone.
`edit`: the same after an edit, beside the true rendering; the edited latent is E0's of that. Pictures of
--data have no true rendering: they are edited along a direction, --edit NAME=STRENGTH with --directions.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wagi.checkpoint import load_model
from wagi.data import open_dataset
from wagi.editing.counterfactuals import Pairs, batches
from wagi.errors import UserError, option
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.models import Inverter, add_models, named_models, one_each, size_of
from wagi.experiments.photos import add_data
from wagi.experiments.ways import load_directions, strengths_of
from wagi.loader import batch_of
from wagi.model import WaGI
from wagi.portraits.edits import parse_edit


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate sheet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(p)
    p.add_argument("--out", required=True, type=Path, metavar="FILE", help="picture to write, *.jpg or *.png")
    p.add_argument(
        "--kind", choices=("inversion", "edit"), default="inversion", help="what is shown (default inversion)"
    )
    p.add_argument("--edit", default="yaw+0.3", metavar="EDIT", help="of --kind edit (default yaw+0.3)")
    p.add_argument(
        "--directions", type=Path, metavar="DIR",
        help="--kind edit with --data: the folder or bundle of the direction that --edit NAME=STRENGTH names",
    )  # fmt: skip
    p.add_argument("--count", type=int, default=16, metavar="N", help="portraits (default 16)")
    p.add_argument("--blocks", type=int, default=2, metavar="N", help="blocks of columns (default 2)")
    add_data(p)
    p.add_argument("--seed", type=int, default=9001, metavar="K", help="of the portraits (default 9001)")
    p.add_argument(
        "--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)",
    )  # fmt: skip
    return p


def inversion_columns(models: Mapping[str, Inverter], images: Tensor) -> dict[str, Tensor]:
    """Figure 4's columns: input and inversions, and where none is an encoder's alone the naive ones before.

    Models that share a generator share its naive column.
    """
    found = {name: model.results(images) for name, model in models.items()}
    alone = any(final is naive for naive, final in found.values())
    columns = {"input": images}
    for name, (naive, final) in found.items():
        if not alone:
            _add_naive(columns, name, naive)
        columns[name] = final
    return columns


def edit_columns(models: dict[str, WaGI], source: Tensor, edited: Tensor) -> dict[str, Tensor]:
    """Columns of an edit: the same with the latents of the true edit."""
    columns = {"input": source, "true edit": edited}
    for name, model in models.items():
        found = model.edit(source, model.encode(edited))
        _add_naive(columns, name, found.naive)
        columns[name] = found.image
    return columns


@torch.no_grad()
def moved_columns(models: dict[str, WaGI], images: Tensor, folder: Path, edit: str) -> dict[str, Tensor]:
    """Columns of an edit of pictures that no renderer knows, along a direction of every model's latents."""
    ((name, strength),) = strengths_of([edit], "--edit").items()
    columns = {"input": images}
    for title, model in models.items():
        (direction,) = load_directions(folder, model, [name], "--edit")
        found = model.invert(images)
        edited = model.edit(found, found.ws + strength * torch.from_numpy(direction.vector))
        _add_naive(columns, title, edited.naive)
        columns[title] = edited.image
    return columns


def _add_naive(columns: dict[str, Tensor], name: str, naive: Tensor) -> None:
    seen = [title for title in columns if title.startswith("naive")]
    if not any(torch.equal(columns[title], naive) for title in seen):
        columns[f"naive {name}" if seen else "naive"] = naive


def _pictures(source: str, size: int, count: int) -> Tensor:  # => at most `count`,3,size,size
    with option("--data"):
        data = open_dataset(source, size)
    return batch_of(data, range(min(count, len(data))))["image"]


@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    source = args.data or f"portraits:{args.seed}:{args.count}"
    if args.kind == "edit" and not args.model:
        raise UserError("--kind edit: needs --model; edits of table1's systems are figure12's", 2)
    if args.kind == "edit" and args.data:
        if args.directions is None:
            raise UserError("--data: has no true edits; give --directions DIR and --edit NAME=STRENGTH", 2)
        editors = named_models(args.model, load_model)
        images = _pictures(source, size_of(editors), args.count)
        columns = moved_columns(editors, images, args.directions, args.edit)
    elif args.kind == "edit":
        editors = named_models(args.model, load_model)
        with option("--edit"):
            pairs = Pairs(args.pairs, args.seed, size_of(editors), args.count)(parse_edit(args.edit))
        pair = next(batches(pairs, args.count))
        columns = edit_columns(editors, pair.source, pair.edited)
    else:
        models = one_each(args)
        columns = inversion_columns(models, _pictures(source, size_of(models), args.count))
    write_picture(args.out, comparison(columns, args.blocks))
    count, size = len(columns["input"]), args.out.stat().st_size / 1000
    print(f"{args.out}: {count} pictures of {source}, {size:.0f} kB")
