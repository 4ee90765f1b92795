"""Figure 10: inversions of the eight rows of table 3, with zooms."""

import argparse

import torch
from torch import Tensor

from wagi import checkpoint
from wagi.experiments import ablation, rows, table3
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.zooms import lost, worst


def parser() -> argparse.ArgumentParser:
    p = ablation.base_parser(
        "figure10",
        "Figure 10: input and inversion by each row of table 3 (trained with the same options), zooms below.",
    )
    p.set_defaults(test="portraits:9001:3", seeds=1)
    return p


def run(args: argparse.Namespace) -> None:
    study = ablation.Study.of(args)
    images = study.images()
    chosen, notes = rows.possible(table3.rows_of(study.model), study.model)
    models = {row: checkpoint.load_model(paths[0]) for row, paths in study.trained(chosen).items()}
    zoom = worst(lost(next(iter(models.values())), images))
    with torch.no_grad():
        found = {row.label: model.invert(images).image for row, model in models.items()}
    pictures = {"input": images, **found}
    path = args.out / "figure10.png"
    write_picture(path, comparison({label: _pairs(each, zoom(each)) for label, each in pictures.items()}))
    print("\n".join([f"{path}: {len(images)} pictures of {args.test}, seed 0", *notes]))


def _pairs(images: Tensor, zooms: Tensor) -> Tensor:  # N,3,S,S twice => 2N,3,S,S
    """Each picture and, below it, its zoom."""
    return torch.stack([images, zooms], 1).flatten(0, 1)
