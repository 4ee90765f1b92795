"""Edits against the truth: one portrait inverted, edited in latent space, compared with its true rendering.

python -m wagi.evaluate edit --model CHECKPOINT --out OUT --edits yaw+0.3 glasses=none hair_colour+0.2 \\
    --directions DIR --papers ADA.safetensors

The edited latent is E0 of the true edit (`oracle`), which judges alignment and fusion apart from directions;
with --directions w + strength * direction, too. Errors are pixel-weighted means over all pairs, by region.

python -m wagi.evaluate edit --model CHECKPOINT --out OUT --data FOLDER --directions DIR --edits smile=1

Pictures of your own have no true edits: ways to edit them along directions, against the pictures themselves.
"""

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wagi.checkpoint import load_model
from wagi.editing.attributes import direction_of
from wagi.editing.counterfactuals import Pair, Pairs, batches
from wagi.errors import UserError, option
from wagi.evaluation.scores import FrechetDistance
from wagi.experiments import photos
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.heldout import Means, Pictures, eight_bit
from wagi.experiments.networks import add_networks, files_of, networks, standin_metrics
from wagi.experiments.regions import CHANGED, REGIONS, RegionMeans, Strength, masks
from wagi.experiments.tables import write_report
from wagi.experiments.ways import (
    ALIGNED,
    NAIVE,
    PAPERS,
    RAW,
    SHIPPED,
    edited_images,
    load_direction,
    load_directions,
    load_papers,
    strengths_of,
)
from wagi.model import WaGI, area_resize
from wagi.portraits.edits import Edit, parse_edit
from wagi_rt.directions import SUFFIX

ORACLE, ALONG = "oracle", "direction"
SHOWN = 6  # pairs in a figure
NEARER, END_POINT = "nearer than given", "end-point error"
BATCH = 16


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate edit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    p.add_argument("--out", required=True, type=Path, metavar="OUT", help="folder of tables and figures")
    p.add_argument(
        "--edits", nargs="+", default=["yaw+0.3", "yaw-0.3", "smile+0.7"], metavar="EDIT",
        help="NAME+AMOUNT, NAME=OPTION or NAME=other (default: yaw+0.3 yaw-0.3 smile+0.7); with --data "
        "DIRECTION=STRENGTH",
    )  # fmt: skip
    p.add_argument(
        "--directions", type=Path, metavar="DIR",
        help="edit along the directions of this folder or bundle too, those that stand for the edits",
    )  # fmt: skip
    p.add_argument(
        "--papers", type=Path, metavar="CKPT",
        help="model with ADA and the same generator, for the papers' edit (default: a --model with ADA)",
    )  # fmt: skip
    p.add_argument(
        "--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)",
    )  # fmt: skip
    p.add_argument("--count", type=int, default=64, metavar="N", help="pairs or pictures (default 64)")
    photos.add_data(p)
    add_networks(p, "with --data: also portraits-features and portraits-ID")
    p.add_argument(
        "--seed", type=int, default=9303, metavar="K", help="of the pairs' portraits (default 9303)"
    )
    return p


# ------------------------------------------------------------------------------------------- one edit


class Editor:
    """A model, and beside it one that edits as the papers do, at the latents of one edit.

    shift: [n_latent, style_dim] along a direction, or None: E0 of the true edit.
    """

    def __init__(self, model: WaGI, papers: WaGI | None, shift: Tensor | None) -> None:
        self.model, self.shift = model, shift
        self.papers = None if papers is model else papers  # a model with ADA shows both edits itself

    def _latents(self, model: WaGI, pair: Pair) -> Tensor:  # => N,n_latent,style_dim
        return model.encode(pair.edited) if self.shift is None else model.encode(pair.source) + self.shift

    @torch.no_grad()
    def __call__(self, pair: Pair):
        """The results of `edited_images`, with the papers' edit among the images."""
        found = edited_images(self.model, pair.source, pair.edited, self._latents(self.model, pair))
        if self.papers:
            edit = self.papers.edit(pair.source, self._latents(self.papers, pair), faded=False)
            found[0][PAPERS] = eight_bit(edit.image)
        return found


