"""Edits along directions, measured: what changes, what else changes, what stays of the person and the detail.

python -m wagi.evaluate edits --model CKPT --directions BUNDLE --papers ADA.safetensors --out OUT

For every direction and strength, over held-out portraits: effect and leakage as the stand-in network reads
them, portraits-ID, distance to the true rendering of as much of the edit as was reached, LEC, portraits-FID
and brightness. A direction that was measured is kept in OUT/parts: a stopped run goes on. With --data,
pictures of your own: distances to them, LEC and brightness.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wagi.checkpoint import load_model, weights_hash
from wagi.editing.attributes import ATTRIBUTES, true_edit
from wagi.editing.counterfactuals import Pair, Pairs, batches
from wagi.editing.judging import Reader, portrait_reader
from wagi.errors import UserError, option
from wagi.evaluation.scores import FrechetDistance
from wagi.experiments import photos
from wagi.experiments.heldout import Means, Pictures, eight_bit
from wagi.experiments.networks import add_networks, files_of, networks, words_of
from wagi.experiments.regions import RegionMeans, masks
from wagi.experiments.runs import data_identity, digest, kept_json
from wagi.experiments.tables import write_report
from wagi.experiments.ways import Compared, lec, load_directions, load_papers, luma
from wagi.model import WaGI
from wagi.portraits import dataset, vector
from wagi.portraits.edits import Edit
from wagi.standins.model import PortraitsFeatures, PortraitsID, load
from wagi_rt.directions import Direction
from wagi_rt.files import file_sha256

VERSION = 1  # of the numbers: raised when their definition changes, so that kept ones are not mixed with new
TRUE = "true edit"
BATCH = 16
SPREAD = 256  # portraits whose parameters give the standard deviations
CALIBRATION = 24  # portraits whose renderings tell how much of an edit was reached
SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the whole edit, evenly spaced from 0
REGIONS = ("letters", "glasses", "mouth", "unchanged")
COLUMNS = (
    "direction", "strength", "row", "effect", "leakage", "into", "leakage/effect", "portraits-ID", "LEC",
    "portraits-FID", "brightness", "reached", "true edit", "l2", "l_wave", *(f"l2 {r}" for r in REGIONS),
)  # fmt: skip
NOTES = (
    "effect: change of the direction's attribute per unit of strength, against the same row at strength 0, "
    "as the stand-in network reads it, in held-out standard deviations; leakage: the largest change of "
    "another attribute, and into which. portraits-ID: cosine to the source.",
    "LEC (latent editing consistency): the result encoded again, the edit taken back, and its distance to "
    "the source's latents, root mean square. portraits-FID: to the sources. brightness: change of the mean "
    "luma per unit of |strength|, in levels of 255; below 0 in both senses: edits darken.",
    "reached: the share of the attribute's whole step whose true renderings are nearest to the naive edits, "
    "in L2 over all; true edit: that rendering, to which l2, l_wave and the regions are pixel-weighted "
    "distances. The row `true edit` is the rendering itself. Dashes: the renderer has no such edit, or the "
    "sources themselves are nearest.",
)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate edits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    add("--directions", required=True, type=Path, metavar="DIR",
        help="folder of directions (python -m wagi.directions), or a bundle")  # fmt: skip
    add("--out", required=True, type=Path, metavar="OUT", help="folder of the table and of kept parts")
    add("--papers", type=Path, metavar="CKPT",
        help="model with ADA and the same generator, for the papers' edit (default: a --model with ADA)",
    )  # fmt: skip
    add("--names", nargs="+", default=[], metavar="NAME", help="directions (default: all)")
    add("--strengths", nargs="+", type=float, default=[-1.0, 1.0], metavar="S", help="default -1 1")
    add("--limit", type=int, default=200, metavar="N", help="portraits (default 200)")
    add("--seed", type=int, default=9417, metavar="K", help="of the portraits (default 9417)")
    add("--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)")  # fmt: skip
    photos.add_data(p, "; what needs the renderer is left out")
    add_networks(p, "with --data: also portraits-features and portraits-ID")
    return p


class Judge:
    """Everything that measures the edits of one model.

    read: images => ATTRIBUTES [N, A] as the stand-in network sees them, in held-out standard deviations.
    """

    def __init__(self, model: WaGI, papers: WaGI | None, pairs: Pairs) -> None:
        self.model, self.papers, self.pairs = model, papers, pairs
        self.looks, self.identity = load(PortraitsFeatures), load(PortraitsID)
        params = np.stack([vector(dataset.portrait(pairs.seed, k)) for k in range(SPREAD)])
        deviations = np.array([one.of(params).std() for one in ATTRIBUTES.values()])
        read = portrait_reader(self.looks.predict)
        self.read: Reader = lambda images: read(images) / deviations

    # By synthesis, not by the stand-in network, which is blind to some attributes and reads blurred pictures
    # low. The mean over pictures decides: of one picture the blur of the naive edit hides small steps.
    @torch.no_grad()
    def reached(self, direction: Direction, strength: float) -> tuple[float | None, Edit | None]:
        """The share of the whole true edit, and the edit, whose renderings are nearest to the naive edits.

        No edit where the renderer has none for as many portraits, or the source itself is nearest.
        """
        whole = true_edit(direction.name, strength)
        if whole is None or whole.option:
            return None, whole
        edits = [true_edit(direction.name, strength * share) for share in SHARES]
        pairs = self.pairs
        few = Pairs(pairs.folder, pairs.seed, pairs.size, min(CALIBRATION, pairs.count))
        while edits and not few.fits(edits[-1]):
            edits.pop()
        if not edits:
            return None, None
        indices = few.chosen(edits[-1])  # which every smaller edit applies to
        shift = strength * torch.from_numpy(direction.vector)
        errors = [self._naive_error(few(change, indices), shift) for change in (None, *edits)]
        share = lowest(errors) * SHARES[0]
        change = true_edit(direction.name, strength * share)
        return share, change if pairs.fits(change) else None

    def _naive_error(self, pairs: Iterator[Pair], shift: Tensor) -> float:
        """The squared error of the naive edits to the true ones."""
        total = 0.0
        for pair in batches(pairs, BATCH):
            naive = self.model.generator(self.model.encode(pair.source) + shift)
            total += float((eight_bit(naive) - pair.edited).square().sum())
        return total

    def rows(self, direction: Direction, strength: float) -> list[dict[str, Any]]:
        """One row per way to show the edit."""
        share, change = self.reached(direction, strength)
        found = Tally(self, strength * torch.from_numpy(direction.vector), change is not None)
        for pair in batches(self.pairs(change), BATCH):
            found.add(pair)
        about = {"direction": direction.name, "strength": strength, "reached": share}
        about["true edit"] = change and change.text
        return [about | row for row in found.rows(direction.name, strength)]


def lowest(values: list[float]) -> float:
    """The place, in steps, of the lowest of evenly spaced values: the vertex of a parabola through three."""
    k = int(np.argmin(values))
    if k in (0, len(values) - 1):
        return float(k)
    before, here, after = values[k - 1 : k + 2]
    return k + 0.5 * (before - after) / (before - 2 * here + after)


class Tally:
    """The sums of one direction at one strength; shift: [n_latent, style_dim] or [style_dim]."""

    def __init__(self, judge: Judge, shift: Tensor, has_truth: bool) -> None:
        self.judge, self.shift, self.has_truth = judge, shift, has_truth
        self.means: dict[str, Means] = {}
        self.errors = RegionMeans("l2", "l_wave")
        self.distance: FrechetDistance | None = None

    @torch.no_grad()
    def add(self, pair: Pair) -> None:
        judge, model = self.judge, self.judge.model
        compared = Compared(pair.source, model, judge.papers)
        before, after = compared(torch.zeros_like(self.shift)), compared(self.shift)
        if self.has_truth:
            before, after = {TRUE: pair.source, **before}, {TRUE: pair.edited, **after}
            weights = masks(pair)
        for row, image in after.items():
            read = judge.read(image) - judge.read(before[row])
            self.means.setdefault(row, Means()).add({
                "changes": torch.from_numpy(read),
                "portraits-ID": judge.identity(image, pair.source),
                "LEC": lec(model, image, self.shift, compared.inversion.ws),
                "brightness": luma(image) - luma(before[row]),
            })  # fmt: skip
            if self.has_truth:
                self.errors.add(row, image - pair.edited, weights)
        pooled = {row: judge.looks.pooled(image) for row, image in after.items()}
        inputs = judge.looks.pooled(pair.source)
        self.distance = self.distance or FrechetDistance(inputs.shape[1])
        self.distance.add(inputs, pooled)

    def rows(self, name: str, strength: float) -> list[dict[str, Any]]:
        """One per way; `name`: the direction's."""
        errors, found = self.errors.rows(), []
        assert self.distance
        for row, means in self.means.items():
            values = means()
            facts = effects(name, np.array(values.pop("changes")) / strength)
            values["brightness"] /= abs(strength)
            if means.count > 1:
                values["portraits-FID"] = self.distance.compute(row)
            found.append({"row": row, **facts, **values, **errors.get(row, {}), "count": means.count})
        return found


