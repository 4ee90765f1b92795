"""The models of a figure: checkpoints by name, or the systems of a finished Table 1."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from wagi.checkpoint import build_inverter, build_loaded, read
from wagi.errors import UserError, option
from wagi.evaluation.optimisers import Optimiser, PictureLoss
from wagi.experiments.networks import add_networks, files_of, networks
from wagi.experiments.systems import BASELINES, asked
from wagi.features import FeatureFiles
from wagi.model import NaiveInverter
from wagi.standins.model import LOOKS

Inverter = NaiveInverter | Optimiser
M = TypeVar("M", bound=Inverter)


def add_models(parser: argparse.ArgumentParser, one: str = "", table: bool = True) -> None:
    """The options of `models_of`.

    one: what a single --model shows, where that is something of its own. table: the parser has not yet --runs
    and the networks.
    """
    group = parser.add_argument_group("models")
    add = group.add_argument
    add("--model", nargs="+", default=[], metavar="[NAME=]CKPT",
        help="checkpoints with an encoder; the name titles its column (default WaGI)" + one)  # fmt: skip
    add("--table1", type=Path, metavar="FILE",
        help="or a table1.json: the systems it compares, as they were trained in --runs")  # fmt: skip
    add("--systems", default="", metavar="NAMES",
        help=f"rows of --table1, by commas (default: {', '.join(BASELINES)})")  # fmt: skip
    if table:
        add("--runs", type=Path, metavar="DIR", help="the folder of --table1's runs")
        add_networks(group)


def models_of(args: argparse.Namespace, seeds: int | None = 1) -> dict[str, list[Inverter]]:
    """Name -> its models, of the first `seeds` seeds that Table 1 has (None: all), in the order asked for.

    UserError, status 2, for options that cannot work or models of different sizes.
    """
    if bool(args.model) == bool(args.table1):
        raise UserError("--model, --table1: give one of them", 2)
    if args.model:
        return {name: [model] for name, model in named_models(args.model, load_inverter).items()}
    return _systems(args, seeds)


def one_each(args: argparse.Namespace) -> dict[str, Inverter]:
    """Name -> model; of Table 1's systems that of the first seed."""
    return {name: each[0] for name, each in models_of(args).items()}


def _systems(args: argparse.Namespace, seeds: int | None) -> dict[str, list[Inverter]]:
    if not args.runs:
        raise UserError("--runs: is needed with --table1: the folder that its systems were trained in", 2)
    lines = _lines(args.table1)
    rows = {line["row"]: line for line in lines}
    chosen = asked(args.systems)
    if unknown := [name for name in chosen if name not in rows]:
        raise UserError(f"--systems {unknown[0]}: {args.table1} has {', '.join(rows)}", 2)
    names = chosen or [name for name in BASELINES if name in rows]
    if not names:
        raise UserError(f"--systems: is needed; {args.table1} has {', '.join(rows)}", 2)
    found: dict[str, list[Inverter]] = {}
    with option("--runs"):
        for name in names:
            paths = [args.runs / run / "checkpoint.pt" for run in rows[name]["runs"]]
            if not paths:
                found[name] = [_optimiser(name, rows[name], lines, args.runs, files_of(args))]
                continue
            found[name] = [load_inverter(path) for path in paths[:seeds]]
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a table1.json."""
    try:
        report = json.loads(file.read_text())
        if report["name"] != "table1":
            raise KeyError(report["name"])
        return report["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"--table1 {file}: is no table1.json of python -m wagi.evaluate table1", 2) from None


def _optimiser(
    name: str, line: dict[str, Any], lines: list[dict[str, Any]], runs: Path, files: FeatureFiles
) -> Optimiser:
    """Latent optimisation or PTI on the generator that all systems of its kind share."""
    if "steps" not in line:
        raise UserError(f"{runs}: has no run of {name}; run table1 again, or give it by --model", 2)
    run = next((r["runs"][0] for r in lines if r["generator"] == line["generator"] and r["runs"]), None)
    if run is None:
        raise UserError(f"{runs}: has no run with the generator that {name} takes", 2)
    path = runs / run / "checkpoint.pt"
    generator: Any = build_loaded(read(path), "generator", path)
    judges = networks(files, standins=not files.lpips_trunk)
    return Optimiser(generator, PictureLoss(judges.get("LPIPS") or judges[LOOKS]), *line["steps"])


# ----------------------------------------------------------------------------------------------- by name


def load_inverter(path: Path) -> NaiveInverter:
    """The model of any checkpoint with an encoder."""
    return build_inverter(read(path), path)


def named_models(texts: list[str], load: Callable[[Path], M]) -> dict[str, M]:
    """Title -> model, in the order given. UserError when sizes differ or a title is there twice."""
    models: dict[str, M] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        name, path = (name, path) if equals else ("WaGI", text)
        if name in models:
            raise UserError(f"--model {text}: two models named {name}; write NAME=CKPT", 2)
        models[name] = load(Path(path))
    _of_one_size(models)
    return models


def _of_one_size(models: Mapping[str, Inverter]) -> None:
    sizes = {name: model.generator.size for name, model in models.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"--model: sizes differ: {', '.join(f'{k} {v} px' for k, v in sizes.items())}", 2)


def size_of(models: Mapping[str, Inverter]) -> int:
    """The size that all of them have."""
    return next(iter(models.values())).generator.size
