"""Table 3: which layers are fused."""

import argparse

from wagi.config import ModelConfig
from wagi.experiments import ablation, rows

SHOWN = ("L2", "L_wave", "SSIM")


def parser() -> argparse.ArgumentParser:
    return ablation.base_parser(
        "table3",
        "Table 3: (a) to (d) fuse features at l_f=7, (e) to (h) at l_f=7,9, with wavelets at l_w=7, 9, 11, "
        "13; of the same shares of R. Rows that do not exist at its size are listed.",
    )


def rows_of(model: ModelConfig) -> list[rows.Row]:
    """(a) to (h), those too that do not exist at the model's size."""
    pairs = [(features, wavelet) for features in ((7,), (7, 9)) for wavelet in (7, 9, 11, 13)]
    return [
        rows.layers(f"({letter}) lf={','.join(map(str, f))}, lw={w}", model, "swagan", f, (w,))
        for letter, (f, w) in zip("abcdefgh", pairs, strict=True)
    ]


def run(args: argparse.Namespace) -> None:
    study = ablation.Study.of(args)
    chosen, notes = rows.possible(rows_of(study.model), study.model)
    found = study.measured(chosen)
    title = "Table 3: fusion layers"
    ablation.write_table(study, "table3", title, found, notes, SHOWN)
