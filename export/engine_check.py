"""An engine against ONNX Runtime on the bundle's stored inputs: what no build may skip.

TensorRT 11.2 is known to miscompile (NaN around min/max reductions), so an engine counts only when its
outputs have been compared.
"""

from collections.abc import Callable, Iterable

import numpy as np

from wagi_rt.engines.ort import OrtBackend
from wagi_rt.engines.trt import CHAIN, RESIDUAL, SHRINK, tensors
from wagi_rt.errors import UserError
from wagi_rt.manifest import PIPELINE, Manifest
from wagi_rt.pictures import area_resize

Arrays = dict[str, np.ndarray]
# For graphs without a limit: bundles of schema 1, and FP32 arithmetic between the graphs.
DEFAULT_LIMIT_DB, EXACT_LIMIT_DB = 55.0, 90.0
_IDENTICAL_DB = 200.0  # instead of infinity, which JSON has not


def references(
    manifest: Manifest, images: np.ndarray, names: Iterable[str]
) -> dict[str, tuple[Arrays, Arrays]]:
    """ONNX Runtime's (inputs, outputs) of the engines `names` for images [N, 3, S, S], as in an inversion."""
    names, known, results = set(names), {"image": images}, {}
    with OrtBackend(manifest, "cpu") as backend:
        if names - {PIPELINE}:
            for name, renamed in CHAIN:
                inputs = {key: known[key] for key in tensors(manifest, name)[0]}
                outputs = _glue(manifest, name, inputs) or backend.run(name, inputs)
                results[name] = (inputs, outputs)
                known |= {renamed.get(key, key): value for key, value in outputs.items()}
        if PIPELINE in names:
            results[PIPELINE] = ({"image": images}, backend.run(PIPELINE, {"image": images}))
    return {name: result for name, result in results.items() if name in names}


def _glue(manifest: Manifest, name: str, inputs: Arrays) -> Arrays:
    """wagi_rt.session's arithmetic between the graphs; empty for a graph of the bundle."""
    if name == SHRINK:
        return {"image_r": area_resize(inputs["image"], manifest.resolution)}
    if name == RESIDUAL:
        naive_r = area_resize(inputs["naive"].clip(-1, 1), manifest.resolution)
        return {"naive_r": naive_r, "residual": inputs["image_r"] - naive_r}
    return {}


def psnr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal-to-noise ratio; the peak is the range of `wanted` (about 2 for images). NaN stays NaN."""
    error = float(np.mean((found.astype(np.float64) - wanted) ** 2))
    peak = float(wanted.max() - wanted.min()) or 1.0
    if error == 0:
        return _IDENTICAL_DB
    return float(min(10 * np.log10(peak**2 / error), _IDENTICAL_DB))


def limit_db(manifest: Manifest, name: str) -> float:
    if name not in manifest.graphs:
        return EXACT_LIMIT_DB
    limit = manifest.graphs[name].limit_psnr_db
    return DEFAULT_LIMIT_DB if limit is None else limit


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
