"""Shared by the tables: options, pretrained parts, rows trained once, numbers over seeds, a report."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from wagi import checkpoint, config
from wagi.errors import UserError, option
from wagi.experiments import heldout, published, tables
from wagi.experiments.rows import Row
from wagi.experiments.runs import Runs, Task, data_identity, digest, kept_json

# Column of a table -> (side of the scores, metric).
COLUMNS = {
    "L1(ADA)": ("", "ada_l1"),
    "L1 of doing nothing": ("", "warped_l1"),
    "L2": ("final", "l2"),
    "L_wave": ("final", "l_wave"),
    "SSIM": ("final", "ssim"),
}
STANDINS = ("portraits-features", "portraits-ID")
SETTINGS = ("generator", "features", "wavelets", "wavelet loss")


@dataclass(frozen=True)
class Study:
    """One comparison of rows: what is trained on what, how long, how often, and where all of it is kept."""

    preset: str
    data: str
    test: str
    out: Path
    runs: Runs
    given: dict[str, Path]  # kind of generator -> checkpoint with G0 and E0
    overrides: dict[str, str]  # of the inversion stage, in every row
    seeds: int
    kimg: float
    generator_kimg: float
    standins: bool

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Study":
        """From the options of `base_parser`. UserError, status 2, for those that cannot work."""
        for name in ("seeds", "jobs", "threads", "kimg", "generator_kimg"):
            if getattr(args, name) <= 0:
                raise UserError(
                    f"--{name.replace('_', '-')} {getattr(args, name)}: must be greater than 0", 2
                )
        given = {name: path for name in ("swagan", "stylegan2") if (path := getattr(args, name))}
        for name, path in given.items():
            if not path.is_file():
                raise UserError(f"--{name} {path}: no such checkpoint file", 2)
        _keep_apart(args.data, args.test)
        return cls(
            args.preset, args.data, args.test, args.out,
            Runs(args.runs, args.preset, args.data, args.jobs, args.threads, args.device),
            given, config.named(args.set), args.seeds, args.kimg, args.generator_kimg, args.standins,
        )  # fmt: skip

    def generator_task(self, kind: str) -> Task:
        """G0 and E0 of one kind, distilled together; the same seed, data and budget for both kinds."""
        overrides = {"generator": kind, "kimg": repr(self.generator_kimg), "seed": "0", "mode": "distill"}
        if kind == "stylegan2":
            overrides["wavelet_levels"] = ""
        return Task("generator", f"{kind} generator and encoder", tuple(overrides.items()))

    def pretrained(self, kinds: Sequence[str]) -> dict[str, Path]:
        """Kind of generator -> the checkpoint with G0 and E0, given or trained."""
        given = {kind: path for kind, path in self.given.items() if kind in kinds}
        for kind, path in given.items():
            found = checkpoint.model_config(checkpoint.read(path), path).generator
            if found != kind:
                raise UserError(f"--{kind} {path}: holds a {found} generator; give it as --{found}", 2)
        missing = [kind for kind in kinds if kind not in given]
        trained = self.runs.train([self.generator_task(kind) for kind in missing])
        return given | dict(zip(missing, trained, strict=True))

    def inversion_task(self, row: Row, seed: int, frozen: Path) -> Task:
        """One row with one seed."""
        own = {**row.overrides(self.preset), "kimg": repr(self.kimg), "seed": str(seed)}
        if clash := sorted(own.keys() & self.overrides.keys()):
            raise UserError(f"--set {clash[0]}: is what the rows differ in, or has its own option", 2)
        return Task(
            "inversion", f"{row.label}, seed {seed}", tuple({**self.overrides, **own}.items()), frozen
        )

    def measured(self, rows: Sequence[Row]) -> dict[Row, list[dict]]:
        """Train every row with every seed => its scores, one per seed, each with the name of its `run`."""
        size = config.settings(self.preset, "inversion")[0].size
        with option("--test"):
            images = heldout.load_images(self.test, size)
        networks = heldout.standin_metrics() if self.standins else {}
        key = digest([heldout.VERSION, size, data_identity(self.test), sorted(networks)])
        frozen = self.pretrained(sorted({row.generator for row in rows}))
        every = [(row, seed) for seed in range(self.seeds) for row in rows]
        paths = self.runs.train(
            [self.inversion_task(row, seed, frozen[row.generator]) for row, seed in every]
        )
        found: dict[Row, list[dict]] = {row: [] for row in rows}
        for (row, _), path in tqdm(list(zip(every, paths, strict=True)), "scores", disable=None):
            place = path.parent / f"scores-{key}.json"
            made = kept_json(place, partial(heldout.score, path, images, networks))
            found[row].append({"run": path.parent.name, **made})
        return found


def base_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The options of every experiment that trains rows."""
    p = argparse.ArgumentParser(
        prog=f"python -m wagi.evaluate {name}",
        description=f"{description} The same command again goes on; rows that other tables share are not "
        "trained again.",
    )
    add = p.add_argument
    add("--preset", default="portraits-64", help="of wagi.train; sets size and levels (portraits-64)")
    add("--data", required=True, help="training data, with parameters: python -m wagi.portraits --memmap")
    add("--test", default="portraits:9001:128", metavar="DATA",
        help="held-out pictures (default portraits:9001:128)")  # fmt: skip
    add("--runs", required=True, type=Path, metavar="DIR", help="where runs and their scores are kept")
    add("--out", required=True, type=Path, metavar="DIR", help=f"writes {name}.md, {name}.json, {name}.png")
    add("--seeds", type=int, default=3, metavar="N", help="runs per row, seeds 0 to N-1 (default 3)")
    add("--kimg", type=float, default=1.6, help="budget of each inversion run (default 1.6)")
    add("--generator-kimg", type=float, default=8.0, help="budget of each G0 with its E0 (default 8)")
    add("--swagan", type=Path, metavar="CKPT", help="SWAGAN G0 and its E0, instead of training them")
    add("--stylegan2", type=Path, metavar="CKPT", help="StyleGAN2 G0 and its E0, instead of training them")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the inversion stage")
    add("--jobs", type=int, default=1, help="runs trained side by side (default 1)")
    add("--threads", type=int, default=1, help="CPU threads of each run (default 1)")
    add("--device", default="", help="of training: cpu or cuda (default: cuda where there is one)")
    add("--standins", action="store_true", help="also portraits-features and portraits-ID")
    return p


