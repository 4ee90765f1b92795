"""TensorRT itself: deserialised engines, and programs that run them in order on one stream.

Buffers are allocated once, for the largest batch; each batch size is captured as one CUDA graph after its
first run, with execution contexts of its own, because a captured graph keeps its contexts' shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from wagi_rt.chain import Chain, Shapes, Step
from wagi_rt.console import say
from wagi_rt.engines import trt_plans
from wagi_rt.engines.trt_cuda import INSTALL, NAME, Device, out_of_memory
from wagi_rt.errors import UserError

_WORKSPACE = "*workspace*"  # no tensor's name
RUNTIMES = ("tensorrt_lean", "tensorrt_lean_bindings", "tensorrt")


def import_tensorrt(full: bool = False) -> Any:
    """The lean runtime, else the full package (always with `full`). Only after `probe`, see trt_cuda."""
    for name in RUNTIMES[-1:] if full else RUNTIMES:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: the stub without its libraries
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{NAME}: {name} does not load ({reason}); run: {INSTALL}") from None
    what = "this engine was built for the full tensorrt, which" if full else "it"
    raise UserError(f"{NAME}: {what} is not installed; run: {INSTALL}", status=2)


def logger(trt: Any) -> Any:
    """An ILogger that keeps errors for our own messages. A function: the base class comes with TensorRT."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(text.split()))

        def clear(self) -> None:
            self.errors.clear()

        def first(self) -> str:
            """The cause; what follows it are consequences."""
            return self.errors[0][:200] if self.errors else "no reason given"

        def out_of_memory(self) -> bool:
            texts = " ".join(self.errors).lower()
            return "out of memory" in texts or "outofmemory" in texts

    return Log()


class Runtime:
    """TensorRT on one GPU: its runtime, and engines deserialised from plans."""

    def __init__(self, device: Device, trt: Any) -> None:
        """`device` first: whoever has one has called `probe`."""
        self.device, self.trt = device, trt
        self.log = logger(trt)
        self.runtime = trt.Runtime(self.log)
        if self.runtime is None:
            raise UserError(f"{NAME}: TensorRT's runtime does not start ({self.log.first()})")
        # Version-compatible plans need it; read_plan has checked that a plan is the one to_engine.py wrote.
        self.runtime.engine_host_code_allowed = True

    def deserialise(self, where: str, plan: bytes, wanted: tuple[Shapes, Shapes]) -> Plan:
        """`where` names the plan in messages; `wanted`: its inputs and outputs."""
        self.log.clear()
        engine = self.runtime.deserialize_cuda_engine(plan)
        if engine is None:
            if self.log.out_of_memory():
                raise out_of_memory(f"cuda:{self.device.index}")
            raise UserError(f"{where}: TensorRT refuses the engine ({self.log.first()}); {trt_plans.BUILD}")
        return Plan(self, where, engine, *wanted)


class Plan:
    """One deserialised plan whose tensors are those of `inputs` and `outputs`, all float32."""

    def __init__(self, parent: Runtime, where: str, engine: Any, inputs: Shapes, outputs: Shapes) -> None:
        self.parent, self.where, self.engine = parent, where, engine
        self.inputs, self.outputs = inputs, outputs
        mode, float32 = parent.trt.TensorIOMode.INPUT, parent.trt.float32
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found: tuple[Shapes, Shapes] = ({}, {})
        for name in names:
            if engine.get_tensor_dtype(name) == float32:
                found[engine.get_tensor_mode(name) != mode][name] = tuple(engine.get_tensor_shape(name))[1:]
        if len(found[0]) + len(found[1]) != len(names) or found != (inputs, outputs):
            raise UserError(f"{where}: its tensors are not those of the bundle's graph; {trt_plans.BUILD}")
        profile = engine.get_tensor_profile_shape(next(iter(inputs)), 0)
        self.least, self.most = int(tuple(profile[0])[0]), int(tuple(profile[2])[0])

    def context(self, batch: int, addresses: dict[str, int], workspace: int, size: int) -> Any:
        """An execution context for one batch size with every tensor bound."""
        trt, log = self.parent.trt, self.parent.log
        log.clear()
        context = self.engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise self.failed("cannot be prepared")
        context.set_device_memory(workspace, size)
        shapes = {name: (batch, *shape) for name, shape in self.inputs.items()}
        bound = [context.set_input_shape(name, shape) for name, shape in shapes.items()]
        bound += [context.set_tensor_address(name, address) for name, address in addresses.items()]
        if not all(bound):
            raise self.failed(f"does not take a batch of {batch}")
        return context

    def failed(self, what: str) -> UserError:
        log = self.parent.log
        if log.out_of_memory():
            return out_of_memory(f"cuda:{self.parent.device.index}")
        return UserError(f"{self.where}: the engine {what} ({log.first()}); {trt_plans.BUILD}")


