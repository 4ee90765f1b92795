"""The TensorRT backend: runs the engines that export/to_engine.py built for this GPU.

An inversion is one engine (`pipeline`) or a chain of engines on one stream; neither comes back to the host in
between. Tensors are bound by name.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from wagi_rt.backends import parse_device
from wagi_rt.engines import trt_plans
from wagi_rt.engines.trt_cuda import NAME, Device, probe
from wagi_rt.engines.trt_program import Engine, Engines, Program, import_tensorrt
from wagi_rt.errors import UserError
from wagi_rt.manifest import PIPELINE, PIPELINE_TENSORS, Manifest, Shapes

# The arithmetic between the graphs (wagi_rt.session) as two small engines, so that a chain stays on the GPU.
SHRINK, RESIDUAL = "shrink", "residual"
# The inversion as a chain: engine, and the new names of outputs that would hide an input or each other.
CHAIN: tuple[tuple[str, dict[str, str]], ...] = (
    (SHRINK, {}),
    ("encoder", {}),
    ("prefix", {}),
    ("naive", {"image": "naive"}),
    (RESIDUAL, {}),
    ("align", {}),
    ("decode", {"image": "result"}),
)


def glue(manifest: Manifest) -> dict[str, tuple[Shapes, Shapes]]:
    """The engines that are no graph of the bundle: name -> (inputs, outputs), shapes without the batch."""
    image, small = (3, manifest.size, manifest.size), (3, manifest.resolution, manifest.resolution)
    return {
        SHRINK: ({"image": image}, {"image_r": small}),
        RESIDUAL: ({"image_r": small, "naive": image}, {"naive_r": small, "residual": small}),
    }


def tensors(manifest: Manifest, name: str) -> tuple[Shapes, Shapes]:
    """(inputs, outputs) of an engine by name, shapes without the batch."""
    if name in manifest.graphs:
        return manifest.graphs[name].inputs, manifest.graphs[name].outputs
    return glue(manifest)[name]


def available() -> tuple[bool, str]:
    """Whether TensorRT and a GPU are here: (True, what) or (False, why not)."""
    try:
        count = probe()
        trt = import_tensorrt()
    except UserError as error:
        return False, str(error).removeprefix(f"{NAME}: ")
    return True, f"{trt.__name__} {trt.__version__}, {count} GPU{'s' * (count > 1)}"


class TrtBackend:
    """The bundle's engines from the cache, on exactly the GPU that was named. See `ort.OrtBackend`."""

    def __init__(self, manifest: Manifest, device: str = "cuda", threads: int | None = None) -> None:
        """`threads` is for CPU engines and ignored. Loads what the bundle runs by default, so that a missing
        engine is found at once; other graphs are loaded when they are asked for."""
        kind, index = parse_device(device)
        if kind != "cuda":
            raise UserError(f"{NAME}: runs on a GPU only; use --device cuda[:N], not {device}", status=2)
        self.manifest, self.device = manifest, f"cuda:{index}"
        self._gpu = Device(index)
        self._runtimes: dict[str, Engines] = {}
        self._loaded: dict[str, Engine] = {}
        self._programs: dict[str, Program] = {}
        try:
            self._tensorrt = import_tensorrt()
            self._target = trt_plans.target(manifest, self._gpu.name, self._tensorrt.__version__)
            self._pipeline = self._program(PIPELINE) if manifest.default == PIPELINE else self._chain()
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> str:
        return str(self._tensorrt.__version__)

    @property
    def max_batch(self) -> int:
        """The largest batch that the pipeline's engines take."""
        return self._pipeline.most

    def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one graph of the bundle; tensors are bound by name, float32."""
        return self._program(graph).run(inputs)

    def run_pipeline(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """image [N, 3, S, S] in [-1, 1] -> ws, naive_r, result: the whole inversion without a round trip."""
        return self._pipeline.run({"image": image})

    def close(self) -> None:
        for program in self._programs.values():
            program.close()
        for part in (self._programs, self._loaded, self._runtimes):  # in this order: each uses the next
            part.clear()
        self._gpu.close()

    def __enter__(self) -> TrtBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _program(self, name: str) -> Program:
        """One engine between host arrays; made at its first use."""
        if name not in self._programs:
            engine = self._engine(name)
            outputs = list(engine.outputs)
            self._programs[name] = Program(self._gpu, [(engine, {})], engine.inputs, outputs)
        return self._programs[name]

    def _chain(self) -> Program:
        """The separate graphs as one program with the pipeline's inputs and outputs."""
        steps = [(self._engine(name), names) for name, names in CHAIN]
        inputs, outputs = PIPELINE_TENSORS
        shapes = {name: steps[0][0].inputs[name] for name in inputs}
        self._programs["graphs"] = Program(self._gpu, steps, shapes, list(outputs))
        return self._programs["graphs"]

    def _engine(self, name: str) -> Engine:
        if name not in self._loaded:
            plan, record = trt_plans.read_plan(self._target, name)
            trt = self._module(record)
            if record.plugin_layers:
                trt_plans.load_plugins(trt, _plugins(name))
            if trt.__name__ not in self._runtimes:
                self._runtimes[trt.__name__] = Engines(self._gpu, trt)
            where = str(self._target.folder / f"{name}.plan")
            wanted = tensors(self.manifest, name)
            self._loaded[name] = self._runtimes[trt.__name__].deserialise(where, plan, wanted)
        return self._loaded[name]

    def _module(self, record: trt_plans.Record) -> Any:
        """The TensorRT that can run the plan: any of its version, or only the full one that built it."""
        trt = self._tensorrt if record.version_compatible else import_tensorrt(full=True)
        built = record.versions["tensorrt"]
        if not record.version_compatible and trt.__version__ != built:
            what = (
                f"engine '{record.engine}' runs on the full tensorrt {built} only, this is {trt.__version__}"
            )
            raise UserError(f"{NAME}: {what}; {trt_plans.BUILD} BUNDLE --overwrite")
        return trt


def _plugins(name: str) -> Path:
    path = trt_plans.find_plugins()
    if path is None:
        what = f"engine '{name}' needs the plugin library {trt_plans.PLUGIN_LIBRARY}, which is not here"
        raise UserError(f"{NAME}: {what}; build it with CMake (README) and set WAGI_PLUGINS to it")
    return path
