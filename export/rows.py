"""Rows of a parity table: what an engine found for a graph beside what was wanted, in numbers and as text.

Everything that judges an engine uses the same measures: largest and mean absolute difference, and the PSNR in
dB whose peak is the range of the reference. Needs neither torch nor onnx.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from wagi_rt.chain import Chain, Step, walk
from wagi_rt.engines.base import Engine
from wagi_rt.metrics import psnr_of_all

Arrays = dict[str, np.ndarray]
Recorded = dict[str, tuple[Arrays, Arrays]]  # graph or function of a chain -> its (inputs, outputs)
IDENTICAL_DB = 200.0  # instead of infinity, which JSON has not


@dataclass(frozen=True)
class Row:
    """One line of the table: a graph, or a chain of them, on one engine at one batch size."""

    name: str
    backend: str
    batch: int
    difference: float  # largest absolute difference of any value
    mean: float  # absolute difference, over the values of all outputs
    psnr: float  # dB, the worst output's; the peak is the range of the reference
    scale: float  # largest absolute value of the reference
    tolerance: float  # of `difference`; infinite: only the PSNR counts
    limit: float  # least PSNR; minus infinity: none
    values: int

    @property
    def passed(self) -> bool:
        # Written so that NaN fails.
        return bool(self.difference <= self.tolerance and self.psnr >= self.limit)

    def as_json(self) -> dict[str, Any]:
        """The row for a JSON file, which has neither NaN nor infinity: null."""
        found = {**asdict(self), "passed": self.passed}
        return {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in found.items()
        }


def psnr_db(found: np.ndarray, wanted: np.ndarray, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio; peak None: the range of `wanted`. NaN stays NaN."""
    peak = peak or float(wanted.max() - wanted.min()) or 1.0
    return float(np.minimum(psnr_of_all(found, wanted, peak), IDENTICAL_DB))


def row(
    name: str,
    found: Iterable[np.ndarray],
    wanted: Iterable[np.ndarray],
    limits: tuple[float, float],
    backend: str = "onnx",
    batch: int = 0,
    peak: float | None = None,
) -> Row:
    """The comparison of pairs of arrays. limits: (tolerance, least PSNR). peak: see psnr_db."""
    pairs = list(zip(found, wanted, strict=True))
    whole = all(np.isfinite(f).all() and np.isfinite(w).all() for f, w in pairs)
    values = sum(w.size for _, w in pairs)
    differences = [np.abs(f - w) for f, w in pairs] if whole else []
    return Row(
        name,
        backend,
        batch or len(pairs[0][1]),
        difference=max((float(d.max()) for d in differences), default=float("nan")),
        mean=sum(float(d.sum(dtype=np.float64)) for d in differences) / values if whole else float("nan"),
        psnr=min(psnr_db(f, w, peak) for f, w in pairs) if whole else float("nan"),
        scale=max(float(np.abs(w).max()) for _, w in pairs),
        tolerance=limits[0],
        limit=limits[1],
        values=values,
    )


def record(engine: Engine, chains: Iterable[Chain], tensors: Arrays) -> Recorded:
    """Inputs and outputs of every step of the chains on an engine; of one that comes twice the first time.

    tensors: what the first chain reads; everything that is made is added to it.
    """
    found: Recorded = {}

    def run(step: Step, given: Arrays) -> Arrays:
        return engine.run(step.name, given)

    for chain in chains:
        for step, given, made in walk(chain, tensors, run, engine.manifest.resolution):
            found.setdefault(step.name, (given, made))
    return found


def in_batches(run: Callable[[Arrays], Arrays], inputs: Mapping[str, np.ndarray], batch: int) -> Arrays:
    """`run` over `batch` images at a time, the last ones alone; its outputs joined."""
    count = len(next(iter(inputs.values())))
    parts = [
        run({name: value[start : start + batch] for name, value in inputs.items()})
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def table(rows: Iterable[Row], largest: Mapping[str, float] | None = None) -> str:
    """The rows as text, one line each; `largest`: largest activation by graph."""
    lines = [
        f"{'graph':<12} {'backend':<13} {'batch':>5} {'max |diff|':>11} {'mean |diff|':>11} {'limit':>8} "
        f"{'PSNR dB':>8} {'limit':>6} {'max |ref|':>10} {'max |act|':>10} {'values':>10}"
    ]
    for one in rows:
        activation = f"{largest[one.name]:.3g}" if largest and one.name in largest else "-"
        tolerance = f"{one.tolerance:.1e}" if np.isfinite(one.tolerance) else "-"
        limit = f"{one.limit:g}" if np.isfinite(one.limit) else "-"
        lines.append(
            f"{one.name:<12} {one.backend:<13} {one.batch:>5} {one.difference:>11.2e} {one.mean:>11.2e} "
            f"{tolerance:>8} {one.psnr:>8.1f} {limit:>6} {one.scale:>10.3g} {activation:>10} "
            f"{one.values:>10}  {'pass' if one.passed else 'FAIL'}"
        )
    return "\n".join(lines)


def failure(rows: Iterable[Row]) -> str:
    """The rows past their limits, in one line; empty when all passed."""
    return ", ".join(
        f"{one.name} in {one.backend} differs by {one.difference:.2e} (tolerance {one.tolerance:.1e}), "
        f"PSNR {one.psnr:.1f} dB (limit {one.limit:g})"
        for one in rows
        if not one.passed
    )