class Measured:
    """Everything that is reported of one edit, batch by batch."""

    def __init__(self) -> None:
        self.errors, self.alignment = RegionMeans("l2", "l_wave"), RegionMeans("l1", "l_wave")
        self.strength = Strength()
        networks = standin_metrics()
        self.networks = {name: (network, Means()) for name, network in networks.items()}
        self._pooled = networks["portraits-features"].pooled  # type: ignore[attr-defined]
        self.distance: FrechetDistance | None = None
        self.nearer: Counter[str] = Counter()
        self.motion = Motion()
        self.count = 0
        self.pictures: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, pair: Pair, editor: Editor) -> None:
        images, residuals, true, flow = editor(pair)
        weights = masks(pair)
        small = {name: area_resize(mask, true.shape[-1]) for name, mask in weights.items()}
        for name, image in images.items():
            self.errors.add(name, image - pair.edited, weights)
            self.strength.add(name, image, pair.source, pair.edited, weights["changed"])
        self._judge({name: images[name] for name in (NAIVE, RAW, PAPERS, SHIPPED) if name in images}, pair)
        for name, residual in residuals.items():
            self.alignment.add(name, residual - true, small)
        distances = {name: (found - true).abs().mean((1, 2, 3)) for name, found in residuals.items()}
        for name in ALIGNED.keys() & residuals.keys():
            self.nearer[name] += int((distances[name] < distances[ALIGNED[name]]).sum())
        self.motion.add(pair, flow)
        self.count += len(true)
        shown = {"source": pair.source, "true edit": pair.edited, **images}
        self.pictures = self.pictures or {name: image[:SHOWN] for name, image in shown.items()}

    def _judge(self, images: dict[str, Tensor], pair: Pair) -> None:
        """By the stand-in networks."""
        for network, means in self.networks.values():
            means.add({name: network(image, pair.edited) for name, image in images.items()})
        true = self._pooled(pair.edited)
        self.distance = self.distance or FrechetDistance(true.shape[1])
        self.distance.add(true, {name: self._pooled(image) for name, image in images.items()})

    def image_rows(self) -> list[dict[str, Any]]:
        """Errors of the images."""
        judged = {name: means() for name, (_, means) in self.networks.items()}
        if self.distance and self.count > 1:
            judged["portraits-FID"] = {row: self.distance.compute(row) for row in judged["portraits-ID"]}
        strength = self.strength.rows()
        return [
            {"row": row, **values, "strength": strength[row]}
            | {name: found.get(row) for name, found in judged.items()}
            for row, values in self.errors.rows().items()
        ]

    def residual_rows(self) -> list[dict[str, Any]]:
        """Errors of the residuals, and of the flow that moved them."""
        motion = self.motion.rows()
        return [
            {"row": row, **values, END_POINT: motion.get(row)}
            | ({NEARER: f"{self.nearer[row]}/{self.count}"} if row in ALIGNED else {})
            for row, values in self.alignment.rows().items()
        ]


