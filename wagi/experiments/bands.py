"""Figures 2b and 7: in which sub-bands the naive inversion, HFGI and WaGI err."""

import argparse
from typing import Any

from matplotlib.figure import Figure

from wagi.experiments import ablation, rows, tables
from wagi.experiments.heldout import BANDS
from wagi.experiments.tables import new_figure, spread

NORMS = {"L2": "bands_l2", "L1": "bands_l1"}
RATIO = "LL / mean of the others"


def parser() -> argparse.ArgumentParser:
    p = ablation.base_parser(
        "bands", "Figures 2b and 7: mean error of each Haar sub-band and level of naive, HFGI and WaGI."
    )
    p.add_argument(
        "--hfgi", choices=("A", "B"), default="A",
        help="the HFGI-style configuration: A on StyleGAN2 (default), B on the same SWAGAN as WaGI",
    )  # fmt: skip
    return p


def run(args: argparse.Namespace) -> None:
    study = ablation.Study.of(args)
    hfgi, wagi = (rows.configuration(letter, study.model) for letter in (args.hfgi, "D"))
    found = study.measured([hfgi, wagi])
    methods = {"naive (swagan)": (found[wagi][:1], "naive")}
    if hfgi.generator != wagi.generator:
        methods = {f"naive ({hfgi.generator})": (found[hfgi][:1], "naive"), **methods}
    methods |= {f"HFGI-style ({args.hfgi})": (found[hfgi], "final"), "WaGI (D)": (found[wagi], "final")}
    lines = band_lines(methods)
    meta = {**ablation.facts(study, "Figures 2b and 7: errors by sub-band"), "notes": notes(lines)}
    columns = ["method", "norm", "level", "LL", "LH", "HL", "HH", RATIO]
    print(tables.write_report(study.out, "bands", lines, columns, meta))
    tables.write_figure(study.out, "bands", figure(lines, list(methods)))


def band_lines(methods: dict[str, tuple[list[dict], str]]) -> list[dict[str, Any]]:
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
