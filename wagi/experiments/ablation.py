"""Shared by the tables: options, pretrained parts, rows trained once, numbers over seeds, a report."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from wagi import config
from wagi.config import InversionConfig, ModelConfig
from wagi.errors import UserError, option
from wagi.experiments import heldout, published, tables
from wagi.experiments.generators import Generators, generators_parser, require_positive
from wagi.experiments.networks import FILES, add_networks, files_of, names_of, networks, words_of
from wagi.experiments.rows import Row, shares
from wagi.experiments.runs import Task, data_identity, digest, kept_json
from wagi.features import FeatureFiles
from wagi.training.setup import device
from wagi_rt.files import file_sha256

# Column of a table -> (side of the scores, metric).
COLUMNS = {
    "L1(ADA)": ("", "ada_l1"),
    "L1 of doing nothing": ("", "warped_l1"),
    "L2": ("final", "l2"),
    "L_wave": ("final", "l_wave"),
    "SSIM": ("final", "ssim"),
}
WEIGHTS = {"lambda_wave", "lambda_wave_ada"}  # those of the rows that have the wavelet loss at all
SETTINGS = ("generator", "features", "wavelets", "wavelet loss")


@dataclass(frozen=True)
class Study(Generators):
    """One comparison of rows: what is trained on what, how long, how often, and where all of it is kept."""

    overrides: dict[str, str]  # of the inversion stage, in every row
    seeds: int
    kimg: float
    files: FeatureFiles
    standins: bool

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Study":
        """From the options of `base_parser`. UserError, status 2, for those that cannot work."""
        for name in ("seeds", "kimg"):
            require_positive(args, name)
        files, overrides = files_of(args), config.named(args.set)
        own = dict(overrides=overrides, seeds=args.seeds, kimg=args.kimg, files=files, standins=args.standins)
        study = cls(**cls.fields_of(args), **own)
        study = replace(study, runs=replace(study.runs, words=words_of(files)))
        train = study.settings[1]
        if args.standins and (train.lambda_lpips or train.lambda_id) and not words_of(files):
            study = replace(study, overrides={**overrides, "standins": "true"})
        return study

    @property
    def settings(self) -> tuple[ModelConfig, InversionConfig]:
        """Of the inversion stage, before a row changes them."""
        own = self.overrides | {"kimg": repr(self.kimg)}
        return config.settings(self.preset, "inversion", own)  # type: ignore[return-value]

    @property
    def model(self) -> ModelConfig:
        """The preset's model with `--set`."""
        return self.settings[0]

    def inversion_task(self, row: Row, seed: int, frozen: Path) -> Task:
        """One row with one seed."""
        own = {**row.overrides(*self.settings), "kimg": repr(self.kimg), "seed": str(seed)}
        if clash := sorted(own.keys() & self.overrides.keys() - WEIGHTS):
            raise UserError(f"--set {clash[0]}: is what the rows differ in, or has its own option", 2)
        return Task(
            "inversion", f"{row.label}, seed {seed}", tuple({**self.overrides, **own}.items()), frozen
        )

    @property
    def judges(self) -> tuple[str, ...]:
        """The networks that measure too, by name."""
        return names_of(self.files, self.standins)

    def images(self) -> Tensor:  # => N,3,size,size
        """The held-out pictures, a few to be drawn."""
        with option("--test"):
            return heldout.load_images(self.test, self.model.size, heldout.DRAWN)

    def trained(self, rows: Sequence[Row]) -> dict[Row, list[Path]]:
        """Train every row with every seed => its checkpoints, one per seed."""
        frozen = self.pretrained(sorted({row.generator for row in rows}))
        every = [(row, seed) for seed in range(self.seeds) for row in rows]
        tasks = [self.inversion_task(row, seed, frozen[row.generator]) for row, seed in every]
        found: dict[Row, list[Path]] = {row: [] for row in rows}
        for (row, _), path in zip(every, self.runs.train(tasks), strict=True):
            found[row].append(path)
        return found

    def measured(self, rows: Sequence[Row]) -> dict[Row, list[dict]]:
        """Train every row with every seed => its scores, one per seed, each with the name of its `run`."""
        size, where = self.model.size, device(self.runs.device)
        with option("--test"):
            pictures = heldout.Pictures(self.test, size)
        judges: Any = networks(self.files, self.standins)
        judges = {name: network.to(where) for name, network in judges.items()}
        identity = [heldout.VERSION, size, data_identity(self.test), sorted(judges)]
        files = [path for name in FILES if (path := getattr(self.files, name))]
        key = digest(identity + [file_sha256(path) for path in files])
        every = [(row, path) for row, paths in self.trained(rows).items() for path in paths]
        found: dict[Row, list[dict]] = {row: [] for row in rows}
        for row, path in tqdm(every, "scores", disable=None):
            place = path.parent / f"scores-{key}.json"
            made = kept_json(place, partial(heldout.score, path, pictures, judges, where))
            found[row].append({"run": path.parent.name, **made})
        return found


