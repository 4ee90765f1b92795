"""Figures 2b and 7: in which sub-bands the naive inversion, HFGI and WaGI err."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from wagi.errors import UserError, option
from wagi.experiments import ablation, rows, tables
from wagi.experiments.heldout import BANDS, Means, Pictures, compare, eight_bit
from wagi.experiments.models import Inverter, add_models, models_of, size_of
from wagi.experiments.networks import files_of, names_of, networks
from wagi.experiments.tables import cell, new_figure, spread
from wagi.metrics import Metric
from wagi.model import area_resize

NORMS = {"L2": "bands_l2", "L1": "bands_l1"}
Methods = dict[str, tuple[list[dict], str]]  # name -> scores, one per seed, and which side of them
RATIO = "LL / mean of the others"


def parser() -> argparse.ArgumentParser:
    p = ablation.base_parser(
        "bands",
        "Figures 2b and 7: mean error of each Haar sub-band and level of naive, HFGI and WaGI, "
        "trained as in table 2, or of any --model or the systems of --table1, over its seeds.",
        trains=False,
    )
    add_models(p, "; measured instead, and nothing is trained", table=False)
    p.add_argument(
        "--hfgi", choices=("A", "B"), default="A",
        help="the HFGI-style configuration: A on StyleGAN2 (default), B on the same SWAGAN as WaGI",
    )  # fmt: skip
    return p


def run(args: argparse.Namespace) -> None:
    title = "Figures 2b and 7: errors by sub-band"
    if args.model or args.table1:
        methods, meta = measured(args)
        meta = {"title": title, **meta}
    else:
        study = ablation.Study.of(args)
        methods, meta = trained(study, args.hfgi), ablation.facts(study, title)
    lines = band_lines(methods)
    said = [*notes(lines), *judged(methods, names_of(files_of(args), args.standins))]
    columns = ["method", "norm", "level", "LL", "LH", "HL", "HH", RATIO]
    print(tables.write_report(args.out, "bands", lines, columns, {**meta, "notes": said}))
    tables.write_figure(args.out, "bands", figure(lines, list(methods)))


def measured(args: argparse.Namespace) -> tuple[Methods, dict[str, str]]:
    """The models that were named, or Table 1's systems over their seeds, all at one size; and about them."""
    models = models_of(args, None)
    first = {name: each[0] for name, each in models.items()}
    size, common = size_of(first), min(model.resolution for model in first.values())
    with option("--test"):
        pictures = Pictures(args.test, size)
    judges = networks(files_of(args), args.standins)
    every = [(name, model) for name, each in models.items() for model in each]
    methods: Methods = {name: ([], "final") for name in models}
    for name, model in tqdm(every, "bands", disable=None):
        methods[name][0].append({"final": errors(model, pictures, judges, common)})
    seeds = ", ".join(f"{name} ({len(each)} seeds)" for name, each in models.items())
    where = f"{args.test} at {size} px, measured at {common} px"
    return methods, {"held-out data": where, "models": ", ".join(args.model) or seeds}


def trained(study: ablation.Study, letter: str) -> Methods:
    """The naive inversion, HFGI's configuration and D over the seeds."""
    if not study.data or study.runs.folder == Path():
        raise UserError("--data, --runs: are needed to train, or --model to measure what is there", 2)
    hfgi, wagi = (rows.configuration(each, study.model) for each in (letter, "D"))
    found = study.measured([hfgi, wagi])
    methods: Methods = {"naive (swagan)": (found[wagi][:1], "naive")}
    if hfgi.generator != wagi.generator:
        methods = {f"naive ({hfgi.generator})": (found[hfgi][:1], "naive"), **methods}
    return methods | {f"HFGI-style ({letter})": (found[hfgi], "final"), "WaGI (D)": (found[wagi], "final")}


@torch.inference_mode()
def errors(model: Inverter, pictures: Pictures, judges: dict[str, Metric], size: int) -> dict:
    """Mean errors of each band and level of a model's inversions of pictures, and by networks, at size px."""
    means = Means()
    for batch in pictures:
        result, target = (area_resize(x, size) for x in (eight_bit(model.results(batch)[1]), batch))
        means.add(compare(result, target, judges))
    return means()


def band_lines(methods: Methods) -> list[dict[str, Any]]:
    """A line per method, norm and level; every number over the seeds. Level 0 is the finest."""
    lines = []
    for norm, key in NORMS.items():
        for level in range(3):
            for method, (scores, side) in methods.items():
                errors = [score[side][key][level] for score in scores]
                cells = {band: spread([e[k] for e in errors]) for k, band in enumerate(BANDS)}
                ratio = spread([3 * e[0] / sum(e[1:]) for e in errors])
                lines.append({"method": method, "norm": norm, "level": level, RATIO: ratio, **cells})
    return lines


def notes(lines: list[dict]) -> list[str]:
    finest = [line for line in lines if line["norm"] == "L2" and line["level"] == 0]
    ratios = [f"{line['method']} {line[RATIO]['mean']:.1f}" for line in finest]
    return [
        f"LL error over the mean of LH, HL, HH in L2 at level 0: {', '.join(ratios)}. The paper's text has "
        "about 30; its bars' values are not published here."
    ]


def judged(methods: Methods, names: Sequence[str]) -> list[str]:
    """Numbers of each method by networks, of whole pictures: they know no bands."""
    said = []
    for name in names:
        found = {
            method: spread([s[side][name] for s in scores]) for method, (scores, side) in methods.items()
        }
        numbers = ", ".join(f"{method} {cell(number)}" for method, number in found.items())
        said.append(f"{name} of the whole picture: {numbers}")
    return said


def figure(lines: list[dict], methods: list[str]) -> Figure:
    """Grouped bars, one panel per norm and level, logarithmic."""
    result = new_figure(12, 6)
    panels = result.subplots(2, 3)
    for row, norm in zip(panels, NORMS, strict=True):
        for level, axes in enumerate(row):
            shown = [line for line in lines if line["norm"] == norm and line["level"] == level]
            for k, line in enumerate(shown):
                place = [b + (k - (len(methods) - 1) / 2) * 0.8 / len(methods) for b in range(4)]
                axes.bar(place, [line[b]["mean"] for b in BANDS], 0.8 / len(methods), label=line["method"])
            axes.set_xticks(range(4), BANDS)
            axes.set_yscale("log")
            axes.set_title(f"{norm}, level {level}" + (" (finest)" if level == 0 else ""))
    panels[0][0].legend(fontsize=7)
    return result
