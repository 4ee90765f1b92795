"""Table 2: the ablation A to D, with the step C+ between C and D."""

import argparse

from wagi.experiments import ablation, rows
from wagi.presets import CONFIGURATIONS

SHOWN = ("L1(ADA)", "L1 of doing nothing", "L2", "L_wave", "SSIM")


def parser() -> argparse.ArgumentParser:
    return ablation.base_parser(
        "table2",
        "Table 2: A (HFGI: StyleGAN2, features at R/4), B (A with SWAGAN), C (B with the wavelet loss), C+ "
        "(C with features at R/2, too), D (C+ with wavelets at R/2).",
    )


def run(args: argparse.Namespace) -> None:
    study = ablation.Study.of(args)
    chosen = [rows.configuration(letter, study.model) for letter in CONFIGURATIONS]
    found = study.measured(chosen)
    notes = [gain(found[row], found[chosen[-1]], row.label) for row in chosen[:-1]]
    notes.append("C+ is not in the paper, whose step from C to D adds features at R/2 and wavelets at once.")
    notes.append(
        "L1(ADA): mean |ADA(warp(residual)) - residual| over seeded random warps; doing nothing is the "
        "warped residual as it is. A's residual is that of another generator: compare it with its own column."
    )
    title = "Table 2: configurations A to D"
    ablation.write_table(study, "table2", title, found, notes, SHOWN)


def gain(before: list[dict], after: list[dict], letter: str) -> str:
    """The change that configuration D brings to L2 and L_wave of another one, seed by seed."""
    parts = []
    for name, metric in (("L2", "l2"), ("L_wave", "l_wave")):
        changes = [b["final"][metric] / a["final"][metric] - 1 for a, b in zip(before, after, strict=True)]
        mean = sum(changes) / len(changes)
        parts.append(f"{name} {mean:+.1%} (by seed {', '.join(f'{change:+.1%}' for change in changes)})")
    return f"D against {letter}: {'; '.join(parts)}."
