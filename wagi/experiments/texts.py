"""Edits by text, measured: StyleCLIP's global direction, mapper and latent optimisation side by side.

python -m wagi.evaluate texts --model CKPT --styleclip DIR --mappers DIR --out OUT

Over held-out portraits that the true edit applies to: effect and leakage as the stand-in network reads them,
portraits-ID, the similarity of text and picture to portraits-CLIP, and distance to the true rendering of as
much of the edit as was reached. What was measured of a text is kept in OUT/parts: a stopped run goes on.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wagi.checkpoint import load_model, weights_hash
from wagi.editing import latent, mapping, styleclip, towers
from wagi.editing.attributes import ATTRIBUTES, true_edit
from wagi.editing.by_text import MAPPERS, name_of
from wagi.editing.counterfactuals import Pair, Pairs, batches
from wagi.editing.settings import DEFAULTS
from wagi.editing.towers import TextLoss
from wagi.errors import UserError, option
from wagi.experiments.edits import BATCH, CALIBRATION, SHARES, TRUE, Judge, effects, lowest
from wagi.experiments.heldout import Means, eight_bit
from wagi.experiments.regions import RegionMeans, masks
from wagi.experiments.runs import digest, kept_json
from wagi.experiments.tables import write_report
from wagi.experiments.ways import COPY, NAIVE, SHIPPED, load_direction
from wagi.model import WaGI
from wagi.portraits import dataset
from wagi.portraits.edits import Edit
from wagi_rt.directions import SUFFIX, between_texts

VERSION = 1  # of the numbers: raised when their definition changes, so that kept ones are not mixed with new
TEXTS = ("smile=a smiling face", "hat=a face with a hat", "beard=a man with a beard|a man")
NEUTRAL, THRESHOLD = "a face", 0.1  # of the global direction, as in `wagi-rt edit`
GLOBAL, MAPPER, MEAN, OPTIMISED = "global direction", "mapper", "mapper, mean step", "latent optimisation"
COLUMNS = (
    "text", "way", "row", "count", "effect", "leakage", "into", "leakage/effect", "portraits-ID",
    "similarity before", "similarity", "reached", "true edit", "l2", "l_wave", "l2 unchanged",
)  # fmt: skip
NOTES = (
    "effect: change of the text's attribute, against the inversion without an edit, as the stand-in network "
    "reads it, in held-out standard deviations; leakage: the largest change of another attribute, and into "
    "which. portraits-ID: cosine to the source.",
    "similarity: cosine of text and picture to portraits-CLIP, the very network that the ways ask, so no "
    "proof that an edit is seen.",
    "reached: the share of the attribute's whole step whose true renderings are nearest to the naive edits, "
    "in L2 over all; true edit: that rendering, to which l2, l_wave and l2 unchanged (where the true edit "
    "changes nothing) are pixel-weighted distances; 0 reached: to the sources. The ways' portraits are the "
    "first ones of the same list.",
)

Way = Callable[[Tensor], Tensor]  # latents [N, n_latent, D] => edited ones, which may have styles behind them


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate texts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    add("--out", required=True, type=Path, metavar="OUT", help="folder of the table and of kept parts")
    add("--styleclip", type=Path, metavar="DIR",
        help="folder of `wagi.directions styleclip`, or a bundle: for the global direction")  # fmt: skip
    add("--mappers", type=Path, metavar="DIR", help="folder of `wagi.directions mapper`, of every text")
    add("--texts", nargs="+", default=list(TEXTS), metavar="ATTRIBUTE=TEXT[|NEUTRAL]",
        help=f"default: {', '.join(map(repr, TEXTS))}; neutral is '{NEUTRAL}' unless given")  # fmt: skip
    add("--limit", type=int, default=200, metavar="N", help="portraits of the global direction (default 200)")
    add("--mapped", type=int, default=200, metavar="N", help="portraits of the mapper (default 200)")
    add("--optimised", type=int, default=24, metavar="N",
        help="portraits of the latent optimisation, 0 for none (default 24)")  # fmt: skip
    usual = DEFAULTS["latent"]
    add("--steps", type=int, default=usual.steps, metavar="N", help=f"of it (default {usual.steps})")
    for name, value in (("l2", usual.lambda_l2), ("id", usual.lambda_id)):
        add(f"--lambda-{name}", type=float, default=value, metavar="X", help=f"of it (default {value})")
    add("--seed", type=int, default=9417, metavar="K", help="of the portraits (default 9417)")
    add("--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)")  # fmt: skip
    return p


class Words(NamedTuple):
    """A text, the one that it is told from, and the attribute that it names."""

    attribute: str
    text: str
    neutral: str = NEUTRAL


def parse(text: str) -> Words:
    """`ATTRIBUTE=TEXT` or `ATTRIBUTE=TEXT|NEUTRAL`. Raises UserError, status 2."""
    attribute, _, words = text.partition("=")
    if attribute not in ATTRIBUTES or not words:
        wanted = f"ATTRIBUTE=TEXT or ATTRIBUTE=TEXT|NEUTRAL; there are {', '.join(ATTRIBUTES)}"
        raise UserError(f"--texts {text}: write {wanted}", 2)
    return Words(attribute, *words.split("|", 1))


# ----------------------------------------------------------------------------------------------- three ways


class Ways(NamedTuple):
    """Functions that find a text's steps, and what their numbers depend on, by the way's name."""

    finds: dict[str, Way]
    identities: dict[str, Any]


def ways_of(args: argparse.Namespace, model: WaGI, loss: TextLoss, words: Words) -> Ways:
    """The ways that the options ask for. Raises UserError for missing or foreign files."""
    generator = model.generator
    finds: dict[str, Way] = {}
    identities: dict[str, Any] = {}
    if args.styleclip:
        offsets = _global(args.styleclip, model, loss, words)
        finds[GLOBAL] = lambda ws: generator.space.with_offsets(ws, offsets)
        identities[GLOBAL] = digest(offsets.tolist())
    if args.mappers:
        file = name_of(words.text) + SUFFIX
        with option("--mappers"):
            mapper, _ = mapping.load(args.mappers / MAPPERS / file, generator)
            mean = torch.from_numpy(load_direction(args.mappers / file, model).vector)
        finds |= {MAPPER: lambda ws: ws + mapper(ws), MEAN: lambda ws: ws + mean}
        identities |= {MAPPER: weights_hash(mapper), MEAN: digest(mean.tolist())}
    if args.optimised:
        settings = DEFAULTS["latent"]._replace(steps=args.steps, lambda_l2=args.lambda_l2)
        finds[OPTIMISED] = lambda ws: latent.optimise(generator, ws, loss, settings)
        identities[OPTIMISED] = [*settings, loss.lambda_id, weights_hash(loss.towers.network)]
    return Ways(finds, identities)


def _global(folder: Path, model: WaGI, loss: TextLoss, words: Words) -> Tensor:  # => 1,C
    with option("--styleclip"):
        table, generator = styleclip.read_table(folder)
    if generator != weights_hash(model.generator):
        raise UserError(f"--styleclip {folder}: of another generator; make it for --model", 2)
    texts = (loss.features.numpy(), loss.towers.text(words.neutral).numpy())
    offsets = between_texts(*texts, table, THRESHOLD)
    if offsets is None:
        raise UserError(
            f"--texts: '{words.text}' and '{words.neutral}' mean the same to {loss.towers.name}", 2
        )
    return torch.from_numpy(offsets)[None]


# ------------------------------------------------------------------------------------------------ measuring


class Measure:
    """Everything that measures the edits of one text on the portraits that its true edit applies to."""

    def __init__(self, judge: Judge, loss: TextLoss, words: Words) -> None:
        self.judge, self.loss, self.words = judge, loss, words
        pairs = judge.pairs
        whole = true_edit(words.attribute, 1.0)
        shares = [1.0] if whole and whole.option else SHARES
        found = [true_edit(words.attribute, share) for share in shares] if whole else []
        while found and not pairs.fits(found[-1]):
            found.pop()
        self.edits: list[Edit] = [one for one in found if one]
        self.indices = pairs.chosen(self.edits[-1]) if self.edits else list(range(pairs.count))

    def pairs(self, change: Edit | None, count: int) -> Iterator[Pair]:
        """Batches of the first `count` portraits with this edit."""
        return batches(self.judge.pairs(change, self.indices[:count]), BATCH)

    def rows(self, name: str, find: Way, count: int) -> list[dict[str, Any]]:
        """One per way to show the edit, of `count` portraits."""
        model = self.judge.model
        with torch.no_grad():
            ws = torch.cat([model.encode(pair.source) for pair in self.pairs(None, count)])
        edited = torch.cat([find(part) for part in ws.split(BATCH)]).detach()
        share, change = self.reached(edited)
        named = change.text if change else None
        about = {"text": self.words.text, "way": name, "reached": share, "true edit": named}
        return [about | row for row in self._measured(edited, change)]

    @torch.no_grad()
    def reached(self, edited: Tensor) -> tuple[float | None, Edit | None]:
        """The share of the whole true edit, and the edit, whose renderings are nearest to the naive edits."""
        if not self.edits or self.edits[0].option:
            return None, self.edits[0] if self.edits else None
        few = edited[:CALIBRATION]
        naive = eight_bit(torch.cat([self.judge.model.generator(part) for part in few.split(BATCH)]))
        errors = []
        for change in (None, *self.edits):
            true = torch.cat([pair.edited for pair in self.pairs(change, len(few))])
            errors.append(float((naive - true).square().sum()))
        share = lowest(errors) * SHARES[0]
        return share, true_edit(self.words.attribute, share)

    @torch.no_grad()
    def _measured(self, edited: Tensor, change: Edit | None) -> list[dict[str, Any]]:
        means: dict[str, Means] = {}
        errors = RegionMeans("l2", "l_wave")
        for pair, ws in zip(self.pairs(change, len(edited)), edited.split(BATCH), strict=True):
            for row, (before, after) in self._images(pair, ws).items():
                means.setdefault(row, Means()).add(self._values(pair, before, after))
                errors.add(row, after - pair.edited, masks(pair))
        found = []
        for row, values in means.items():
            numbers = values()
            facts = effects(self.words.attribute, np.array(numbers.pop("changes")))
            distances = errors.rows()[row] if self.edits else {}
            found.append({"row": row, "count": values.count, **facts, **numbers, **distances})
        return found

    def _images(self, pair: Pair, ws: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Row -> the pictures without an edit and with it, 8-bit values in [-1, 1]."""
        model = self.judge.model
        inversion = model.invert(pair.source)
        edited = model.edit(inversion, ws)
        images = {NAIVE: (inversion.naive, edited.naive), SHIPPED: (inversion.image, edited.image)}
        shown = {row: (eight_bit(before), eight_bit(after)) for row, (before, after) in images.items()}
        truth = {TRUE: (pair.source, pair.edited), COPY: (pair.source, pair.source)}
        return {**truth, **shown} if self.edits else shown

    def _values(self, pair: Pair, before: Tensor, after: Tensor) -> dict[str, Tensor]:
        judge = self.judge
        return {
            "changes": torch.from_numpy(judge.read(after) - judge.read(before)),
            "portraits-ID": judge.identity(after, pair.source),
            "similarity before": self.loss.similarity(before),
            "similarity": self.loss.similarity(after),
        }


