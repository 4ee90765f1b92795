"""Detail above R against the truth: models as they draw it, and with the input's own bands, moved or not.

python -m wagi.evaluate detail --model R64=A.pt R128=B.pt --edits yaw+0.3 smile+0.7 --out OUT

Portraits are inverted and edited with the latents of the true edit (E0 of its rendering). No model needs the
setting full_detail: those with a flow aligner and R below their size are measured without and with it.
"""

import argparse
import sys
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wagi.checkpoint import load_model
from wagi.editing.counterfactuals import Pair, Pairs, batches
from wagi.errors import option
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.heldout import Means, eight_bit
from wagi.experiments.models import named_models
from wagi.experiments.networks import standin_metrics
from wagi.experiments.regions import RegionMeans, masks
from wagi.experiments.tables import write_report
from wagi.model import WaGI
from wagi.networks.flow_alignment import FlowAligner
from wagi.networks.full_detail import keep_detail
from wagi.portraits.edits import Edit, parse_edit

WITH, UNMOVED = "full detail", "input's detail where it was"
SHOWN, BATCH = 6, 16
ERRORS = ("l2", "l_wave", "l2 letters", "l_wave letters", "l2 mouth", "l2 newly visible", "l2 unchanged")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate detail",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--model", required=True, nargs="+", metavar="NAME=CKPT", help="inversion checkpoints of one size"
    )
    p.add_argument("--out", required=True, type=Path, metavar="OUT", help="folder of table and figures")
    p.add_argument(
        "--edits", nargs="+", default=["yaw+0.3", "smile+0.7"], metavar="EDIT",
        help="NAME+AMOUNT, NAME=OPTION or NAME=other (default: yaw+0.3 smile+0.7)",
    )  # fmt: skip
    p.add_argument(
        "--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)",
    )  # fmt: skip
    p.add_argument("--count", type=int, default=64, metavar="N", help="pairs per edit (default 64)")
    p.add_argument("--seed", type=int, default=9303, metavar="K", help="of the portraits (default 9303)")
    return p


Results = dict[str, tuple[Tensor, Tensor]]  # row -> inversion, edit


def results(name: str, model: WaGI, pair: Pair) -> Results:
    """The rows of one model: [N, 3, S, S], 8-bit values in [-1, 1]."""
    plain, full = copy(model), copy(model)  # of the same parts and settings
    plain.full_detail, full.full_detail = False, True
    ws = model.encode(pair.edited)
    found = plain.invert(pair.source)
    images = {name: (found.image, plain.edit(found, ws).image)}
    if isinstance(model.aligner, FlowAligner) and model.resolution < model.generator.size:
        inverted, edited = (keep_detail(x, pair.source, model.resolution) for x in images[name])
        moved = full.edit(found, ws).image
        images |= {f"{name}, {UNMOVED}": (inverted, edited), f"{name}, {WITH}": (inverted, moved)}
    return {row: (eight_bit(a), eight_bit(b)) for row, (a, b) in images.items()}


@torch.no_grad()
def measure(
    models: dict[str, WaGI], pairs: Pairs, change: Edit
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Rows of the errors, inversions of the sources beside edits; columns of pictures of the first pairs."""
    inverted, edited = RegionMeans("l2", "l_wave"), RegionMeans("l2", "l_wave")
    networks = {name: (network, Means()) for name, network in standin_metrics().items()}
    pictures: dict[str, Tensor] = {}
    for pair in batches(pairs(change), BATCH):
        weights = masks(pair)
        found: Results = {}
        for name, model in models.items():
            found |= results(name, model, pair)
        for row, (inversion, edit) in found.items():
            inverted.add(row, inversion - pair.source, {"": weights[""]})
            edited.add(row, edit - pair.edited, weights)
        for network, means in networks.values():
            means.add({row: network(edit, pair.edited) for row, (_, edit) in found.items()})
        shown = {"source": pair.source, "true edit": pair.edited} | {row: e for row, (_, e) in found.items()}
        pictures = pictures or {title: images[:SHOWN] for title, images in shown.items()}
    judged = {name: means() for name, (_, means) in networks.items()}
    rows = [
        {"edit": change.text, "row": row}
        | {f"inversion {measured}": inverted.rows()[row][measured] for measured in ("l2", "l_wave")}
        | {**values, **{name: values_of[row] for name, values_of in judged.items()}}
        for row, values in edited.rows().items()
    ]
    return rows, pictures


def run(args: argparse.Namespace) -> None:
    with option("--edits"):
        edits = [parse_edit(text) for text in args.edits]
    models = named_models(args.model, load_model)
    pairs = Pairs(args.pairs, args.seed, next(iter(models.values())).generator.size, args.count)
    rows: list[dict[str, Any]] = []
    for change in edits:
        print(change.text, file=sys.stderr)
        found, pictures = measure(models, pairs, change)
        rows += found
        write_picture(args.out / f"detail-{change.text}.png", comparison(pictures))
    columns = ["edit", "row", "inversion l2", "inversion l_wave", *ERRORS, *standin_metrics()]
    meta: dict[str, Any] = {"title": "Detail above the residual's resolution"}
    for name, model in models.items():
        meta[f"model {name}"] = f"R = {model.resolution} of {model.generator.size} px"
    meta["pairs"] = f"seed {args.seed}, {args.count} per edit, latents of the true edit"
    meta["notes"] = [
        "8-bit images in [-1, 1], inversions against their source, edits against the renderer's own picture "
        f"of the edited scene. {WITH}: the input's Haar bands above R, under the flow where the edit moves "
        f"them; {UNMOVED}: the same bands, not moved."
    ]
    print(write_report(args.out, "detail", rows, columns, meta))
