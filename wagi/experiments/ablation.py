"""What the tables share: options, the pretrained parts, rows trained once, numbers over seeds, a report."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wagi.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from wagi.experiments.rows import Row
    from wagi.experiments.runs import Runs, Task

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


def open_runs(args: argparse.Namespace) -> "Runs":
    """Check the shared options, then the folder of runs."""
    from wagi.experiments.runs import Runs

    for name in ("seeds", "jobs", "threads", "kimg", "generator_kimg"):
        if getattr(args, name) <= 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be greater than 0", 2)
    for name in ("swagan", "stylegan2"):
        path = getattr(args, name)
        if path and not path.is_file():
            raise UserError(f"--{name} {path}: no such checkpoint file", 2)
    _keep_apart(str(args.data), str(args.test))
    return Runs(args.runs, args.preset, str(args.data), args.jobs, args.threads, args.device)


def _keep_apart(data: str, test: str) -> None:
    """Held-out portraits have another seed than those of the training."""
    meta = Path(data) / "meta.json"
    trained = str(json.loads(meta.read_text())["seed"]) if meta.is_file() else data.partition(":")[2]
    if test.startswith("portraits:") and test.split(":")[1] == trained.split(":")[0]:
        raise UserError(f"--test {test}: the training data have this seed too; choose another", 2)


def generator_task(args: argparse.Namespace, kind: str) -> "Task":
    """G0 and E0 of one kind, distilled together; the same seed, data and budget for both kinds."""
    from wagi.experiments.runs import Task

    overrides = {"generator": kind, "kimg": repr(args.generator_kimg), "seed": "0", "mode": "distill"}
    if kind == "stylegan2":
        overrides["wavelet_levels"] = ""
    return Task("generator", f"{kind} generator and encoder", tuple(overrides.items()))


def pretrained(args: argparse.Namespace, runs: "Runs", kinds: Sequence[str]) -> dict[str, Path]:
    """Kind of generator -> the checkpoint with G0 and E0, given or trained."""
    from wagi import checkpoint

    given = {kind: getattr(args, kind) for kind in kinds if getattr(args, kind)}
    for kind, path in given.items():
        found = checkpoint.model_config(checkpoint.read(path), path).generator
        if found != kind:
            raise UserError(f"--{kind} {path}: holds a {found} generator; give it as --{found}", 2)
    missing = [kind for kind in kinds if kind not in given]
    return given | dict(zip(missing, runs.train([generator_task(args, k) for k in missing]), strict=True))


def inversion_task(args: argparse.Namespace, row: "Row", seed: int, frozen: Path) -> "Task":
    """One row with one seed."""
    from wagi.experiments.runs import Task

    own = {**row.overrides(args.preset), "kimg": repr(args.kimg), "seed": str(seed)}
    given = dict(_named(text) for text in args.set)
    if clash := sorted(own.keys() & given.keys()):
        raise UserError(f"--set {clash[0]}: is what the rows differ in, or has its own option", 2)
    return Task("inversion", f"{row.label}, seed {seed}", tuple({**given, **own}.items()), frozen)


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write NAME=VALUE", 2)
    return name.replace("-", "_"), value


def measured(args: argparse.Namespace, rows: Sequence["Row"]) -> dict["Row", list[dict]]:
    """Train every row with every seed => its scores, one per seed, each with the name of its `run`."""
    from tqdm import tqdm

    from wagi import config
    from wagi.experiments import heldout
    from wagi.experiments.runs import data_identity, digest, kept_json

    runs = open_runs(args)
    size = config.settings(args.preset, "inversion")[0].size
    images = heldout.load_images(args.test, size)
    networks = heldout.standin_metrics() if args.standins else {}
    key = digest([heldout.VERSION, size, data_identity(args.test), sorted(networks)])
    frozen = pretrained(args, runs, sorted({row.generator for row in rows}))
    plan = [(row, seed) for seed in range(args.seeds) for row in rows]
    paths = runs.train([inversion_task(args, row, seed, frozen[row.generator]) for row, seed in plan])
    found: dict[Row, list[dict]] = {row: [] for row in rows}
    for (row, _), path in tqdm(list(zip(plan, paths, strict=True)), "scores", disable=None):
        made = kept_json(path.parent / f"scores-{key}.json", _scorer(path, images, networks))
        found[row].append({"run": path.parent.name, **made})
    return found


def _scorer(path: Path, images: Any, networks: dict) -> Callable[[], dict]:
    from wagi.experiments.heldout import score

    return lambda: score(path, images, networks)


def value(score: dict, side: str, metric: str) -> float:
    return score[side][metric] if side else score[metric]


def table_rows(args: argparse.Namespace, found: dict["Row", list[dict]]) -> list[dict[str, Any]]:
    """A line per pretrained part (its naive inversion), then one per row, every number over the seeds."""
    from wagi.experiments.tables import spread

    columns = {**COLUMNS, **({name: ("final", name) for name in STANDINS} if args.standins else {})}
    lines: list[dict[str, Any]] = []
    for kind in sorted({row.generator for row in found}):
        first = next(heldout[0] for row, heldout in found.items() if row.generator == kind)
        naive = {name: first["naive"][metric] for name, (side, metric) in columns.items() if side}
        lines.append({"row": "naive inversion", "generator": kind, **naive})
    for row, heldout in found.items():
        lines.append(
            {
                "row": row.label,
                "generator": row.generator,
                "features": ", ".join(map(str, row.features)),
                "wavelets": ", ".join(map(str, row.wavelets)) or None,
                "wavelet loss": "yes" if row.wave_loss else "no",
                **{name: spread([value(s, *where) for s in heldout]) for name, where in columns.items()},
                "runs": [score["run"] for score in heldout],
            }
        )
    return lines


def facts(args: argparse.Namespace, title: str) -> dict[str, Any]:
    """How the numbers came about, for the report."""
    from wagi import config

    given = dict(_named(text) for text in args.set) | {"kimg": repr(args.kimg)}
    model, train = config.settings(args.preset, "inversion", given)
    steps = max(1, round(train.kimg * 1000 / train.batch))
    made = f"distilled, {args.generator_kimg:g} kimg each, seed 0"
    sources = [str(getattr(args, kind) or made) for kind in ("swagan", "stylegan2")]
    return {
        "title": title,
        "size": f"{model.size} px, preset {args.preset}; levels are resolutions in pixels",
        "training data": Path(args.data).name,
        "held-out data": str(args.test),
        "generators and encoders": "; ".join(dict.fromkeys(sources)),
        "inversion runs": f"{steps} steps of {train.batch}, {args.seeds} seeds"
        + "".join(f", {text}" for text in args.set),
        "numbers": "mean ± standard deviation (min..max) over seeds; 8-bit images in [-1, 1]; lower is "
        "better, but for SSIM and ID",
    }


def bars(lines: Sequence[dict], columns: Sequence[str], names: Sequence[str]) -> "Figure":
    """One panel per column: a bar per line, its whisker from the least to the greatest seed."""
    from wagi.experiments.tables import new_figure

    figure = new_figure(3.2 * len(columns), 1.2 + 0.32 * len(lines))
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
    args: argparse.Namespace, name: str, title: str, found: dict["Row", list[dict]], notes: Sequence[str],
    shown: Sequence[str],
) -> None:  # fmt: skip
    """Table, JSON and figure of measured rows, the paper's numbers apart below them; prints the table."""
    from wagi.experiments import published, tables

    lines = table_rows(args, found)
    extra = STANDINS if args.standins else ()
    columns = ["row", *SETTINGS, *(column for column in COLUMNS if column in shown), *extra]
    meta = {**facts(args, title), "notes": [*notes, published.table(name)]}
    text = tables.write_report(args.out, name, lines, columns, meta)
    labels = [f"{line['row']} ({line['generator']})" for line in lines]
    tables.write_figure(args.out, name, bars(lines, [c for c in columns if c in shown], labels))
    print(text)
