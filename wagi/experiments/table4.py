"""Table 4: feature fusion against wavelet fusion at the same layer."""

import argparse

from wagi.experiments import ablation

SHOWN = ("L2", "L_wave", "SSIM")


def parser() -> argparse.ArgumentParser:
    return ablation.base_parser(
        "table4",
        "Table 4: HFGI with one and with three feature levels (StyleGAN2), WaGI with features only, WaGI "
        "with features and wavelets (SWAGAN).",
    )


def run(args: argparse.Namespace) -> None:
    from wagi.experiments import rows

    wagi = [
        rows.layers("WaGI (lf=7,9,11)", args.preset, "swagan", (7, 9, 11)),
        rows.relabelled(rows.configuration("D", args.preset), "WaGI (lf=7,9 and lw=11)"),
    ]
    same_layer = [
        rows.layers("features (lf=7,9)", args.preset, "swagan", (7, 9)),
        rows.layers("wavelets (lf=7 and lw=11)", args.preset, "swagan", (7,), (11,)),
    ]
    hfgi = [
        rows.relabelled(rows.configuration("A", args.preset), "HFGI (lf=7)"),
        rows.layers("HFGI (lf=7,9,11)", args.preset, "stylegan2", (7, 9, 11)),
    ]
    chosen, notes = rows.possible([*hfgi, *wagi, *same_layer], args.preset)
    found = ablation.measured(args, chosen)
    notes.append(
        "The last two rows are not in the paper: they fuse the second level once as features and once as "
        "wavelets, on top of the same first level."
    )
    title = "Table 4: feature and wavelet fusion at the same layer"
    ablation.write_table(args, "table4", title, found, notes, SHOWN)