def effects(name: str, changes: np.ndarray) -> dict[str, Any]:
    """Effect and largest leakage of changes [A] per unit; no effect where no attribute has the name."""
    names = list(ATTRIBUTES)
    others = np.abs(changes)
    effect = float(changes[names.index(name)]) if name in names else None
    if effect is not None:
        others[names.index(name)] = -1
    most = int(others.argmax())
    found = {"effect": effect, "leakage": float(changes[most]), "into": names[most]}
    found["leakage/effect"] = abs(float(changes[most]) / effect) if effect else None
    return found | {"changes": dict(zip(names, changes.round(4).tolist(), strict=True))}


def run(args: argparse.Namespace) -> None:
    photos.refuse_networks(args)
    if args.limit < 1 or not all(args.strengths):
        raise UserError("--limit: at least 1; --strengths: any but 0", 2)
    model = load_model(args.model)
    papers = load_papers(args.papers, model)
    directions = load_directions(args.directions, model, args.names)
    judge: Judge | photos.Photos
    if args.data:
        judge, world = _photos(args, model, papers)
        columns, about, notes = judge.columns, {"pictures": args.data}, photos.NOTES
    else:
        judge = Judge(model, papers, Pairs(args.pairs, args.seed, model.generator.size, args.limit))
        world = [weights_hash(judge.looks), args.seed, args.limit]
        columns, about, notes = COLUMNS, {"portraits": f"seed {args.seed}, {args.limit} per edit"}, NOTES
    world = [VERSION, dataset.VERSION, weights_hash(model), papers and weights_hash(papers), *world]
    meta = {"title": "Edits along directions", "model": args.model.name, **about}
    meta |= {**({"papers": args.papers.name} if args.papers else {}), "notes": notes}
    rows: list[dict[str, Any]] = []
    text = ""
    for direction, strength in [(one, strength) for one in directions for strength in args.strengths]:
        print(f"{direction.name} {strength:+g}", file=sys.stderr)
        identity = [*world, direction.name, strength, direction.vector.tolist()]
        part = args.out / "parts" / f"{direction.name}{strength:+g}-{digest(identity)}.json"
        rows += kept_json(part, _measured(judge, direction, strength))["rows"]
        text = write_report(args.out, "edits", rows, columns, meta)
    print(text)


def _photos(args: argparse.Namespace, model: WaGI, papers: WaGI | None) -> tuple[photos.Photos, list[Any]]:
    """The judge of pictures without a renderer, and what its numbers depend on besides the models."""
    judges, files = networks(files_of(args), args.standins), words_of(files_of(args))
    with option("--data"):
        pictures = Pictures(args.data, model.generator.size, args.limit)
    known = [data_identity(args.data), args.limit, sorted(judges)]
    known += [file_sha256(Path(path)) for path in files[1::2]]
    return photos.Photos(pictures, model, papers, judges), known


def _measured(judge: Judge | photos.Photos, direction: Direction, strength: float) -> Callable[[], dict]:
    return lambda: {"rows": judge.rows(direction, strength)}
