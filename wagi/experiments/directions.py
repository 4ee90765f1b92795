"""Editing directions in a trained model's W, found with rendered portraits, offered only if they hold.

python -m wagi.evaluate directions --model CHECKPOINT --out OUT --edits yaw+0.3 smile+0.7

Two ways: `pairs`, the mean of E0(x_edit) - E0(x) over counterfactual pairs, and `classifier`, the normal of a
linear classifier of the parameter (InterFaceGAN). OUT/NAME-WAY.safetensors is what `python -m wagi.convert`
makes of a public direction.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wagi.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from wagi.experiments.counterfactuals import Edit
    from wagi.model import WaGI

WAYS = ("pairs", "classifier")
# A projection that tells which of two portraits has more of the attribute in less than three of four cases
# is mostly something else; chance is 0.5, and yaw reaches 0.99.
MINIMUM_AUC = 0.75
COLUMNS = ("edit", "way", "auc", "correlation", "strength", "explained", "offered")


class Direction(NamedTuple):
    """A unit vector [1 or n_latent, D] in W towards more of a parameter, and its length per unit of that."""

    vector: np.ndarray
    strength: float


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


# ------------------------------------------------------------------------------------------- the two ways


def pair_direction(shifts: np.ndarray) -> np.ndarray:  # N,L,D => L,D
    """Unit vector of the mean shift E0(x_edit) - E0(x)."""
    mean = shifts.mean(axis=0)
    return mean / np.linalg.norm(mean)


# InterFaceGAN (Shen et al. 2020): the normal of a linear boundary in W; here of a logistic regression.
def classifier_direction(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:  # N,L,D ; N bool => 1,D
    """Unit normal, towards True, of a regularised logistic regression on the mean over styles."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    model.fit(codes.mean(axis=1), labels)
    normal = model[-1].coef_[0] / model[0].scale_
    return (normal / np.linalg.norm(normal))[None]


def calibrate(shifts: np.ndarray, vector: np.ndarray) -> tuple[float, float]:
    """Least squares: the s of shifts [N, L, D] = s * vector, and the share of their squares it explains."""
    whole = np.broadcast_to(vector, shifts.shape[1:])
    strength = float((shifts * whole).sum() / (len(shifts) * np.square(whole).sum()))
    rest = np.square(shifts - strength * whole).sum()
    return strength, float(1 - rest / np.square(shifts).sum())


def separation(codes: np.ndarray, vector: np.ndarray, values: np.ndarray, labels: np.ndarray) -> dict:
    """AUC of the projection for the labels, and its correlation with the values; None where undefined."""
    from sklearn.metrics import roc_auc_score

    projection = (codes * vector).sum(axis=(1, 2))
    if labels.all() or not labels.any():
        return {"auc": None, "correlation": None}
    return {
        "auc": float(roc_auc_score(labels, projection)),
        "correlation": float(np.corrcoef(projection, values)[0, 1]),
    }


# ------------------------------------------------------------------------------------------- measuring


def parameter_values(params: np.ndarray, change: "Edit") -> np.ndarray:  # N,P => N
    """The edit's parameter out of standardised parameter vectors (`portraits.vector`)."""
    from wagi.portraits.parameters import CATEGORIES, CONTINUOUS, options

    if not change.option:
        return params[:, list(CONTINUOUS).index(change.parameter)]
    column = len(CONTINUOUS)
    for name in CATEGORIES:
        if name == change.parameter:
            return params[:, column + options(name).index(change.option)]
        column += len(options(name))
    raise AssertionError(change.parameter)