def run(args: argparse.Namespace) -> None:
    if min(args.limit, args.mapped) < 1 or args.optimised < 0 or args.steps < 2:
        raise UserError("--limit, --mapped: at least 1; --optimised: at least 0; --steps: at least 2", 2)
    texts = [parse(text) for text in args.texts]
    model = load_model(args.model)
    most = max(args.limit, args.mapped, args.optimised)
    judge = Judge(model, None, Pairs(args.pairs, args.seed, model.generator.size, most))
    clip = towers.portraits()
    with option("--texts"):
        losses = [TextLoss(clip, words.text, judge.identity, args.lambda_id) for words in texts]
    every = [ways_of(args, model, loss, words) for loss, words in zip(losses, texts, strict=True)]
    world = [VERSION, dataset.VERSION, weights_hash(model), weights_hash(judge.looks), args.seed, most]
    meta = {
        "title": "Edits by text",
        "model": args.model.name,
        "portraits": f"seed {args.seed}, the first ones that the text's true edit applies to",
        OPTIMISED: f"{args.steps} steps, lambda_l2 {args.lambda_l2:g}, lambda_id {args.lambda_id:g}",
        "notes": NOTES,
    }
    rows: list[dict[str, Any]] = []
    text = ""
    for words, loss, ways in zip(texts, losses, every, strict=True):
        measure = Measure(judge, loss, words)
        for name, find in ways.finds.items():
            print(f"{words.text}: {name}", file=sys.stderr)
            count = {GLOBAL: args.limit, OPTIMISED: args.optimised}.get(name, args.mapped)
            identity = digest([*world, *words, name, count, ways.identities[name]])
            part = args.out / "parts" / f"{name_of(words.text)}-{identity}.json"
            rows += kept_json(part, _kept(measure, name, find, count))["rows"]
            text = write_report(args.out, "texts", rows, COLUMNS, meta)
    print(text)


def _kept(measure: Measure, name: str, find: Way, count: int) -> Callable[[], dict]:
    return lambda: {"rows": measure.rows(name, find, count)}
