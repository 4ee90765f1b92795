"""The reference of all engines (export/comparison.py): PyTorch's values of every graph of a bundle.

Some of it travels with the bundle as *probes*: a few hundred values of the results for images that a seed
describes (`wagi_rt.probes`). So a bundle can be checked without its checkpoint; with it, every value is
compared. The reference is always the training model in FP32, never the export formulation.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.graphs import chains
from export.rows import Recorded
from wagi.model import Inversion, WaGI
from wagi.networks.full_detail import shares
from wagi_rt import probes
from wagi_rt.chain import EDIT, FUSED, fused

_SHARES = (0.5, 0.9, 0.99)  # quantiles of naive errors


def reference(model: WaGI, images: np.ndarray, offsets: bool = False) -> Recorded:
    """PyTorch's (inputs, outputs) of every graph for `images` [N, 3, S, S], as in one inversion.

    What only an edit has is as in the edit to `probes.edited` latents. offsets: latents have style offsets
    behind them, zeros in the inversion.
    """
    x = torch.from_numpy(images)
    with torch.no_grad():
        inversion = model.invert(x)
        if offsets:
            space = model.generator.space
            ws = space.with_offsets(inversion.ws, torch.zeros(1, space.channels))
            inversion = inversion._replace(ws=ws)
        state, naive = model.reconstruct(inversion.ws)
        edited = model.edit(inversion, torch.from_numpy(probes.edited(inversion.ws.numpy())))
        edit_state, _ = model.reconstruct(edited.ws)
        known: dict[str, Tensor] = {
            "image": x, "image_r": model.reduced(x), "ws": inversion.ws, "feature": state.x,
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


def naive_errors(model: WaGI, heldout: Iterable[np.ndarray]) -> dict[str, Any]:
    """Mean squared errors of the naive inversions of held-out pictures, as the manifest stores them."""
    errors: list[float] = []
    with torch.no_grad():
        for images in map(torch.from_numpy, heldout):
            _, naive = model.reconstruct(model.encode(images))
            errors += model.residual(images, naive).square().mean(dim=(1, 2, 3)).tolist()
    if not errors:
        return {}
    quantiles = {str(share): float(np.quantile(errors, share)) for share in _SHARES}
    return {"naive_errors": {"count": len(errors), "mean": float(np.mean(errors)), "quantiles": quantiles}}


# ---------------------------------------------------------------------------------------------- probes


def make_probes(results: Recorded, seed: int) -> dict[str, Any]:
    """Reference values for the manifest from what `reference` found for the seed's images.

    => {"seed", "values": {graph: {output: [64 numbers]}}}
    """
    values = {
        name: {key: [float(v) for v in probes.pick(array, seed)] for key, array in outputs.items()}
        for name, (_, outputs) in results.items()
    }
    return {"seed": seed, "values": values}