def encode_data(model: "WaGI", data: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes [N, L, D] of all portraits of a data set, and their parameters [N, P]."""
    import torch
    from tqdm import tqdm

    from wagi.data import open_dataset
    from wagi.loader import batch_of

    dataset = open_dataset(data, size)
    if not dataset.param_dim:
        raise UserError(f"--data {data}: no rendered portraits; give portraits:SEED:COUNT or their folder", 2)
    codes, params = [], []
    with torch.no_grad():
        for first in tqdm(range(0, len(dataset), 32), "codes", disable=None):
            batch = batch_of(dataset, range(first, min(first + 32, len(dataset))))
            codes.append(model.encode(batch["image"]).numpy())
            params.append(batch["params"].numpy())
    return np.concatenate(codes), np.concatenate(params)


def encode_pairs(model: "WaGI", pairs: Any, change: "Edit") -> np.ndarray:
    """Shifts E0(x_edit) - E0(x) [N, L, D]."""
    import torch

    from wagi.experiments.counterfactuals import batches

    with torch.no_grad():
        shifts = [
            model.encode(edited) - model.encode(source) for source, edited, _ in batches(pairs(change), 32)
        ]
    return torch.cat(shifts).numpy()


def measure(
    change: "Edit", shifts: np.ndarray, codes: np.ndarray, params: np.ndarray, minimum_auc: float
) -> "list[tuple[dict[str, Any], Direction]]":
    """Both ways' rows and directions. Fitted on the first part of everything, measured on the rest."""
    part, half = len(codes) * 2 // 3, len(shifts) // 2
    values = parameter_values(params, change) * np.sign(change.change)
    labels = values > (0 if change.option else np.median(values[:part]))
    vectors = {"pairs": pair_direction(shifts[:half])}
    if len(set(labels[:part])) == 2:
        vectors["classifier"] = classifier_direction(codes[:part], labels[:part])
    found = []
    for way, vector in vectors.items():
        strength, explained = calibrate(shifts[half:], vector)
        row: dict[str, Any] = {"edit": change.text, "way": way, "strength": strength, "explained": explained}
        row |= separation(codes[part:], vector, values[part:], labels[part:])
        row["offered"] = "yes" if row["auc"] is not None and row["auc"] >= minimum_auc else "no"
        found.append((row, Direction(vector * np.sign(change.change), strength / abs(change.change))))
    return found


# ------------------------------------------------------------------------------------------- files


def latent_space(encoder: "nn.Module", generator: "nn.Module") -> str:
    """A name for the W that an encoder and a generator share: equal weights give the same name."""
    digest = hashlib.sha256()
    for module in (encoder, generator):
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def path_of(folder: Path, change: "Edit", way: str) -> Path:
    """Where a direction lies: edits of one parameter in the same sense share it."""
    name = change.parameter + (f"={change.option}" if change.option else "")
    return folder / f"{name}-{way}.safetensors"


def write(path: Path, found: Direction, facts: "Mapping[str, str]") -> None:
    """In the format of `wagi.conversion.directions`, with where it is from among the facts."""
    import torch
    from safetensors.torch import save_file

    from wagi import checkpoint
    from wagi.files import beside

    words = {"format": checkpoint.FORMAT, "version": str(checkpoint.VERSION), "kind": "interfacegan", **facts}
    vector = torch.from_numpy(np.ascontiguousarray(found.vector, np.float32))
    words |= {
        "styles": "all" if len(vector) == 1 else str(len(vector)),
        "style_dim": str(vector.shape[1]),
        "strength": repr(found.strength),
    }
    with beside(path) as part:
        save_file({"direction": vector}, part, words)


def read(path: Path, space: str) -> Direction:
    """A direction that `write` left for this latent space. Raises UserError."""
    from wagi.conversion.directions import boundary
    from wagi.conversion.sources import open_source

    source = open_source(path)
    vector = boundary(source)["flat"]["direction"].numpy()
    if source.metadata.get("latent_space") != space or "strength" not in source.metadata:
        raise UserError(
            f"{path}: not a direction in this model's latent space; find it again with "
            "`python -m wagi.evaluate directions`"
        )
    return Direction(vector, float(source.metadata["strength"]))


# ------------------------------------------------------------------------------------------- the command


def run(args: argparse.Namespace) -> None:
    from wagi import checkpoint
    from wagi.experiments.counterfactuals import Pairs, parse_edit
    from wagi.experiments.tables import write_report

    edits = [parse_edit(text) for text in args.edits]
    if len({path_of(args.out, change, WAYS[0]) for change in edits}) < len(edits):
        raise UserError("--edits: two of the same parameter; a direction serves both senses, give one", 2)
    content = checkpoint.read(args.model)
    config, model = checkpoint.model_config(content, args.model), checkpoint.build_model(content, args.model)
    pairs = Pairs(args.pairs, args.seed, config.size, args.count)
    codes, params = encode_data(model, args.data, config.size)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    space = latent_space(model.encoder, model.generator)
    for change in edits:
        print(f"{change.text}: pairs", file=sys.stderr)
        for row, found in measure(
            change, encode_pairs(model, pairs, change), codes, params, args.minimum_auc
        ):
            path = path_of(args.out, change, row["way"])
            path.unlink(missing_ok=True)
            if row["offered"] == "yes":
                facts = {"made_for": config.generator, "latent_space": space, "found_with": change.text}
                write(path, found, {**facts, "auc": repr(row["auc"])})
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
