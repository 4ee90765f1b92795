"""Editing directions: how well they separate portraits they have not seen, and how far an edit goes along.

python -m wagi.evaluate directions --model CHECKPOINT --out OUT --edits yaw+0.3 smile+0.7

Two ways: `pairs`, the mean of E0(x_edit) - E0(x) over counterfactual pairs, and `classifier`, the normal of a
linear classifier of the parameter (InterFaceGAN). OUT/NAME-WAY.safetensors is what `python -m wagi.convert`
makes of a public direction.
"""

import argparse
import sys
from pathlib import Path

from wagi import checkpoint
from wagi.editing import directions
from wagi.editing.counterfactuals import Pairs
from wagi.editing.search import MINIMUM_AUC, WAYS, encode_data, encode_pairs, measure
from wagi.errors import UserError, option
from wagi.experiments.tables import write_report
from wagi.portraits.edits import OTHER, parse_edit

COLUMNS = ("edit", "way", "auc", "correlation", "strength", "explained", "offered")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate directions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    p.add_argument(
        "--out", required=True, type=Path, metavar="OUT", help="folder of the directions and table"
    )
    p.add_argument(
        "--edits", nargs="+", default=["yaw+0.3", "smile+0.7", "glasses=square"], metavar="EDIT",
        help="NAME+AMOUNT or NAME=OPTION (default: yaw+0.3 smile+0.7 glasses=square)",
    )  # fmt: skip
    p.add_argument(
        "--data", default="portraits:9301:600", metavar="DATA",
        help="portraits for classifier and AUC, a third of them held out (default portraits:9301:600)",
    )  # fmt: skip
    p.add_argument(
        "--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)",
    )  # fmt: skip
    p.add_argument(
        "--count", type=int, default=128, metavar="N", help="pairs per edit, half held out (default 128)"
    )
    p.add_argument(
        "--seed", type=int, default=9302, metavar="K", help="of the pairs' portraits (default 9302)"
    )
    p.add_argument(
        "--minimum-auc", type=float, default=MINIMUM_AUC, metavar="A",
        help=f"refuse a direction whose held-out AUC is lower (default {MINIMUM_AUC})",
    )  # fmt: skip
    return p


def run(args: argparse.Namespace) -> None:
    with option("--edits"):
        edits = [parse_edit(text) for text in args.edits]
    if drawn := [change.text for change in edits if change.option == OTHER]:
        raise UserError(f"--edits {drawn[0]}: leads everywhere, and so has no direction; leave it out", 2)
    if len({directions.path_of(args.out, change, WAYS[0]) for change in edits}) < len(edits):
        raise UserError("--edits: two of the same parameter; a direction serves both senses, give one", 2)
    content = checkpoint.read(args.model)
    config, model = checkpoint.model_config(content, args.model), checkpoint.build_model(content, args.model)
    pairs = Pairs(args.pairs, args.seed, config.size, args.count)
    with option("--data"):
        codes, params = encode_data(model, args.data, config.size)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    space = directions.latent_space(model.encoder, model.generator)
    for change in edits:
        print(f"{change.text}: pairs", file=sys.stderr)
        for row, found in measure(
            change, encode_pairs(model, pairs, change), codes, params, args.minimum_auc
        ):
            path = directions.path_of(args.out, change, row["way"])
            path.unlink(missing_ok=True)
            if row["offered"] == "yes":
                facts = {"made_for": config.generator, "latent_space": space, "found_with": change.text}
                directions.write(path, found, {**facts, "auc": repr(row["auc"])})
            rows.append(row)
    meta = {
        "title": "Editing directions",
        "model": args.model.name,
        "codes": f"{args.data}: {len(codes)}, the last third held out (AUC, correlation)",
        "pairs": f"seed {args.seed}, {args.count} per edit, the second half held out (strength, explained)",
        "offered": f"held-out AUC of at least {args.minimum_auc:g}",
        "notes": [
            "auc, correlation: of the projection onto the direction, for the parameter being above "
            "its median (or the option being there). strength: length of the edit along the unit direction, "
            "by least squares. explained: share of the squared shift E0(x_edit) - E0(x) that it accounts for."
        ],
    }
    print(write_report(args.out, "directions", rows, COLUMNS, meta))
