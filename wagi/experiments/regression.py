"""Figure 8: one image regressed by StyleGAN2 and by SWAGAN, with and without the spectral loss.

The paper (appendix A.2.1) optimises the latents of pretrained generators. None is at hand here: a generator
with fresh weights has all of them and its latents optimised by Adam on one image (decision 31). Only the
architecture and the loss differ: the mean squared error, plus a weight times one of `wagi.spectra`'s losses.
"""

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from wagi import config
from wagi.errors import UserError, option
from wagi.experiments import tables
from wagi.experiments.heldout import load_images
from wagi.experiments.runs import data_identity, digest
from wagi.experiments.tables import new_figure, spread
from wagi.files import beside
from wagi.losses import l2_loss
from wagi.metrics import METRICS
from wagi.networks.build import build_part
from wagi.spectra import SPECTRAL_LOSSES, reduced_spectrum, spectral_loss, top_octave_error

GENERATORS = ("stylegan2", "swagan")
Loss = Callable[[Tensor, Tensor], Tensor]
VERSION = 2  # of the fit: raised when it changes, so that kept fits are not mixed with new ones


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate regression",
        description="Figure 8: regress single images with StyleGAN2 and SWAGAN, with and without the "
        "spectral loss. Fits are kept in OUT/fits; the same command again goes on.",
    )
    add = p.add_argument
    add("--preset", default="portraits-64", help="of wagi.train; sets size and widths (portraits-64)")
    add("--data", default="portraits:9001:3", help="the images, each regressed alone (portraits:9001:3)")
    add("--out", required=True, type=Path, metavar="DIR", help="writes regression.md, .json, .png")
    add("--steps", type=int, default=400, help="optimiser steps per fit (default 400)")
    add("--lr", type=float, default=0.01, help="learning rate of Adam (default 0.01)")
    add("--spectral", type=float, default=0.1, metavar="WEIGHT", help="of the spectral loss (default 0.1)")
    add("--spectral-loss", default="schwarz", choices=SPECTRAL_LOSSES,
        help="A.2.1's (schwarz, the default), or one of the other two that it describes")  # fmt: skip
    add("--seed", type=int, default=0, help="of the start weights (default 0)")
    add("--threads", type=int, default=1, help="CPU threads (default 1)")
    return p


def run(args: argparse.Namespace) -> None:
    for setting in ("steps", "lr", "spectral", "threads"):
        if getattr(args, setting) <= 0:
            raise UserError(f"--{setting} {getattr(args, setting)}: must be greater than 0", 2)

    torch.set_num_threads(args.threads)
    size = config.settings(args.preset, "inversion")[0].size
    with option("--data"):
        targets = load_images(args.data, size)
    kept = Fits(
        args.out / "fits", args.preset, args.data, args.steps, args.lr, args.seed, args.spectral_loss
    )
    every = [(kind, weight) for weight in (0.0, args.spectral) for kind in GENERATORS]
    fits = {name(*key): kept(*key, targets) for key in every}
    lines = [line(kind, weight, fits[name(kind, weight)], targets) for kind, weight in every]
    meta = {
        "title": "Figure 8: single-image regression",
        "images": f"{args.data} at {size} px, one fit each",
        "generators": f"preset {args.preset}, fresh weights, seed {args.seed}; weights and latents optimised",
        "optimiser": f"Adam, {args.steps} steps, learning rate {args.lr:g}",
        "loss": f"L2; + {args.spectral:g} x spectral loss ({args.spectral_loss})",
        "numbers": "mean ± standard deviation (min..max) over images, not rounded to 8 bit; lower is better. "
        "Spectral distance: A.2.1's (Schwarz et al.). "
        "Top octave: mean |difference| of the reduced spectra above half the Nyquist frequency, in dB",
        "notes": [
            "The paper's figure has no numbers, and optimises latents of pretrained generators at 512 px; "
            "ours have fresh weights, which are optimised too."
        ],
    }
    columns = ["generator", "spectral loss", "L2", "L_wave", "spectral distance", "top octave [dB]"]
    print(tables.write_report(args.out, "regression", lines, columns, meta))
    tables.write_figure(args.out, "regression", figure(targets, fits))


def name(kind: str, weight: float) -> str:
    return f"{kind} + spectral loss" if weight else kind


@dataclass(frozen=True)
class Fits:
    """The fits of one recipe, each made once and kept in `folder`."""

    folder: Path
    preset: str
    data: str
    steps: int
    lr: float
    seed: int
    loss: str

    def __call__(self, kind: str, weight: float, targets: Tensor) -> Tensor:
        """One fit per image [N, 3, S, S]."""
        found = []
        for index in tqdm(range(len(targets)), name(kind, weight), disable=None):
            identity = [VERSION, self.preset, data_identity(self.data), index, self.steps, self.lr, self.seed]
            path = self.folder / f"{kind}-{digest([*identity, weight, self.loss if weight else None])}.npz"
            if not path.is_file():
                target = targets[index : index + 1]
                added = SPECTRAL_LOSSES[self.loss], weight
                image = fit(self.preset, kind, target, self.steps, self.lr, added, self.seed).numpy()
                path.parent.mkdir(parents=True, exist_ok=True)
                with beside(path) as part, open(part, "wb") as file:
                    np.savez_compressed(file, image=image)
            with np.load(path) as stored:
                found.append(torch.from_numpy(stored["image"]))
        return torch.cat(found)


def fit(
    preset: str, kind: str, target: Tensor, steps: int, lr: float, added: tuple[Loss, float], seed: int
) -> Tensor:  # 1,3,S,S in [-1, 1] => the same, not clamped
    """A fresh generator's best effort at one image after `steps` steps of L2 + weight * loss (`added`)."""
    spectral, weight = added
    torch.manual_seed(seed)
    model, _ = config.settings(preset, "inversion")
    generator: Any = build_part(dataclasses.replace(model, generator=kind), "generator")
    with torch.no_grad():
        start = generator.broadcast(generator.map(torch.randn(1, generator.style_dim)))
    ws = start.clone().requires_grad_()
    weights = [p for layer, p in generator.named_parameters() if not layer.startswith("style.")]
    optimizer = torch.optim.Adam([ws, *weights], lr)
    for _ in range(steps):
        image = generator(ws)
        loss = l2_loss(image, target)
        if weight:
            loss = loss + weight * spectral(image, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return generator(ws)


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


def figure(targets: Tensor, fits: dict[str, Tensor]) -> Figure:
    """Radial spectra, mean over images, and the first image as each fit has it."""
    result = new_figure(11, 4.5)
    grid = result.add_gridspec(2, 6)
    axes = result.add_subplot(grid[:, :3])
    for label, images in {"image": targets, **fits}.items():
        spectrum = reduced_spectrum(images).mean(0)
        width, colour = (2.5, "black") if label == "image" else (1.2, None)
        axes.plot(range(1, len(spectrum)), spectrum[1:], label=label, linewidth=width, color=colour)
    axes.set(yscale="log", xlabel="cycles per image", ylabel="power, azimuthal mean")
    axes.legend(fontsize=8)
    for k, (label, images) in enumerate({"image": targets, **fits}.items()):
        panel = result.add_subplot(grid[k // 3, 3 + k % 3])
        panel.imshow(images[0].clamp(-1, 1).add(1).div(2).permute(1, 2, 0).numpy())
        panel.set_title(label, fontsize=7)
        panel.set_axis_off()
    return result
