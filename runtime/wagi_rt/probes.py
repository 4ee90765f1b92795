"""Values of the PyTorch model that travel with a bundle, by which an engine is judged.

The manifest's `source.probes` holds, for images that a seed describes, 64 values of each graph's result in
PyTorch in FP32, as in an inversion and in the edit that `edited` describes:
{"seed", "values": {graph: {output: [64 numbers]}}}.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wagi_rt.chain import EDIT, Chain, Step, opening
from wagi_rt.engines.base import Engine
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest

BATCH, COUNT = 3, 64
_COARSEST = 4


def judged(manifest: Manifest) -> dict[str, Step]:
    """The steps judged by values: graphs of an inversion, those that only an edit has, whole chains."""
    rows = dict(manifest.inversion.graphs)
    rows |= {name: step for name, step in manifest.edit.graphs.items() if name not in rows}
    return rows | manifest.fused


def edited(ws: np.ndarray) -> np.ndarray:  # [N, n_latent, style_dim] => the same
    """Latents of a change that everybody can repeat, as large as half of their own spread."""
    step = np.random.default_rng(COUNT).uniform(-1, 1, ws.shape[-1]).astype(ws.dtype)
    return ws + ws.dtype.type(0.5) * ws.std(axis=(1, 2), keepdims=True) * step


class Probes(NamedTuple):
    """The values that a bundle stores."""

    seed: int
    values: dict[str, dict[str, np.ndarray]]  # graph -> output -> [64] float32


def stored(manifest: Manifest) -> Probes | None:
    """The bundle's own; None where it has none, or none that can be used."""
    try:
        found = manifest.source["probes"]
        seed, values = found["seed"], found["values"]
        probes = {
            name: {output: np.array(values[name][output], np.float32) for output in step.outputs}
            for name, step in judged(manifest).items()
            if name in values
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    arrays = [array for outputs in probes.values() for array in outputs.values()]
    whole = all(array.shape == (COUNT,) and np.isfinite(array).all() for array in arrays)
    return Probes(seed, probes) if whole and type(seed) is int and 0 <= seed < 1 << 32 else None


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


def require(engine: Engine, chain: Chain) -> None:
    """UserError unless a reduced engine comes within its limit (PSNR in dB) of PyTorch in FP32.

    chain: an inversion or an edit, whose results for the probe images are compared.
    """
    from wagi_rt.metrics import psnr_of_all

    manifest, limit = engine.manifest, engine.limit_psnr_db
    if limit is None:
        return
    edits = "edit_ws" in chain.inputs
    what = f"--precision {engine.precision}: {manifest.folder}"
    known, last = stored(manifest), manifest.inversion.steps[-1]
    name, output = (EDIT, "result") if edits else (last.name, last.outputs[0])
    if known is None or name not in known.values:
        judged = "its edits" if edits else "it"
        raise UserError(f"{what} holds no values to judge {judged} by; use --precision fp32")
    inputs = images(manifest.size, known.seed)
    pictures = (inputs[i : i + 1] for i in range(len(inputs)))  # one in memory
    results = [engine.run_chain(chain, given(engine, chain, one))["result"] for one in pictures]
    found = psnr_of_all(pick(np.concatenate(results), known.seed), known.values[name][output])
    if not found >= limit:  # written so that NaN fails
        reached = f"{found:.1f} dB{' in edits' * edits}"
        line = f"reaches {reached} against FP32, the limit is {limit:g}; use --precision fp32"
        raise UserError(f"{what} {line}")


def given(engine: Engine, chain: Chain, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of an inversion of pictures [N, 3, S, S], or where `chain` is an edit, of one to `edited`."""
    tensors = {"image": pictures}
    if "edit_ws" in chain.inputs:
        tensors |= engine.run_chain(opening(*engine.manifest.kind), tensors)
        tensors["edit_ws"] = edited(tensors["ws"])
    return {name: tensors[name] for name in chain.inputs}
