"""ONNX Runtime against PyTorch: every graph of a bundle, and the whole inversion through the runtime.

Reference values travel with the bundle as *probes*: a few hundred values of the PyTorch results for images
that a seed describes. So a bundle can be checked without its checkpoint; with it, every value is compared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.graphs import build_graphs
from wagi.model import WaGI, area_resize
from wagi_rt.errors import UserError
from wagi_rt.session import Session

# Names of the rows that are not graphs.
PIPELINE, BATCHES = "pipeline", "batch 1 = 3"
_BATCH = 3
_PROBES = 64
_COARSEST = 4


@dataclass(frozen=True)
class Row:
    """One line of the parity table."""

    name: str
    difference: float  # largest absolute difference of any value
    scale: float  # largest absolute value of the reference
    tolerance: float
    values: int

    @property
    def passed(self) -> bool:
        # Written so that NaN fails.
        return bool(self.difference <= self.tolerance)


def seeded_images(size: int, seed: int, batch: int = _BATCH) -> np.ndarray:
    """Images [batch, 3, size, size] in [-1, 1] with detail at every scale; the same for a seed everywhere."""
    rng = np.random.default_rng(seed)
    images, level, octaves = np.zeros((batch, 3, size, size), np.float32), _COARSEST, 0
    while level <= size:
        noise = rng.uniform(-1, 1, (batch, 3, level, level)).astype(np.float32)
        images += noise.repeat(size // level, axis=2).repeat(size // level, axis=3)
        level, octaves = 2 * level, octaves + 1
    return images / octaves


def reference(model: WaGI, images: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """PyTorch's results for `images`: per graph its inputs and outputs, and the whole `invert`."""
    graphs = {graph.name: graph for graph in build_graphs(model)}
    x = torch.from_numpy(images)
    with torch.no_grad():
        inversion = model.invert(x)
        state, naive = model.reconstruct(inversion.ws)
        known = {
            "image_r": area_resize(x, model.resolution),
            "naive_r": model.low_fidelity(naive),
            "ws": inversion.ws,
            "feature": state.x,
            "skip": state.skip,
            "residual": inversion.residual,
            "aligned": inversion.aligned,
        }
        results: dict[str, dict[str, np.ndarray]] = {}
        for name, graph in graphs.items():
            inputs = {key: known[key] for key in graph.inputs}
            outputs = graph.run(inputs)
            results[name] = {key: value.numpy() for key, value in {**inputs, **outputs}.items()}
    results[PIPELINE] = {"naive": inversion.naive.numpy(), "image": inversion.image.numpy()}
    return results


def _row(name: str, pairs: list[tuple[np.ndarray, np.ndarray]], tolerance: float) -> Row:
    difference = max(float(np.abs(found - wanted).max()) for found, wanted in pairs)
    if not all(np.isfinite(found).all() and np.isfinite(wanted).all() for found, wanted in pairs):
        difference = float("nan")
    scale = max(float(np.abs(wanted).max()) for _, wanted in pairs)
    return Row(name, difference, scale, tolerance, sum(wanted.size for _, wanted in pairs))


def _batches(session: Session, images: np.ndarray, together: np.ndarray) -> Row:
    """The same images one at a time: a batch must not change an image."""
    alone = np.concatenate([session.run(image[None]).image for image in images])
    return _row(BATCHES, [(alone, together)], session.manifest.tolerance)


def compare(bundle: Path, model: WaGI, images: np.ndarray) -> list[Row]:
    """Every value of every graph and of the pipeline against PyTorch; tolerances are the manifest's."""
    wanted = reference(model, images)
    with Session(bundle) as session:
        manifest = session.manifest
        rows = []
        for name, graph in manifest.graphs.items():
            found = session.backend.run(name, {key: wanted[name][key] for key in graph.inputs})
            rows.append(
                _row(name, [(found[key], wanted[name][key]) for key in graph.outputs], graph.tolerance)
            )
        inversion = session.run(images)
        pairs = [(getattr(inversion, key), value) for key, value in wanted[PIPELINE].items()]
        rows.append(_row(PIPELINE, pairs, manifest.tolerance))
        rows.append(_batches(session, images, inversion.image))
    return rows


# ---------------------------------------------------------------------------------------------- probes


def _positions(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, int(np.prod(shape)), _PROBES)


def _pick(array: np.ndarray, seed: int) -> np.ndarray:
    return array.reshape(-1)[_positions(array.shape, seed)]


_PROBED = {"encoder": ("ws",), "prefix": ("feature", "skip"), "naive": ("image",), "align": ("aligned",),
           "decode": ("image",)}  # fmt: skip


def make_probes(model: WaGI, seed: int) -> dict[str, Any]:
    """Reference values for the manifest: {"seed", "values": {graph: {output: [64 numbers]}}}."""
    results = reference(model, seeded_images(model.generator.size, seed))
    values = {
        name: {key: [float(v) for v in _pick(results[name][key], seed)] for key in outputs}
        for name, outputs in _PROBED.items()
    }
    return {"seed": seed, "values": values}


def compare_probes(bundle: Path) -> list[Row]:
    """The bundle against its stored probes; graphs are fed with each other's results, as in an inversion."""
    with Session(bundle) as session:
        manifest = session.manifest
        try:
            probes = manifest.source["probes"]
            seed, values = int(probes["seed"]), probes["values"]
            wanted = {
                name: {key: np.array(values[name][key], np.float32) for key in outputs}
                for name, outputs in _PROBED.items()
            }
        except (KeyError, TypeError, ValueError):
            message = "no stored reference values; compare with its model: --checkpoint C"
            raise UserError(f"{bundle}: {message}") from None
        images = seeded_images(manifest.size, seed)
        found = session_results(session, images)
        rows = []
        for name, outputs in _PROBED.items():
            pairs = [(_pick(found[name][key], seed), wanted[name][key]) for key in outputs]
            rows.append(_row(name, pairs, manifest.graphs[name].tolerance))
        rows.append(_batches(session, images, found["decode"]["image"]))
    return rows


def session_results(session: Session, images: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """An inversion through the runtime, with the outputs of every graph by name."""
    inversion = session.run(images)
    return {
        "encoder": {"ws": inversion.ws},
        "prefix": session.backend.run("prefix", {"ws": inversion.ws}),
        "naive": {"image": inversion.naive},
        "align": {"aligned": inversion.aligned},
        "decode": {"image": inversion.image},
    }


def table(rows: list[Row]) -> str:
    """The rows as text, one line each."""
    lines = [f"{'graph':<12} {'max |diff|':>11} {'tolerance':>10} {'max |ref|':>10} {'values':>10}"]
    lines += [
        f"{row.name:<12} {row.difference:>11.2e} {row.tolerance:>10.1e} {row.scale:>10.3g} {row.values:>10}  "
        f"{'pass' if row.passed else 'FAIL'}"
        for row in rows
    ]
    return "\n".join(lines)


def failure(rows: list[Row]) -> str:
    """What is past its tolerance, in one line; empty when all passed."""
    bad = [row for row in rows if not row.passed]
    return ", ".join(
        f"{row.name} differs by {row.difference:.2e} (tolerance {row.tolerance:.1e})" for row in bad
    )
