"""The wavelet loss alone: configurations with several weights of it and several budgets, all else equal."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wagi.errors import UserError
from wagi.experiments import ablation, rows, tables

SHOWN = ("L1(ADA)", "L2", "L_wave", "SSIM")
LETTERS = ("C", "D")  # with weight 0, C is B


def parser() -> argparse.ArgumentParser:
    p = ablation.base_parser(
        "wave-loss",
        "What the wavelet loss alone changes (table 2's step from B to C): configurations C and D with "
        "several lambda_wave = lambda_wave_ada and budgets.",
    )
    add = p.add_argument
    add("--weights", default="0,0.1,1", metavar="W,...", help="lambda_wave and lambda_wave_ada (0,0.1,1)")
    add("--budgets", default="1,4", metavar="X,...", help="multiples of --kimg (1,4)")
    return p


def run(args: argparse.Namespace) -> None:
    study = ablation.Study.of(args)
    budgets, weights = numbers("--budgets", args.budgets), numbers("--weights", args.weights)
    if not min(budgets) > 0:
        raise UserError(f"--budgets {args.budgets}: must be greater than 0", 2)
    lines = [
        line
        for budget in budgets
        for letter in LETTERS
        for line in weighted(replace(study, kimg=study.kimg * budget), letter, weights)
    ]
    facts = ablation.facts(study, "The wavelet loss alone")
    facts["inversion runs"] += "; rows differ in budget"
    shown = [*SHOWN, *study.judges]
    print(tables.write_report(args.out, "wave-loss", lines, ["row", "kimg", "lambda_wave", *shown], facts))
    names = [f"{line['row']}, {line['kimg']:g} kimg, {line['lambda_wave']:g}" for line in lines]
    tables.write_figure(args.out, "wave-loss", ablation.bars(lines, shown, names))


def weighted(study: ablation.Study, letter: str, weights: Sequence[float]) -> list[dict[str, Any]]:
    """A line of the configuration for each weight of the wavelet loss."""
    row, lines = rows.configuration(letter, study.model), []
    for weight in weights:
        own = {"lambda_wave": repr(weight), "lambda_wave_ada": repr(weight)}
        found = replace(study, overrides=study.overrides | own).measured([row])
        line = ablation.table_rows(study, found)[-1]
        lines.append({**line, "kimg": study.kimg, "lambda_wave": weight})
    return lines


def numbers(name: str, text: str) -> list[float]:
    """The numbers of an option. UserError, status 2, where one is none or negative."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= number < float("inf") for number in found):
        raise UserError(f"{name} {text}: write numbers from 0, by commas", 2)
    return found
