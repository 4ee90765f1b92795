"""Held-out numbers of one inversion checkpoint: inversion, its bands, and the alignment alone."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from wagi import checkpoint
from wagi.config import InversionConfig
from wagi.data import open_dataset
from wagi.loader import batch_of
from wagi.losses import wavelet_band_losses
from wagi.metrics import METRICS, Metric
from wagi.model import WaGI, area_resize
from wagi.training.warp import random_perspective

VERSION = 1  # of the numbers: raised when their definition changes, so that kept ones are not mixed with new
BATCH, DRAWN = 16, 16
PIXEL_METRICS = ("l2", "l_wave", "ssim")
BANDS = ("LL", "LH", "HL", "HH")
WARP_SEED = 0


def eight_bit(images: Tensor) -> Tensor:
    """Images [-1, 1] clamped and rounded as pictures are written: `wagi.evaluate` compares these too."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


def add_pictures(parser: argparse.ArgumentParser, default: str = "portraits:9001:3") -> None:
    """The options --data and --count of a figure, for `load_images`."""
    parser.add_argument(
        "--data", default=default, metavar="DATA",
        help=f"pictures: a folder, celeba-hq:FOLDER or portraits:SEED:COUNT (default {default})",
    )  # fmt: skip
    parser.add_argument(
        "--count", type=int, default=DRAWN, metavar="N",
        help=f"of these the first N at most (default {DRAWN})",
    )  # fmt: skip


def load_images(spec: str, size: int, count: int = 0) -> Tensor:
    """The first images of a data set, or all, [N, 3, size, size], 8-bit values in [-1, 1]."""
    return torch.cat(list(Pictures(spec, size, count)))


class Pictures:
    """The pictures of a data set in batches [n, 3, size, size], 8-bit values in [-1, 1].

    They are read again each time, but for those that need little memory. limit: the first ones only; 0: all.
    """

    def __init__(self, spec: str, size: int, limit: int = 0) -> None:
        self.data, self._limit = open_dataset(spec, size), limit
        self._keep = len(self) * 12 * size**2 < 2**30
        self._kept: list[Tensor] = []

    def __len__(self) -> int:
        return min(len(self.data), self._limit or len(self.data))

    def __iter__(self) -> Iterator[Tensor]:
        if self._kept:
            yield from self._kept
            return
        kept = []
        for first in range(0, len(self), BATCH):
            indices = range(first, min(first + BATCH, len(self)))
            batch = eight_bit(batch_of(self.data, indices)["image"])
            kept += [batch] if self._keep else []
            yield batch
        self._kept = kept


class Means:
    """Means over images of named tensors [N, ...], batch by batch."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.double().sum(0).cpu()
        self.count += len(next(iter(values.values())))

    def __call__(self) -> dict:
        return {name: (value / self.count).tolist() for name, value in self.sums.items()}


@torch.inference_mode()
def score(
    path: Path, pictures: Iterable[Tensor], networks: dict[str, Metric] | None = None, device: str = "cpu"
) -> dict:
    """Numbers of a checkpoint on batches [n, 3, S, S] with 8-bit values, measured at R px.

    Args:
        networks: further metrics, on `device`.
    Returns:
        naive, final: metric -> mean over images, and `bands_l2`, `bands_l1`: [3 levels][LL, LH, HL, HH], the
        finest level first. ada_l1: mean |ADA(warped residual, naive) - residual| over seeded warps of the
        training's distribution; warped_l1: the same of the warped residual, which is doing nothing. count.
    """
    model, count = checkpoint.load_model(path).to(device), 0
    metrics = {name: METRICS[name] for name in PIXEL_METRICS} | (networks or {})
    sides, alignment = {"naive": Means(), "final": Means()}, Means()
    rng = torch.Generator().manual_seed(WARP_SEED)
    for batch in pictures:
        batch, count = batch.to(device), count + len(batch)
        found = model.invert(batch)
        target = area_resize(batch, model.resolution)
        for side, result in (("naive", found.naive), ("final", found.image)):
            sides[side].add(compare(area_resize(eight_bit(result), model.resolution), target, metrics))
        alignment.add(_alignment(model, found.residual, found.naive, rng))
    return {"count": count, **{side: means() for side, means in sides.items()}, **alignment()}


def compare(x: Tensor, y: Tensor, metrics: dict[str, Metric]) -> dict[str, Tensor]:
    """Per-image values of each metric and the band errors of images [N, 3, R, R], 8-bit values."""
    bands = {f"bands_{norm}": wavelet_band_losses(x, y, norm=norm) for norm in ("l2", "l1")}
    return {name: metric(x, y) for name, metric in metrics.items()} | bands


# Table 2's L1: ADA against the residual before it was warped (decision 23).
def _alignment(model: WaGI, residual: Tensor, naive: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    recipe = InversionConfig()
    warped = random_perspective(residual, recipe.distortion, recipe.warp_probability, rng)
    aligned = model.aligner(warped, model.low_fidelity(naive))
    errors = {"ada_l1": aligned - residual, "warped_l1": warped - residual}
    return {name: error.abs().mean(dim=(1, 2, 3)) for name, error in errors.items()}
