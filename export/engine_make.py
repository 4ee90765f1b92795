"""Plan by plan: build, check, store. The flow of to_engine.py without its options.

TensorRT 11.2 is known to miscompile (NaN around min/max reductions), so an engine counts only when its
outputs have been compared with ONNX Runtime's on the bundle's stored inputs.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.engine_build import Options, build
from export.glue import write_glue
from export.rows import IDENTICAL_DB, Arrays, Recorded, psnr_db, record
from wagi_rt import probes
from wagi_rt.chain import EDIT, FUSED, PIPELINE, STEPS, Chain, fused
from wagi_rt.engines import trt_plans
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.engines.trt_plans import Record, Target
from wagi_rt.engines.trt_program import Program, Runtime, logger
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest

EXACT_LIMIT_DB = 90.0  # of the FP32 arithmetic between the graphs
IMAGES = 3  # that an engine is checked with, or more if its smallest batch is larger
HEADER = f"{'engine':<10} {'MB':>8} {'plugin layers':>13} {'PSNR dB':>8} {'limit':>6}"


def references(manifest: Manifest, images: np.ndarray, names: Iterable[str]) -> Recorded:
    """ONNX Runtime's (inputs, outputs) of the engines `names` for images [N, 3, S, S], as in an inversion and
    in the probes' edit of it."""
    tensors = {"image": images}
    with OrtEngine(manifest) as engine:
        found = record(engine, _chains(manifest, set(names), tensors), tensors)
    return {name: found[name] for name in names}


def _chains(manifest: Manifest, names: set[str], tensors: Arrays) -> Iterator[Chain]:
    """As little as holds all names."""
    if PIPELINE in names:
        yield FUSED
    names = names - {PIPELINE}
    if names:
        yield manifest.inversion
        tensors["edit_ws"] = probes.edited(tensors["ws"])
    if EDIT in names:
        yield fused(manifest.edit, EDIT)
    if names - {EDIT} - {step.name for step in manifest.inversion.steps}:
        yield manifest.edit


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
    worst = dict.fromkeys(wanted, IDENTICAL_DB)
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


def stored(target: Target, name: str, options: Options) -> bool:
    """True when the cache holds a whole engine with this profile."""
    try:
        record = trt_plans.read_plan(target, name)[1]
    except UserError:
        return False
    return record.batch == _batch(options) and record.version_compatible == options.version_compatible


def _batch(options: Options) -> dict[str, int]:
    return {"min": options.min_batch, "opt": options.opt_batch, "max": options.max_batch}


class Maker:
    """Builds the engines of one bundle for one GPU."""

    def __init__(
        self,
        manifest: Manifest,
        target: Target,
        options: Options,
        builder: Any,
        runtime: Runtime,
        say: Callable[[str], None],
    ) -> None:
        """builder: the full tensorrt; runtime: what will run the plans."""
        self.manifest, self.target, self.options = manifest, target, options
        self.builder, self.runtime, self.say = builder, runtime, say
        self.log = logger(builder)

    def make(self, name: str, reference: tuple[Arrays, Arrays], scratch: Path) -> str:
        """Build the engine `name`, compare it with ONNX Runtime's `reference`, store it; returns a table row.

        Raises UserError, with nothing stored, when it cannot be built or computes something else.
        """
        step = {**STEPS, **self.manifest.parts}[name]._replace(renamed=())
        shapes = self.manifest.tensors(step)
        graph = self.manifest.graphs.get(name)
        path = self.manifest.folder / graph.file if graph else write_glue(self.manifest, name, scratch)
        timings = trt_plans.cache() / f"{self.target.key}.timing"
        self.log.clear()
        built = build(self.builder, self.log, path, shapes[0], self.options, timings, self.say)
        plan = self.runtime.deserialise(f"engine '{name}'", built.plan, shapes)
        program = Program(self.runtime.device, [(plan, step)], Chain.of(step))
        try:
            limit = graph.limit_psnr_db if graph else EXACT_LIMIT_DB
            measured = check(name, program.run, reference, self._batches(), limit)
        finally:
            program.close()
        trt_plans.write_plan(
            self.target, self._record(name, built.plan, built.plugin_layers, measured), built.plan
        )
        megabytes = len(built.plan) / 1e6
        worst = min(measured.values())
        return f"{name:<10} {megabytes:>8.1f} {built.plugin_layers:>13} {worst:>8.1f} {limit:>6.1f}"

    def _batches(self) -> list[int]:
        """The batch sizes to check: the smallest, and one in which images could be mixed up."""
        least, most = self.options.min_batch, self.options.max_batch
        return sorted({least, max(least, min(IMAGES, most))})

    def _record(self, name: str, plan: bytes, plugin_layers: int, psnr_db: dict[str, float]) -> Record:
        target = self.target
        return Record(
            schema=trt_plans.SCHEMA,
            engine=name,
            key=target.key,
            model=target.model,
            gpu=target.gpu,
            tensorrt=target.tensorrt,
            precision=target.precision,
            versions={"tensorrt": self.builder.__version__, "driver_cuda": self.runtime.device.driver},
            batch=_batch(self.options),
            version_compatible=self.options.version_compatible,
            plugin_layers=plugin_layers,
            bytes=len(plan),
            sha256=hashlib.sha256(plan).hexdigest(),
            psnr_db={key: round(value, 2) for key, value in psnr_db.items()},
        )
