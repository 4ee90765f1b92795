"""The contract of an engine: what runs the graphs of a bundle on one device."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from wagi_rt.chain import Chain, Step, Tensors, walk
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest


class EngineChoice(NamedTuple):
    """The engine that shall run: arguments of `wagi_rt.load`, which says what each of them means."""

    backend: str = "onnx"
    device: str | None = None
    threads: int | None = None
    precision: str | None = None


DEFAULT = EngineChoice()


def parse_device(device: str) -> tuple[str, int]:
    """ "cpu" => ("cpu", 0), "cuda" => ("cuda", 0), "cuda:1" => ("cuda", 1); else UserError."""
    kind, colon, index = device.partition(":")
    if (kind == "cuda" and (not colon or index.isdecimal())) or device == "cpu":
        return kind, int(index or 0)
    raise UserError(f"--device {device}: unknown device; use cpu, cuda or cuda:N", status=2)


class Closing(AbstractContextManager):
    """Closes itself at the end of a `with`."""

    def close(self) -> None:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Engine(Closing, ABC):
    """An opened bundle. Arrays are float32 [N, ...]; tensors are bound by name.

    Calls from several threads are safe: they run at the same time where `concurrent`, else one after another.
    After a fork the child must open its own; here a call raises UserError, as it does after `close`.

    device: "cpu" or "cuda:N", what really runs. precision: its arithmetic. max_batch: None where any fits.
    limit_psnr_db: the PSNR that it must reach on the bundle's probes before it is used, or None. built: the
    graphs and functions that it can run, where that is not every one.
    """

    concurrent = False
    default_device = "cpu"
    built: frozenset[str] | None = None

    @staticmethod
    @abstractmethod
    def available() -> tuple[bool, str]:
        """(True, the library and what it runs on), or (False, why it does not work here)."""

    @staticmethod
    @abstractmethod
    def devices() -> list[str]:
        """The kinds of devices that the installed library knows (a driver may still be missing)."""

    def __init__(
        self, manifest: Manifest, choice: EngineChoice = DEFAULT, chain: Chain | None = None
    ) -> None:
        """Opens what `chain` runs (None: the manifest's default); other graphs when they are first run."""
        self._kind, self._index = parse_device(choice.device or self.default_device)
        self.manifest = manifest
        self.device = "cpu" if self._kind == "cpu" else f"cuda:{self._index}"
        self.precision = manifest.precision
        self.limit_psnr_db: float | None = None
        self.max_batch: int | None = None
        self._process: int | None = os.getpid()  # None: closed
        self._lock = RLock()

    @property
    @abstractmethod
    def version(self) -> str:
        """The library's."""

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One graph of the bundle, tensors under its own names."""
        found = self.manifest.graphs[graph]
        step = Step(graph, tuple(found.inputs), tuple(found.outputs))
        return self.run_chain(Chain.of(step), inputs)

    def run_chain(self, chain: Chain, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The chain's outputs by name; tensors that only graphs read stay on the device in between."""
        self._check(chain, inputs)
        with self._turn():
            return self._run_chain(chain, inputs)

    def close(self) -> None:
        """Give everything back; waits for a call that runs. Nothing happens when it is closed or not ours."""
        if self._process != os.getpid():
            return
        with self._lock:
            self._process = None
            self._close()

    def _check(self, chain: Chain, inputs: Mapping[str, np.ndarray]) -> None:
        if set(inputs) != set(chain.inputs):
            given = ", ".join(inputs) or "nothing"
            raise UserError(f"the chain takes {', '.join(chain.inputs)}, not {given}")
        batch = len(next(iter(inputs.values())))
        for step in chain.steps:
            shapes, _ = self.manifest.tensors(step)
            for own, name in step.reads.items():
                expected = [batch, *shapes[own]]
                if name in inputs and list(inputs[name].shape) != expected:
                    found = list(inputs[name].shape)
                    raise UserError(f"input '{name}' must be {expected}, this is {found}")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._process != os.getpid():  # before the lock, which a fork may have left locked
            what = "is closed" if self._process is None else "was opened before this process was forked"
            raise UserError(f"the session {what}; open another one")
        with nullcontext() if self.concurrent else self._lock:
            yield

    @abstractmethod
    def _run_chain(self, chain: Chain, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...

    @abstractmethod
    def _close(self) -> None: ...


class GraphEngine(Engine):
    """An engine that runs one graph at a time, with numpy's arithmetic between them."""

    def _run_chain(self, chain: Chain, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors: Tensors = dict(inputs)

        def run(step: Step, given: Tensors) -> Tensors:
            return self._run(step.name, given, chain.resident(step))

        for _ in walk(chain, tensors, run, self.manifest.resolution):
            pass
        return {name: _host(tensors[name]) for name in chain.outputs}

    @abstractmethod
    def _run(self, graph: str, inputs: Tensors, keep: frozenset[str]) -> Tensors:
        """One graph; outputs in `keep` may stay on the device (objects with `.numpy()`)."""


def _host(tensor: Any) -> np.ndarray:
    """An array, wherever an engine left the tensor."""
    return tensor if isinstance(tensor, np.ndarray) else tensor.numpy()
