"""An engine against ONNX Runtime on the bundle's stored inputs: what no build may skip.

TensorRT 11.2 is known to miscompile (NaN around min/max reductions), so an engine counts only when its
outputs have been compared.
"""

from collections.abc import Callable, Iterable

import numpy as np

from wagi_rt import probes
from wagi_rt.chain import EDIT, FUSED, PIPELINE, Chain, Step, fused, walk
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest
from wagi_rt.metrics import psnr_of_all

Arrays = dict[str, np.ndarray]
EXACT_LIMIT_DB = 90.0  # of the FP32 arithmetic between the graphs
_IDENTICAL_DB = 200.0  # instead of infinity, which JSON has not


def references(
    manifest: Manifest, images: np.ndarray, names: Iterable[str]
) -> dict[str, tuple[Arrays, Arrays]]:
    """ONNX Runtime's (inputs, outputs) of the engines `names` for images [N, 3, S, S], as in an inversion and
    in the probes' edit of it."""
    wanted, tensors = set(names), {"image": images}
    found: dict[str, tuple[Arrays, Arrays]] = {}
    with OrtEngine(manifest) as engine:

        def run(step: Step, given: Arrays) -> Arrays:
            return engine.run(step.name, given)

        def note(chain: Chain) -> None:
            for step, inputs, outputs in walk(chain, tensors, run, manifest.resolution):
                found.setdefault(step.name, (inputs, outputs))

        if PIPELINE in wanted:
            note(FUSED)
        if wanted - {PIPELINE}:
            note(manifest.inversion)
            tensors["edit_ws"] = probes.edited(tensors["ws"])
            if wanted - set(found):
                note(fused(manifest.edit, EDIT) if EDIT in wanted else manifest.edit)
    return {name: result for name, result in found.items() if name in wanted}


def psnr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal-to-noise ratio; the peak is the range of `wanted` (about 2 for images). NaN stays NaN."""
    peak = float(wanted.max() - wanted.min()) or 1.0
    return float(np.minimum(psnr_of_all(found, wanted, peak), _IDENTICAL_DB))


def limit_db(manifest: Manifest, name: str) -> float:
    graph = manifest.graphs.get(name)
    return graph.limit_psnr_db if graph else EXACT_LIMIT_DB


def check(
    name: str,
    run: Callable[[Arrays], Arrays],
    reference: tuple[Arrays, Arrays],
    batches: Iterable[int],
    limit: float,
) -> dict[str, float]:
    """Run an engine at each batch size, plainly and as a CUDA graph; output -> its worst PSNR in dB.

    The graph gets other images than the plain launch, so that what lies in the buffers does not pass for a
    result.

    Raises UserError, which means "do not keep this engine", for values that are not finite or a PSNR under
    `limit`.
    """
    inputs, wanted = reference
    worst = dict.fromkeys(wanted, _IDENTICAL_DB)
    for batch in batches:
        for way, order in (("a plain launch", slice(0, batch)), ("a CUDA graph", slice(-1, -batch - 1, -1))):
            found = run({key: value[order] for key, value in inputs.items()})
            for key, value in wanted.items():
                where = f"engine '{name}', output '{key}', batch {batch}, {way}"
                if not np.isfinite(found[key]).all():
                    raise UserError(f"{where}: values that are not finite; refused, try --level 2")
                worst[key] = min(worst[key], psnr_db(found[key], value[order]))
                if not worst[key] >= limit:
                    low = f"PSNR {worst[key]:.1f} dB against ONNX Runtime, the limit is {limit:g}"
                    raise UserError(f"{where}: {low}; refused, try --level 2")
    return worst