class Motion:
    """Mean distance between a flow and the renderer's, in the residual's pixels, over what stays visible."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._pixels = 0.0

    def add(self, pair: Pair, flow: Tensor | None) -> None:
        """flow: [N, 2, R, R] of the flow aligner, if there is one."""
        if pair.flow is None or pair.newly is None or flow is None:
            return
        size = flow.shape[-1]
        seen = 1 - area_resize(pair.newly, size)
        true = area_resize(pair.flow, size) * (size / pair.flow.shape[-1])
        self._pixels += float(seen.sum())
        for row, found in (("flow", flow), ("raw residual", torch.zeros_like(flow))):
            self._sums[row] += float((torch.linalg.vector_norm(found - true, dim=1) * seen[:, 0]).sum())

    def rows(self) -> dict[str, float]:
        """row -> error; the raw residual is what did not move."""
        return {row: total / self._pixels for row, total in self._sums.items() if self._pixels}


# ------------------------------------------------------------------------------------------- the command


def shifts_for(folder: Path | None, edits: list[Edit], model: WaGI) -> dict[str, Tensor]:
    """{text of an edit: the shift of the latents that stands for it}, with a folder. Raises UserError."""
    found = {}
    for change in edits if folder is not None else ():
        name, strength = direction_of(change)
        direction = load_direction(folder / f"{name}{SUFFIX}", model)  # type: ignore[operator]
        found[change.text] = strength * torch.from_numpy(direction.vector)
    return found


def edit_photos(args: argparse.Namespace) -> None:
    """The command with --data."""
    strengths = strengths_of(args.edits, "--edits")
    if args.directions is None or not all(strengths.values()):
        raise UserError("--data: is edited along --directions DIR, by --edits NAME=STRENGTH other than 0", 2)
    model = load_model(args.model)
    directions = load_directions(args.directions, model, list(strengths), "--edits")
    with option("--data"):
        pictures = Pictures(args.data, model.generator.size, args.count)
    judges = networks(files_of(args), args.standins)
    judge, rows = photos.Photos(pictures, model, load_papers(args.papers, model), judges), []
    for direction in directions:
        print(f"{direction.name} {strengths[direction.name]:+g}", file=sys.stderr)
        rows += judge.rows(direction, strengths[direction.name])
        name = f"edit-{direction.name}{strengths[direction.name]:+g}.png"
        write_picture(args.out / name, comparison(judge.shown))
    meta = {"title": "Edits of pictures", "model": args.model.name}
    meta["pictures"] = f"{args.data}, {len(pictures)}"
    meta |= {"papers": args.papers.name} if args.papers else {}
    print(write_report(args.out, "edit", rows, judge.columns, {**meta, "notes": photos.NOTES}))


def run(args: argparse.Namespace) -> None:
    photos.refuse_networks(args)
    if args.data:
        edit_photos(args)
    else:
        edit_portraits(args)


def edit_portraits(args: argparse.Namespace) -> None:
    """The command on rendered portraits."""
    with option("--edits"):
        edits = [parse_edit(text) for text in args.edits]
    model = load_model(args.model)
    papers = load_papers(args.papers, model)
    pairs = Pairs(args.pairs, args.seed, model.generator.size, args.count)
    with option("--directions"):
        shifts = shifts_for(args.directions, edits, model)
    rows: list[dict[str, Any]] = []
    residual_rows: list[dict[str, Any]] = []
    for latents, change in [(way, one) for way in (ORACLE, ALONG)[: 1 + bool(shifts)] for one in edits]:
        print(f"{change.text}, {latents} latents", file=sys.stderr)
        editor = Editor(model, papers, shifts[change.text] if latents == ALONG else None)
        found = Measured()
        for pair in batches(pairs(change), BATCH):
            found.add(pair, editor)
        about = {"latents": latents, "edit": change.text}
        rows += [about | row for row in found.image_rows()]
        residual_rows += [about | row for row in found.residual_rows()]
        write_picture(args.out / f"edit-{change.text}-{latents}.png", comparison(found.pictures))
    meta = {"model": args.model.name, "pairs": f"seed {args.seed}, {args.count} per edit"}
    meta |= {"papers": args.papers.name} if args.papers else {}
    _write_reports(args.out, rows, residual_rows, meta)


def _columns(*measures: str) -> list[str]:
    return [f"{name} {region}".strip() for region in REGIONS for name in measures]


def _write_reports(out: Path, rows: list, residual_rows: list, meta: dict) -> None:
    """edit.md and alignment.md with their JSON; printed."""
    columns = ["latents", "edit", "row"]
    errors = [name for name in _columns("l2", "l_wave") if name.split()[1:] in ([], ["letters"], ["mouth"])]
    errors += [name for name in _columns("l2") if name not in errors]
    errors += ["strength", "portraits-ID", "portraits-features", "portraits-FID"]
    title = {"title": "Edits against the true rendering", **meta}
    notes = [
        "8-bit images in [-1, 1] against the renderer's own picture of the edited scene; pixel-weighted "
        "means over all pairs; regions are those of the edited picture; changed: where it differs by "
        f"{CHANGED} from the source. Strength: how far a result goes from the source to the true edit, over "
        "the changed pixels (0 a copy, 1 the true edit). Accessory: glasses and earrings among them; newly "
        "visible: of turns, what the source hides. Stand-in networks: means over pairs; portraits-FID: to "
        "the true edits, comparable with others of as many pairs only.",
        "With ADA, WaGI fades the residual where the edit changes the naive image (wagi.model.fade) before "
        "ADA aligns it; the paper's edit does not. With the flow aligner nothing is faded. The bound has the "
        "true residual in place of the aligned one.",
    ]
    print(write_report(out, "edit", rows, [*columns, *errors], {**title, "notes": notes}))
    title = {"title": "Alignment of the residual to the edit", **meta}
    notes = [
        "Distance to the true residual, the true edit minus the naive edit. `no residual` is what fading "
        "everything out would cost; nearer than given: pairs in which alignment brings L1 below that of what "
        "it was given.",
    ]
    columns += [*_columns("l1"), NEARER, END_POINT]
    print(write_report(out, "alignment", residual_rows, columns, {**title, "notes": notes}))
