"""ONNX Runtime against PyTorch: every graph of a bundle, a whole inversion and an edit through the runtime.

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
from export.graphs import chains
from wagi.model import Inversion, WaGI, area_resize
from wagi.networks.full_detail import shares
from wagi_rt import probes
from wagi_rt.chain import EDIT, FUSED, PIPELINE, Step, fused, walk
from wagi_rt.errors import UserError
from wagi_rt.manifest import Graph
from wagi_rt.session import Session

# Names of the rows that are not graphs: the separate graphs run in turn, an edit that changes nothing against
# the inversion, and one image at a time.
WHOLE, EDITED, UNCHANGED, BATCHES = "inversion", "editing", "no change", "batch 1 = 3"
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
    """PyTorch's (inputs, outputs) of every graph for `images` [N, 3, S, S], as in one inversion.

    What only an edit has is as in the edit to `probes.edited` latents.
    """
    x = torch.from_numpy(images)
    with torch.no_grad():
        inversion = model.invert(x)
        state, naive = model.reconstruct(inversion.ws)
        edited = model.edit(inversion, torch.from_numpy(probes.edited(inversion.ws.numpy())))
        edit_state, _ = model.reconstruct(edited.ws)
        known: dict[str, Tensor] = {
            "image": x, "image_r": area_resize(x, model.resolution), "ws": inversion.ws, "feature": state.x,
            "skip": state.skip, "naive": naive, "naive_r": model.low_fidelity(naive),
            "residual": inversion.residual, "aligned": inversion.aligned, "result": inversion.image,
            "drawn": model.decode(inversion.ws, state, inversion.aligned),
        }  # fmt: skip
        of_edit = known | {
            "edit_ws": edited.ws, "edit_feature": edit_state.x, "edit_skip": edit_state.skip,
            "edit_naive": edited.naive, "edit_naive_r": model.low_fidelity(edited.naive),
            "aligned": edited.aligned, "result": edited.image,
            "drawn": model.decode(edited.ws, edit_state, edited.aligned), **_moved(model, inversion, edited),
        }  # fmt: skip
    inverting, edit = chains(model)
    whole = inverting.graphs
    only = {name: step for name, step in edit.graphs.items() if name not in whole}
    return {
        name: (
            {own: tensors[key].numpy() for own, key in step.reads.items()},
            {own: tensors[key].numpy() for own, key in step.makes.items()},
        )
        for steps, tensors in (
            ({**whole, **FUSED.graphs}, known), ({**only, **fused(edit, EDIT).graphs}, of_edit)
        )
        for name, step in steps.items()
    }  # fmt: skip


def _moved(model: WaGI, inversion: Inversion, edited: Inversion) -> dict[str, Tensor]:
    """The way of an edit's detail, where the chain hands it on."""
    if not model.full_detail:
        return {}
    found = model.move(inversion, model.generator.prefix(edited.ws, model.fusion_start), edited.naive)
    return {"flow": found.flows[-1], "shares": shares(found)}


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


def _edits(
    session: Session, images: np.ndarray, inverted: np.ndarray, inputs: Arrays, wanted: Arrays
) -> list[Row]:
    """The separate graphs of an edit against its reference; an edit of nothing against the inversion."""
    edit, limits = session.manifest.edit, session.manifest.graphs["decode"]
    found = session.engine.run_chain(edit, inputs)
    kept = session.encode(images)
    kept |= {"edit_ws": kept["ws"]}
    same = session.engine.run_chain(edit, {name: kept[name] for name in edit.inputs})
    return [
        _row(EDITED, [found[key] for key in wanted], wanted.values(), limits),
        _row(UNCHANGED, [same["result"]], [inverted], limits),
    ]


def compare(bundle: Path, model: WaGI, images: np.ndarray) -> list[Row]:
    """Every graph, the inversion and an edit against PyTorch, value by value; limits are the manifest's."""
    wanted = reference(model, images)
    with Session(bundle) as session:
        graphs, rows = session.manifest.graphs, []
        for name in [name for name in wanted if name in graphs]:
            inputs, outputs = wanted[name]
            found = session.engine.run(name, inputs)
            rows.append(_row(name, [found[key] for key in outputs], outputs.values(), graphs[name]))
        inversion = session.run(images)
        pair = [wanted["naive"][1]["image"], wanted[PIPELINE][1]["result"]]
        assert inversion.naive is not None
        rows.append(_row(WHOLE, [inversion.naive, inversion.image], pair, graphs["decode"]))
        rows += _edits(session, images, inversion.image, *wanted[EDIT])
        rows.append(_batches(session, images, inversion.image))
    return rows


# ---------------------------------------------------------------------------------------------- probes


def make_probes(results: dict[str, tuple[Arrays, Arrays]], seed: int) -> dict[str, Any]:
    """Reference values for the manifest from what `reference` found for the seed's images.

    => {"seed", "values": {graph: {output: [64 numbers]}}}
    """
    values = {
        name: {key: [float(v) for v in probes.pick(array, seed)] for key, array in outputs.items()}
        for name, (_, outputs) in results.items()
        if name != PIPELINE
    }
    return {"seed": seed, "values": values}


def compare_probes(bundle: Path) -> list[Row]:
    """The bundle against its stored probes; graphs are fed with each other's results, as in an inversion."""
    with Session(bundle) as session:
        manifest = session.manifest
        stored = probes.stored(manifest)
        if stored is None or set(stored.values) != set(probes.judged(manifest)):
            message = "no stored reference values; compare with its model: --checkpoint C"
            raise UserError(f"{bundle}: {message}")
        seed, wanted = stored
        tensors = {"image": probes.images(manifest.size, seed)}
        found, result = _walked(session, tensors)
        if PIPELINE in manifest.graphs:
            found |= {PIPELINE: session.engine.run(PIPELINE, {"image": tensors["image"]})}
            last = manifest.inversion.steps[-1]
            result_of = wanted[last.name][last.outputs[0]]
            wanted = wanted | {PIPELINE: {"ws": wanted["encoder"]["ws"], "result": result_of}}
        rows = []
        for name, outputs in wanted.items():
            picked = [probes.pick(found[name][key], seed) for key in outputs]
            rows.append(_row(name, picked, outputs.values(), manifest.graphs[name]))
        rows.append(_batches(session, tensors["image"], result))
    return rows


def _walked(session: Session, tensors: Arrays) -> tuple[dict[str, Arrays], np.ndarray]:
    """Outputs by graph of an inversion and of the probes' edit of it, and the inverted image."""
    manifest, found = session.manifest, {}

    def run(step: Step, given: Arrays) -> Arrays:
        return session.engine.run(step.name, given)

    for step, _, outputs in walk(manifest.inversion, tensors, run, manifest.resolution):
        found[step.name] = outputs
    result = tensors["result"]
    tensors["edit_ws"] = probes.edited(tensors["ws"])
    for step, _, outputs in walk(manifest.edit, tensors, run, manifest.resolution):
        found.setdefault(step.name, outputs)
    if EDIT in manifest.graphs:
        found[EDIT] = session.engine.run(EDIT, {name: tensors[name] for name in manifest.edit.inputs})
    return found, result


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
