"""The TensorRT engine: runs the plans that export/to_engine.py built for this GPU.

A chain is one program on one stream: neither its graphs nor the arithmetic between them, which are plans too,
come back to the host in between. Tensors are bound by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wagi_rt.chain import Chain, Step
from wagi_rt.engines import trt_plans
from wagi_rt.engines.base import DEFAULT, Engine, EngineChoice
from wagi_rt.engines.trt_cuda import NAME, Device, probe
from wagi_rt.engines.trt_program import Plan, Program, Runtime, import_tensorrt
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest


class TrtEngine(Engine):
    """The bundle's plans from the cache, on exactly the GPU that was named."""

    default_device = "cuda"

    @staticmethod
    def available() -> tuple[bool, str]:
        try:
            count = probe()
            trt = import_tensorrt()
        except UserError as error:
            return False, str(error).removeprefix(f"{NAME}: ")
        return True, f"{trt.__name__} {trt.__version__}, {count} GPU{'s' * (count > 1)}"

    @staticmethod
    def devices() -> list[str]:
        return ["cuda"]

    def __init__(
        self, manifest: Manifest, choice: EngineChoice = DEFAULT, chain: Chain | None = None
    ) -> None:
        """Loads what `chain` runs (None: the manifest's default), so that a missing plan is found at once.

        `choice.threads` is for CPU engines and ignored.
        """
        super().__init__(manifest, choice)
        if self._kind != "cuda":
            line = f"{NAME}: runs on a GPU only; use --device cuda[:N], not {self.device}"
            raise UserError(line, status=2)
        self._gpu = Device(self._index)
        self._runtimes: dict[str, Runtime] = {}
        self._plans: dict[str, Plan] = {}
        self._programs: dict[Chain, Program] = {}
        try:
            self._tensorrt = import_tensorrt()
            self._target = trt_plans.target(manifest, self._gpu.name, self._tensorrt.__version__)
            self.max_batch = self._program(chain or manifest.chain).most
            self.built = frozenset(path.stem for path in self._target.folder.glob("*.plan"))
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> str:
        return str(self._tensorrt.__version__)

    def _run_chain(self, chain: Chain, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._program(chain).run(dict(inputs))

    def _close(self) -> None:
        for program in self._programs.values():
            program.close()
        for part in (self._programs, self._plans, self._runtimes):  # in this order: each uses the next
            part.clear()
        self._gpu.close()

    def _program(self, chain: Chain) -> Program:
        """The chain between host arrays; made at its first use."""
        if chain not in self._programs:
            steps = [(self._plan(step), step) for step in chain.steps]
            self._programs[chain] = Program(self._gpu, steps, chain)
        return self._programs[chain]

    def _plan(self, step: Step) -> Plan:
        name = step.name
        if name not in self._plans:
            content, record = trt_plans.read_plan(self._target, name)
            trt = self._module(record)
            if record.plugin_layers:
                trt_plans.load_plugins(trt, _plugins(name))
            if trt.__name__ not in self._runtimes:
                self._runtimes[trt.__name__] = Runtime(self._gpu, trt)
            where = str(self._target.folder / f"{name}.plan")
            wanted = self.manifest.tensors(step)
            self._plans[name] = self._runtimes[trt.__name__].deserialise(where, content, wanted)
        return self._plans[name]

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
