"""From pairs of pictures to numbers: every metric of a protocol for the naive and the final inversion."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wagi.data import to_float
from wagi.errors import UserError
from wagi.evaluation.extractors import Extractors
from wagi.evaluation.inverters import Inverted
from wagi.evaluation.protocols import Protocol
from wagi.losses import wavelet_band_losses

SIDES = ("naive", "final")
BANDS = ("LL", "LH", "HL", "HH")
K = 2  # of eq. (6): levels 0, 1, 2


class _Given(nn.Module):
    """Lets torchmetrics take features that are already computed."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.num_features = dimensions

    def forward(self, features: Tensor) -> Tensor:
        return features


class FrechetDistance:
    """FID (Heusel et al. 2017, eq. 6) of the naive and of the final images, or more, to the same inputs."""

    def __init__(self, dimensions: int) -> None:
        self.count, self.dimensions = 0, dimensions
        self._of: dict[str, Any] = {}

    def add(self, inputs: Tensor, sides: Mapping[str, Tensor]) -> None:
        """Features [N, D] of the inputs and of each side."""
        from torchmetrics.image.fid import FrechetInceptionDistance

        self.count += len(inputs)
        for side, features in sides.items():
            if side not in self._of:
                self._of[side] = FrechetInceptionDistance(feature=_Given(self.dimensions))
            self._of[side].update(inputs.double().cpu(), real=True)
            self._of[side].update(features.double().cpu(), real=False)

    def compute(self, side: str) -> float:
        """Needs two images or more."""
        return float(self._of[side].compute())


def resized(pixels: np.ndarray, size: int, how: str) -> Tensor:  # S,S,3 uint8 => 3,size,size in [-1, 1]
    """A picture at the protocol's size; ValueError when it is smaller, or not a multiple for block means."""
    factor, rest = divmod(len(pixels), size)
    if not factor or (rest and how == "area"):
        raise ValueError(f"a picture of {len(pixels)} px cannot be measured at {size} px")
    if factor == 1 and not rest:
        return to_float(pixels)
    if how == "area":
        return nn.functional.avg_pool2d(to_float(pixels), factor)
    from PIL import Image

    image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return to_float(np.asarray(image))


class Scores:
    """Collects the metrics of a protocol over all pictures."""

    def __init__(self, protocol: Protocol, model_size: int, extractors: Extractors, device: Any) -> None:
        self.protocol, self.extractors, self.device = protocol, extractors, torch.device(device)
        names = [*extractors.pairwise, *extractors.features]
        self.sizes = {name: protocol.size_of(name, model_size) for name in names}
        self.names: list[str] = []
        self.values: dict[str, dict[str, list[float]]] = {
            name: {side: [] for side in SIDES} for name in extractors.pairwise
        }
        self.bands: dict[str, list[Tensor]] = {side: [] for side in SIDES}
        self.distances: dict[str, FrechetDistance] = {}

    @torch.inference_mode()
    def add(self, names: Sequence[str], inputs: Sequence[np.ndarray], results: Sequence[Inverted]) -> None:
        """Measure one batch; `inputs` are [S, S, 3] uint8, beside what became of them."""
        columns = {"input": inputs, **{side: [getattr(r, side) for r in results] for side in SIDES}}
        self.names += names
        for size in sorted(set(self.sizes.values())):
            x = {side: self._stack(pictures, size) for side, pictures in columns.items()}
            for name in (name for name, wanted in self.sizes.items() if wanted == size):
                self._measure(name, x)

    def _stack(self, pictures: Sequence[np.ndarray], size: int) -> Tensor:
        return torch.stack([resized(one, size, self.protocol.resize) for one in pictures]).to(self.device)

    def _measure(self, name: str, x: dict[str, Tensor]) -> None:
        if name in self.extractors.features:
            features = {side: self.extractors.features[name](images) for side, images in x.items()}
            distance = self.distances.setdefault(name, FrechetDistance(features["input"].shape[1]))
            distance.add(features.pop("input"), features)
            return
        metric = self.extractors.pairwise[name]
        for side in SIDES:
            self.values[name][side] += metric(x[side], x["input"]).tolist()
            if name == "l_wave":
                self.bands[side].append(wavelet_band_losses(x[side], x["input"], K).cpu())

    def results(self) -> dict[str, Any]:
        """For the report: results, bands and what could not be measured. UserError when nothing was added."""
        if not self.names:
            raise UserError("--data: no picture could be inverted")
        results: dict[str, Any] = {}
        missing = dict(self.extractors.missing)
        for name in self.protocol.metrics:
            if name in self.values:
                results[name] = {side: statistics(self.values[name][side]) for side in SIDES}
            elif name in self.extractors.features and self.distances[name].count < 2:
                missing[name] = "needs two images or more"
            elif name in self.distances:
                results[name] = {side: {"value": self.distances[name].compute(side)} for side in SIDES}
        return {"results": results, "bands": self._band_means(), "not_measured": missing}

    def _band_means(self) -> dict[str, Any]:
        """side -> [{LL, LH, HL, HH, l_wave} of level 0 (finest), 1, 2]; empty without L_wave."""
        found = {}
        for side, parts in self.bands.items():
            if parts:
                means = torch.cat(parts).double().mean(0).tolist()
                found[side] = [
                    dict(zip(BANDS, level, strict=True)) | {"l_wave": sum(level[1:])} for level in means
                ]
        return found

    def rows(self) -> list[dict[str, Any]]:
        """One row per picture: its name, then METRIC_naive, METRIC_final."""
        return [
            {"image": image}
            | {f"{name}_{side}": found[side][k] for name, found in self.values.items() for side in SIDES}
            for k, image in enumerate(self.names)
        ]


def statistics(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation (n - 1) and median over pictures; None stands for infinite and undefined."""
    array = np.array(values, np.float64)
    with np.errstate(invalid="ignore"):
        spread = float(array.std(ddof=1)) if len(array) > 1 else math.nan
        found = {"mean": float(array.mean()), "std": spread, "median": float(np.median(array))}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}
