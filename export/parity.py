"""ONNX Runtime against PyTorch: every graph of a bundle, and the whole inversion through the runtime.

Reference values travel with the bundle as *probes*: a few hundred values of the PyTorch results for images
that a seed describes (`wagi_rt.probes`). So a bundle can be checked without its checkpoint; with it, every
value is compared. The reference is always the training model in FP32, never the export formulation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.engine_check import psnr_db
from wagi.model import WaGI, area_resize
from wagi_rt import probes
from wagi_rt.chain import FUSED, INVERSION, PIPELINE, walk
from wagi_rt.errors import UserError
from wagi_rt.manifest import Graph
from wagi_rt.session import Session

# Names of the rows that are not graphs: the separate graphs run in turn, and one image at a time.
WHOLE, BATCHES = "inversion", "batch 1 = 3"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One line of the parity table."""

    name: str
    difference: float  # largest absolute difference of any value
    psnr: float  # dB, the worst output's; the peak is the range of the reference
    scale: float  # largest absolute value of the reference
    tolerance: float
    limit: float  # least PSNR
    values: int

    @property
    def passed(self) -> bool:
        # Written so that NaN fails.
        return bool(self.difference <= self.tolerance and self.psnr >= self.limit)


def reference(model: WaGI, images: np.ndarray) -> dict[str, tuple[Arrays, Arrays]]:
    """PyTorch's (inputs, outputs) of every graph for `images` [N, 3, S, S], as in one inversion."""
    x = torch.from_numpy(images)
    with torch.no_grad():
        inversion = model.invert(x)
        state, naive = model.reconstruct(inversion.ws)
        known: dict[str, Tensor] = {
            "image": x,
            "image_r": area_resize(x, model.resolution),
            "ws": inversion.ws,
            "feature": state.x,
            "skip": state.skip,
            "naive": naive,
            "naive_r": model.low_fidelity(naive),
            "residual": inversion.residual,
            "aligned": inversion.aligned,
            "result": inversion.image,
        }
    arrays = {key: value.numpy() for key, value in known.items()}
    return {
        name: (
            {own: arrays[key] for own, key in step.reads.items()},
            {own: arrays[key] for own, key in step.makes.items()},
        )
        for name, step in {**INVERSION.graphs, **FUSED.graphs}.items()
    }


def _row(name: str, found: Iterable[np.ndarray], wanted: Iterable[np.ndarray], limits: Graph) -> Row:
    pairs = list(zip(found, wanted, strict=True))
    difference = max(float(np.abs(f - w).max()) for f, w in pairs)
    if not all(np.isfinite(f).all() and np.isfinite(w).all() for f, w in pairs):
        difference = float("nan")
    return Row(
        name,
        difference,
        psnr=min(psnr_db(f, w) for f, w in pairs),
        scale=max(float(np.abs(w).max()) for _, w in pairs),
        tolerance=limits.tolerance,
        limit=limits.limit_psnr_db,
        values=sum(w.size for _, w in pairs),
    )


def _batches(session: Session, images: np.ndarray, together: np.ndarray) -> Row:
    """The same images one at a time: a batch must not change an image."""
    alone = np.concatenate([session.run(image[None]).image for image in images])
    return _row(BATCHES, [alone], [together], session.manifest.graphs["decode"])


def compare(bundle: Path, model: WaGI, images: np.ndarray) -> list[Row]:
    """Every value of every graph and of the whole inversion against PyTorch; limits are the manifest's."""
    wanted = reference(model, images)
    with Session(bundle) as session:
        graphs, rows = session.manifest.graphs, []
        for name in [name for name in wanted if name in graphs]:
            inputs, outputs = wanted[name]
            found = session.engine.run(name, inputs)
            rows.append(_row(name, [found[key] for key in outputs], outputs.values(), graphs[name]))
        inversion = session.run(images)
        pair = [wanted[name][1]["image"] for name in ("naive", "decode")]
        assert inversion.naive is not None
        rows.append(_row(WHOLE, [inversion.naive, inversion.image], pair, graphs["decode"]))
        rows.append(_batches(session, images, inversion.image))
    return rows


# ---------------------------------------------------------------------------------------------- probes


def make_probes(results: dict[str, tuple[Arrays, Arrays]], seed: int) -> dict[str, Any]:
    """Reference values for the manifest from what `reference` found for the seed's images.

    => {"seed", "values": {graph: {output: [64 numbers]}}}
    """
    values = {
        name: {key: [float(v) for v in probes.pick(results[name][1][key], seed)] for key in step.outputs}
        for name, step in INVERSION.graphs.items()
    }
    return {"seed": seed, "values": values}


def compare_probes(bundle: Path) -> list[Row]:
    """The bundle against its stored probes; graphs are fed with each other's results, as in an inversion."""
    with Session(bundle) as session:
        manifest = session.manifest
        stored = probes.stored(manifest)
        if stored is None or set(stored.values) != set(INVERSION.graphs):
            message = "no stored reference values; compare with its model: --checkpoint C"
            raise UserError(f"{bundle}: {message}")
        seed, wanted = stored
        tensors = {"image": probes.images(manifest.size, seed)}
        steps = walk(
            INVERSION, tensors, lambda step, given: session.engine.run(step.name, given), manifest.resolution
        )
        found = {step.name: outputs for step, _, outputs in steps}
        if PIPELINE in manifest.graphs:
            found |= {PIPELINE: session.engine.run(PIPELINE, {"image": tensors["image"]})}
            wanted = wanted | {PIPELINE: {"ws": wanted["encoder"]["ws"], "result": wanted["decode"]["image"]}}
        rows = []
        for name, outputs in wanted.items():
            picked = [probes.pick(found[name][key], seed) for key in outputs]
            rows.append(_row(name, picked, outputs.values(), manifest.graphs[name]))
        rows.append(_batches(session, tensors["image"], tensors["result"]))
    return rows


# ----------------------------------------------------------------------------------------------- table


def table(rows: list[Row], largest: dict[str, float] | None = None) -> str:
    """The rows as text, one line each; `largest`: largest activation by graph."""
    lines = [
        f"{'graph':<12} {'max |diff|':>11} {'tolerance':>10} {'PSNR dB':>8} {'limit':>6} {'max |ref|':>10} "
        f"{'max |act|':>10} {'values':>10}"
    ]
    for row in rows:
        activation = f"{largest[row.name]:.3g}" if largest and row.name in largest else "-"
        lines.append(
            f"{row.name:<12} {row.difference:>11.2e} {row.tolerance:>10.1e} {row.psnr:>8.1f} {row.limit:>6g} "
            f"{row.scale:>10.3g} {activation:>10} {row.values:>10}  {'pass' if row.passed else 'FAIL'}"
        )
    return "\n".join(lines)


def failure(rows: list[Row]) -> str:
    """The rows past their limits, in one line; empty when all passed."""
    return ", ".join(
        f"{row.name} differs by {row.difference:.2e} (tolerance {row.tolerance:.1e}), "
        f"PSNR {row.psnr:.1f} dB (limit {row.limit:g})"
        for row in rows
        if not row.passed
    )
