"""Values of the PyTorch model that travel with a bundle, by which reduced arithmetic is judged before use.

The manifest's `source.probes` holds, for images that a seed describes, 64 values of each graph's result in
PyTorch in FP32: {"seed", "values": {graph: {output: [64 numbers]}}}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.session import Session

BATCH, COUNT = 3, 64
_COARSEST = 4
_PEAK = 2.0  # images span [-1, 1]


def images(size: int, seed: int, batch: int = BATCH) -> np.ndarray:
    """Images [batch, 3, size, size] in [-1, 1] with detail at every scale; the same for a seed everywhere."""
    rng = np.random.default_rng(seed)
    found, level, octaves = np.zeros((batch, 3, size, size), np.float32), _COARSEST, 0
    while level <= size:
        noise = rng.uniform(-1, 1, (batch, 3, level, level)).astype(np.float32)
        found += noise.repeat(size // level, axis=2).repeat(size // level, axis=3)
        level, octaves = 2 * level, octaves + 1
    return found / octaves


def pick(values: np.ndarray, seed: int) -> np.ndarray:  # any shape => [64]
    """The values at the positions of a seed; those of a batch of three."""
    return values.reshape(-1)[np.random.default_rng(seed).integers(0, values.size, COUNT)]


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Decibels below the range of an image, 2; infinite for equal values, NaN if one is not a number."""
    error = float(np.mean(np.square(found.astype(np.float64) - wanted)))
    return float("inf") if error == 0 else float(10 * np.log10(_PEAK**2 / error))


def require(session: Session, limit: float) -> float:
    """PSNR (dB) of the inverted probe images against PyTorch in FP32; UserError when it is below `limit`."""
    manifest = session.manifest
    what = f"--precision {session.precision}: {manifest.folder}"
    try:
        seed = int(manifest.source["probes"]["seed"])
        wanted = np.array(manifest.source["probes"]["values"]["decode"]["image"], np.float32)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{what} holds no values to judge it by; use --precision fp32") from None
    inputs = images(manifest.size, seed)
    results = [session.restore(inputs[i : i + 1]).image for i in range(len(inputs))]  # one in memory
    found = psnr(pick(np.concatenate(results), seed), wanted)
    if not found >= limit:  # written so that NaN fails
        raise UserError(
            f"{what} reaches {found:.1f} dB against FP32, the limit is {limit:g}; use --precision fp32"
        )
    return found
