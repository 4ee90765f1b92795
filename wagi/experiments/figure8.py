"""Figure 8: one image reconstructed by the latents of trained generators, with and without a spectral term.

python -m wagi.evaluate figure8 --stylegan2 A.pt --swagan B.pt --out OUT

As in appendix A.2.1: latent optimisation in W with a StyleGAN2 and a SWAGAN, whose weights stay as they are;
the loss is the mean squared error, plus a weight times one of `wagi.spectra`'s losses.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from wagi import checkpoint
from wagi.errors import UserError, option
from wagi.evaluation.optimisation import optimise_latents
from wagi.experiments import tables
from wagi.experiments.generators import Generators, generators_parser, require_positive
from wagi.experiments.heldout import load_images
from wagi.experiments.runs import data_identity, digest
from wagi.experiments.tables import new_figure, show, spread
from wagi.files import beside
from wagi.losses import l2_loss
from wagi.metrics import METRICS
from wagi.networks.swagan import Generator
from wagi.spectra import SPECTRAL_LOSSES, reduced_spectrum, spectral_loss, top_octave_error

GENERATORS = ("stylegan2", "swagan")
TITLES = {"stylegan2": "StyleGAN2", "swagan": "SWAGAN"}
VERSION = 3  # of the fit: raised when it changes, so that kept fits are not mixed with new ones


def parser() -> argparse.ArgumentParser:
    p = generators_parser(
        "figure8",
        "Figure 8: latents of trained StyleGAN2 and SWAGAN optimised for single images (W, StyleGAN2's "
        "projector), with and without the spectral loss. Fits are kept in OUT/fits.",
        trains=False,
    )
    p.set_defaults(test="portraits:9001:1")
    add = p.add_argument
    add("--steps", type=int, default=500, help="optimiser steps per fit (default 500)")
    add("--lr", type=float, default=0.1, help="highest learning rate of Adam (default 0.1)")
    add("--spectral", type=float, default=0.1, metavar="WEIGHT", help="of the spectral loss (default 0.1)")
    add("--spectral-loss", default="schwarz", choices=SPECTRAL_LOSSES,
        help="A.2.1's (schwarz, the default), or one of the other two that it describes")  # fmt: skip
    add("--seed", type=int, default=0, help="of the noise on the latents (default 0)")
    return p


def run(args: argparse.Namespace) -> None:
    for name in ("steps", "lr", "spectral"):
        require_positive(args, name)
    study = Generators.of(args)
    torch.set_num_threads(args.threads)
    models = {kind: checkpoint.load_generator(p) for kind, p in study.pretrained(GENERATORS).items()}
    size = models["swagan"].size
    if models["stylegan2"].size != size:
        raise UserError(f"--stylegan2: makes {models['stylegan2'].size} px, the SWAGAN {size}", 2)
    with option("--test"):
        targets = load_images(args.test, size)
    kept = Fits(args.out / "fits", args.test, args.steps, args.lr, args.seed, args.spectral_loss)
    every = [(kind, weight) for kind in GENERATORS for weight in (0.0, args.spectral)]
    fits = {title(*key): kept(models[key[0]], *key, targets) for key in every}
    lines = [line(*key, fits[title(*key)], targets) for key in every]
    meta = {
        "title": "Figure 8: single images reconstructed by latents, with and without the spectral loss",
        "images": f"{args.test} at {size} px, one fit each",
        "generators": study.sources(),
        "optimiser": f"StyleGAN2's projector in W, {args.steps} steps, learning rate {args.lr:g}",
        "loss": f"L2; + {args.spectral:g} x spectral loss ({args.spectral_loss})",
        "numbers": "mean ± standard deviation (min..max) over images, not rounded to 8 bit; lower is better. "
        "Spectral distance: A.2.1's (Schwarz et al.). "
        "Top octave: mean |difference| of the reduced spectra above half the Nyquist frequency, in dB",
        "notes": [effect(lines), "The paper's figure has no numbers; its generators make 512 px."],
    }
    columns = ["generator", "spectral loss", "L2", "L_wave", "spectral distance", "top octave [dB]"]
    print(tables.write_report(args.out, "figure8", lines, columns, meta))
    tables.write_figure(args.out, "figure8", figure(targets, fits))


def title(kind: str, weight: float) -> str:
    return TITLES[kind] + (" + spectral loss" if weight else "")


def objective(name: str, weight: float) -> Callable[[Tensor, Tensor], Tensor]:
    """L2 + weight * spectral loss, means over a batch."""
    added = SPECTRAL_LOSSES[name]
    return lambda x, y: l2_loss(x, y) + weight * added(x, y) if weight else l2_loss(x, y)


@dataclass(frozen=True)
class Fits:
    """The fits of one recipe, each made once and kept in `folder`."""

    folder: Path
    data: str
    steps: int
    lr: float
    seed: int
    loss: str

    def __call__(self, generator: Generator, kind: str, weight: float, targets: Tensor) -> Tensor:
        """One fit per image [N, 3, S, S] in [-1, 1], not clamped."""
        generator.requires_grad_(False)
        recipe = [VERSION, data_identity(self.data), self.steps, self.lr, self.seed]
        recipe += [checkpoint.weights_hash(generator), weight, self.loss if weight else None]
        found = []
        for index in tqdm(range(len(targets)), title(kind, weight), disable=None):
            path = self.folder / f"{kind}-{digest([*recipe, index])}.npz"
            if not path.is_file():
                self._fit(path, generator, weight, targets[index : index + 1])
            with np.load(path) as stored, torch.no_grad():
                found.append(generator(generator.broadcast(torch.from_numpy(stored["w"]))))
        return torch.cat(found)

    def _fit(self, path: Path, generator: Generator, weight: float, target: Tensor) -> None:
        loss = objective(self.loss, weight)
        w = optimise_latents(generator, target, loss, self.steps, self.lr, self.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, w=w.numpy())


def line(kind: str, weight: float, images: Tensor, targets: Tensor) -> dict[str, Any]:
    """A line of the table: each number over the images."""
    pairs = list(zip(images.split(1), targets.split(1), strict=True))
    return {
        "generator": kind,
        "spectral loss": "yes" if weight else "no",
        "L2": spread(METRICS["l2"](images, targets).tolist()),
        "L_wave": spread(METRICS["l_wave"](images, targets).tolist()),
        "spectral distance": spread([float(spectral_loss(x, y)) for x, y in pairs]),
        "top octave [dB]": spread(top_octave_error(images, targets).tolist()),
    }


def effect(lines: list[dict]) -> str:
    """The change that the spectral term makes, in words."""
    parts = []
    for kind in GENERATORS:
        before, after = (line for line in lines if line["generator"] == kind)
        changes = (
            f"{column} {after[column]['mean'] / before[column]['mean'] - 1:+.0%}"
            for column in ("L2", "spectral distance")
        )
        parts.append(f"{TITLES[kind]}: {', '.join(changes)}")
    return f"With the spectral term: {'; '.join(parts)}."


def figure(targets: Tensor, fits: dict[str, Tensor]) -> Figure:
    """The first image as each fit has it, and below it the spectra of image and fit."""
    result = new_figure(13, 5.5)
    panels = result.subplots(2, 1 + len(fits))
    true = reduced_spectrum(targets[:1])[0]
    for k, (label, images) in enumerate({"image": targets, **fits}.items()):
        show(panels[0][k], images[0], f"({'abcde'[k]}) {label}")
        axes = panels[1][k]
        axes.plot(range(1, len(true)), true[1:], color="black", linewidth=2.2, label="image")
        if k:
            axes.plot(range(1, len(true)), reduced_spectrum(images[:1])[0, 1:], color="#d62728", label=label)
        axes.set(yscale="log", xlabel="cycles per image")
        axes.legend(fontsize=6)
    panels[1][0].set_ylabel("power, azimuthal mean")
    return result