def _keep_apart(data: str, test: str) -> None:
    """Held-out portraits have another seed than those of the training."""
    meta = Path(data) / "meta.json"
    trained = str(json.loads(meta.read_text())["seed"]) if meta.is_file() else data.partition(":")[2]
    if test.startswith("portraits:") and test.split(":")[1] == trained.split(":")[0]:
        raise UserError(f"--test {test}: the training data have this seed too; choose another", 2)


def value(score: dict, side: str, metric: str) -> float:
    return score[side][metric] if side else score[metric]


def table_rows(study: Study, found: dict[Row, list[dict]]) -> list[dict[str, Any]]:
    """A line per pretrained part (its naive inversion), then one per row, every number over the seeds."""
    columns = {**COLUMNS, **({name: ("final", name) for name in STANDINS} if study.standins else {})}
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
                "features": ", ".join(map(str, row.features)),
                "wavelets": ", ".join(map(str, row.wavelets)) or None,
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
    model, train = config.settings(study.preset, "inversion", study.overrides | {"kimg": repr(study.kimg)})
    made = f"distilled, {study.generator_kimg:g} kimg each, seed 0"
    sources = [str(study.given.get(kind, made)) for kind in ("swagan", "stylegan2")]
    return {
        "title": title,
        "size": f"{model.size} px, preset {study.preset}; levels are resolutions in pixels",
        "training data": Path(study.data).name,
        "held-out data": study.test,
        "generators and encoders": "; ".join(dict.fromkeys(sources)),
        "inversion runs": f"{train.steps} steps of {train.batch}, {study.seeds} seeds"
        + "".join(f", {name}={text}" for name, text in study.overrides.items()),
        "numbers": "mean ± standard deviation (min..max) over seeds; 8-bit images in [-1, 1]; lower is "
        "better, but for SSIM and ID",
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
    shown: Sequence[str],
) -> None:  # fmt: skip
    """Table, JSON and figure of measured rows, the paper's numbers apart below them; prints the table."""
    lines = table_rows(study, found)
    extra = STANDINS if study.standins else ()
    columns = ["row", *SETTINGS, *(column for column in COLUMNS if column in shown), *extra]
    meta = {**facts(study, title), "notes": [*notes, published.table(name)]}
    text = tables.write_report(study.out, name, lines, columns, meta)
    labels = [f"{line['row']} ({line['generator']})" for line in lines]
    tables.write_figure(study.out, name, bars(lines, [c for c in columns if c in shown], labels))
    print(text)
