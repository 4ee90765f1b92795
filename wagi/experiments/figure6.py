"""Figure 6: the ablation A to D on pictures: the residual, ADA's alignment, the result, zooms."""

import argparse

import torch
from torch import Tensor

from wagi import checkpoint
from wagi.experiments import ablation, rows
from wagi.experiments.comparison import comparison, with_labels, write_picture
from wagi.experiments.rows import Row
from wagi.experiments.ways import enlarged
from wagi.experiments.zooms import Zoom, lost, worst
from wagi.model import WaGI

LABELS = {"A": "A: HFGI", "B": "B: + SWAGAN", "C": "C: + wavelet loss", "D": "D: + wavelet fusion"}


def parser() -> argparse.ArgumentParser:
    p = ablation.base_parser(
        "figure6",
        "Figure 6: input, naive inversion, residual, aligned residual, result and zooms of configurations A "
        "to D (those of table 2, trained with the same options).",
    )
    p.set_defaults(test="portraits:9001:3", seeds=1)
    return p


@torch.no_grad()
def columns(model: WaGI, images: Tensor, zoom: Zoom) -> dict[str, Tensor]:
    """One configuration's columns of images [N, 3, S, S]; residuals, in [-2, 2], are halved."""
    found = model.invert(images)
    residual, aligned = (enlarged(each / 2, images) for each in (found.residual, found.aligned))
    return {
        "input": images,
        "naive": found.naive,
        "residual": residual,
        "aligned residual": aligned,
        "result": found.image,
        "zoom: input": zoom(images),
        "zoom: aligned residual": zoom(aligned),
        "zoom: result": zoom(found.image),
    }


def run(args: argparse.Namespace) -> None:
    study = ablation.Study.of(args)
    images = study.images()
    trained = study.trained([rows.configuration(letter, study.model) for letter in LABELS])
    models = {row: checkpoint.load_model(paths[0]) for row, paths in trained.items()}
    zoom = worst(lost(next(iter(models.values())), images))
    shown = {row: columns(model, images, zoom) for row, model in models.items()}
    write_picture(args.out / "figure6.png", sheet(shown))
    print(f"{args.out / 'figure6.png'}: {len(images)} pictures of {args.test}, configurations A to D, seed 0")


def sheet(shown: dict[Row, dict[str, Tensor]]):  # => uint8 [H, W, 3]
    """The configurations below one another, picture by picture."""
    titles = next(iter(shown.values()))
    lines = {name: torch.stack([each[name] for each in shown.values()], 1).flatten(0, 1) for name in titles}
    count = len(lines["input"]) // len(shown)
    return with_labels(comparison(lines), [LABELS[row.label] for _ in range(count) for row in shown])
