"""Table 4: feature fusion against wavelet fusion at the same layer."""

import argparse

from wagi.experiments import ablation, rows

SHOWN = ("L2", "L_wave", "SSIM")


def parser() -> argparse.ArgumentParser:
    return ablation.base_parser(
        "table4",
        "Table 4: HFGI with one and with three feature levels (StyleGAN2), WaGI with features only, WaGI "
        "with features and wavelets (SWAGAN).",
    )


def run(args: argparse.Namespace) -> None:
    study = ablation.Study.of(args)
    wagi = [
        rows.layers("WaGI (lf=7,9,11)", study.model, "swagan", (7, 9, 11)),
        rows.relabelled(rows.configuration("D", study.model), "WaGI (lf=7,9 and lw=11)"),
    ]
    same_layer = [
        rows.layers("features (lf=7,9)", study.model, "swagan", (7, 9)),
        rows.layers("wavelets (lf=7 and lw=11)", study.model, "swagan", (7,), (11,)),
    ]
    hfgi = [
        rows.relabelled(rows.configuration("A", study.model), "HFGI (lf=7)"),
        rows.layers("HFGI (lf=7,9,11)", study.model, "stylegan2", (7, 9, 11)),
    ]
    chosen, notes = rows.possible([*hfgi, *wagi, *same_layer], study.model)
    found = study.measured(chosen)
    notes.append(
        "The last two rows are not in the paper: they fuse the second level once as features and once as "
        "wavelets, on top of the same first level."
    )
    title = "Table 4: feature and wavelet fusion at the same layer"
    ablation.write_table(study, "table4", title, found, notes, SHOWN)