@dataclass
class _Prepared:
    """One batch size: contexts in running order, and the CUDA graph of the whole run."""

    contexts: list[tuple[Plan, Any]]
    graph: Any = None


class Program:
    """A chain with fixed buffers: `run({name: array}) -> {name: array}` on the stream."""

    def __init__(self, device: Device, steps: list[tuple[Plan, Step]], chain: Chain) -> None:
        """steps: those of the chain with their plans. The chain's inputs come from the host."""
        self.device, self.steps = device, steps
        self.least = max(plan.least for plan, _ in steps)
        self.most = min(plan.most for plan, _ in steps)
        shapes: Shapes = {}
        for plan, step in steps:
            shapes |= {name: plan.inputs[own] for own, name in step.reads.items()}
            shapes |= {name: plan.outputs[own] for own, name in step.makes.items()}
        # The engines take turns, so one workspace serves all of them.
        self._size = max(int(plan.engine.device_memory_size_v2) for plan, _ in steps)
        self._buffers: dict[str, int] = {}
        self._inputs: dict[str, np.ndarray] = {}
        self._outputs: dict[str, np.ndarray] = {}
        self._prepared: dict[int, _Prepared] = {}
        try:
            self._buffers[_WORKSPACE] = device.buffer(self._size)
            for name, shape in shapes.items():
                self._buffers[name] = device.buffer(4 * self.most * int(np.prod(shape)))
            for name in chain.inputs:
                self._inputs[name] = device.pinned((self.most, *shapes[name]))
            for name in chain.outputs:
                self._outputs[name] = device.pinned((self.most, *shapes[name]))
        except UserError:
            self.close()
            raise

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [N, ...] by name; N within the engines' profile."""
        batch = len(next(iter(inputs.values())))
        if not self.least <= batch <= self.most:
            sizes = f"{self.least} to {self.most}, not {batch}"
            raise UserError(
                f"the engines take batches of {sizes}; change --batch, or {trt_plans.BUILD} again"
            )
        for name, array in inputs.items():
            self._inputs[name][:batch] = array
        self.device.use()
        if batch in self._prepared and self._prepared[batch].graph is not None:
            self.device.launch(self._prepared[batch].graph)
            self.device.synchronize()
        else:
            self._run_and_capture(batch)
        return {name: array[:batch].copy() for name, array in self._outputs.items()}

    def close(self) -> None:
        for prepared in self._prepared.values():
            if prepared.graph is not None:
                self.device.forget(prepared.graph)
        self._prepared.clear()
        self.steps.clear()
        self.device.free(*self._buffers.values(), *self._inputs.values(), *self._outputs.values())

    def _run_and_capture(self, batch: int) -> None:
        """The first run of a batch size. TensorRT sets itself up in it, so only the next may be captured."""
        first = batch not in self._prepared
        if first:
            self._prepared[batch] = _Prepared([self._context(*step, batch) for step in self.steps])
        prepared = self._prepared[batch]
        self._enqueue(prepared, batch)
        self.device.synchronize()
        if not first:
            return  # a batch size that could not be captured
        try:
            prepared.graph = self.device.capture(lambda: self._enqueue(prepared, batch))
        except UserError as error:
            say(f"note: batch {batch} runs without a CUDA graph ({error})")

    def _context(self, plan: Plan, step: Step, batch: int) -> tuple[Plan, Any]:
        addresses = {own: self._buffers[name] for own, name in {**step.reads, **step.makes}.items()}
        return plan, plan.context(batch, addresses, self._buffers[_WORKSPACE], self._size)

    def _enqueue(self, prepared: _Prepared, batch: int) -> None:
        for name, array in self._inputs.items():
            self.device.upload(self._buffers[name], array[:batch])
        for plan, context in prepared.contexts:
            if not context.execute_async_v3(self.device.stream):
                raise plan.failed("does not run")
        for name, array in self._outputs.items():
            self.device.download(array[:batch], self._buffers[name])