def base_parser(name: str, description: str, trains: bool = True) -> argparse.ArgumentParser:
    """The options of every experiment that trains rows; `trains`: it always does."""
    p = generators_parser(name, description, trains)
    add = p.add_argument
    add("--seeds", type=int, default=3, metavar="N", help="runs per row, seeds 0 to N-1 (default 3)")
    add("--kimg", type=float, default=1.6, help="budget of each inversion run (default 1.6)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the inversion stage")
    add_networks(
        p, "also portraits-features and portraits-ID, the stand-ins for LPIPS and ID on rendered portraits; "
        "also in the losses, where settings switch them on (--set lambda_lpips=0.8) and no file is given",
    )  # fmt: skip
    return p


def value(score: dict, side: str, metric: str) -> float:
    return score[side][metric] if side else score[metric]


def table_rows(study: Study, found: dict[Row, list[dict]]) -> list[dict[str, Any]]:
    """A line per pretrained part (its naive inversion), then one per row, every number over the seeds."""
    columns = {**COLUMNS, **{name: ("final", name) for name in study.judges}}
    lines: list[dict[str, Any]] = []
    for kind in sorted({row.generator for row in found}):
        first = next(scores[0] for row, scores in found.items() if row.generator == kind)
        naive = {name: first["naive"][metric] for name, (side, metric) in columns.items() if side}
        lines.append({"row": "naive inversion", "generator": kind, **naive})
    for row, scores in found.items():
        lines.append(
            {
                "row": row.label,
                "generator": row.generator,
                "features": shares(row.features, study.model.resolution),
                "wavelets": shares(row.wavelets, study.model.resolution),
                "wavelet loss": "yes" if row.wave_loss else "no",
                **{
                    name: tables.spread([value(s, *where) for s in scores]) for name, where in columns.items()
                },
                "runs": [score["run"] for score in scores],
            }
        )
    return lines


def facts(study: Study, title: str) -> dict[str, Any]:
    """Settings and data behind the numbers, for the report."""
    model, train = study.settings
    return {
        "title": title,
        "size": f"{model.size} px, preset {study.preset}, residual at R = {model.resolution} px",
        "training data": Path(study.data).name,
        "held-out data": study.test,
        "generators and encoders": study.sources(),
        "inversion runs": f"{train.steps} steps of {train.batch}, {study.seeds} seeds"
        + "".join(f", {name}={text}" for name, text in study.overrides.items()),
        "numbers": f"mean ± standard deviation (min..max) over seeds; 8-bit images in [-1, 1] at "
        f"{model.resolution} px; lower is better, but for SSIM and ID",
    }


def bars(lines: Sequence[dict], columns: Sequence[str], names: Sequence[str]) -> Figure:
    """One panel per column: a bar per line, its whisker from the least to the greatest seed."""
    figure = tables.new_figure(3.2 * len(columns), 1.2 + 0.32 * len(lines))
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        # A line's number over seeds, one number, or none at all.
        found = [line.get(column) or 0.0 for line in lines]
        cells = [c if isinstance(c, dict) else {"mean": c, "min": c, "max": c} for c in found]
        ends = [[c["mean"] - c["min"] for c in cells], [c["max"] - c["mean"] for c in cells]]
        axes.barh(range(len(lines)), [c["mean"] for c in cells], xerr=ends, color="#4c78a8", capsize=3)
        axes.set_yticks(range(len(lines)), names)
        axes.set_title(column)
    axes.invert_yaxis()
    return figure


def write_table(
    study: Study, name: str, title: str, found: dict[Row, list[dict]], notes: Sequence[str],
    shown: tuple[str, ...],
) -> None:  # fmt: skip
    """Table, JSON and figure of measured rows, the paper's numbers apart below them; prints the table."""
    lines = table_rows(study, found)
    columns = ["row", *SETTINGS, *(column for column in COLUMNS if column in shown), *study.judges]
    meta = {**facts(study, title), "notes": [*notes, published.table(name)]}
    text = tables.write_report(study.out, name, lines, columns, meta)
    labels = [f"{line['row']} ({line['generator']})" for line in lines]
    drawn = [column for column in columns if column in shown + study.judges]
    tables.write_figure(study.out, name, bars(lines, drawn, labels))
    print(text)
