"""Candidates of latency.py: whole inversions, float images [N, 3, S, S] in and out, weights in memory."""

from __future__ import annotations

import copy
import functools
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wagi_rt import backends
from wagi_rt import manifest as manifests
from wagi_rt.chain import FUSED, PIPELINE
from wagi_rt.engines.base import EngineChoice, GraphEngine
from wagi_rt.errors import UserError
from wagi_rt.session import Session

# Name -> what it is. Those of PyTorch need the model's checkpoint; the others run its bundle.
BACKENDS = {
    "reference": "public formulation, PyTorch eager",
    "eager": "export formulation, PyTorch eager",
    "compile": "export formulation, torch.compile",
    "graph": "export formulation, CUDA graph",
    "onnx": "ONNX Runtime, pipeline graph",
    "onnx-graphs": "ONNX Runtime, separate graphs",
    "openvino": "OpenVINO, pipeline graph",
    "openvino-graphs": "OpenVINO, separate graphs",
    "trt": "TensorRT",
}
TORCH = ("reference", "eager", "compile", "graph")
# What is measured of an opened picture, beside whole inversions.
TASKS = {"edit": "edit after inversion", "frame": "video frame, latents held"}
_STEP = 0.1  # standard deviation of the change of the latents, of about one themselves
Work = Callable[[np.ndarray], np.ndarray]
SERIES = ("fp32", "fp16-weights", "bf16", "fp16")  # precisions


def precisions(backend: str, device: str) -> tuple[str, ...]:
    """Those of SERIES in which a backend can be asked to run."""
    if backend in TORCH:
        return ("fp32", "fp16") if device == "cuda" and backend != "reference" else ("fp32",)
    return SERIES if backend.startswith("openvino") else tuple(p for p in SERIES if p != "bf16")


class Key(NamedTuple):
    """One candidate."""

    backend: str
    precision: str
    batch: int

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} batch {self.batch}"


class Skip(Exception):
    """This candidate cannot run here; the text says why."""


Times = dict[str, list[float]]  # graph -> ms of each run


def timed(engine: GraphEngine) -> tuple[GraphEngine, Times]:
    """The engine as one that writes down how long each graph took."""
    times: Times = defaultdict(list)

    def run(graph: str, inputs: Any, keep: frozenset[str]) -> Any:
        started = time.perf_counter()
        found = engine._run(graph, inputs, keep)
        times[graph].append((time.perf_counter() - started) * 1000)
        return found

    watched = copy.copy(engine)
    watched._run = run  # type: ignore[method-assign]
    return watched, times


class Opener:
    """Opens candidates of one model; keeps what several of them share.

    checkpoint: None for a bundle that came without one. bundles: precision of the files ("fp32",
    "fp16-weights") -> folder.
    """

    def __init__(self, checkpoint: Path | None, bundles: dict[str, Path], threads: int, device: str) -> None:
        self.checkpoint, self.bundles = checkpoint, bundles
        self.threads, self.device = threads, device
        self.timed: dict[Key, Times] = {}
        self.opened: dict[tuple[str, str, str], Any] = {}  # (backend, precision, kind) -> what runs it
        self._pipelines: dict[str, Any] = {}

    @functools.cached_property
    def model(self) -> Any:
        from wagi.checkpoint import load_model

        if self.checkpoint is None:
            raise Skip("needs a checkpoint: random models (--size) have one, bundles have not")
        return load_model(self.checkpoint)

    def bundle(self, precision: str) -> Path:
        """The files that run in it; for bf16, which no files are stored in, the first ones."""
        if precision not in self.bundles and precision != "bf16":
            raise Skip(f"the bundle is not {precision}")
        return self.bundles.get(precision) or next(iter(self.bundles.values()))

    def open(self, key: Key) -> Work:
        """The work of one candidate; Skip when it cannot be had here."""
        try:
            return self._torch(key) if key.backend in TORCH else self._runtime(key)
        except UserError as error:
            raise Skip(str(error)) from None

    def after(self, key: Key, task: str, images: np.ndarray) -> Callable[[], np.ndarray]:
        """The work of one of TASKS, the pictures [N, 3, S, S] opened before; Skip where it cannot be had."""
        if key.backend in TORCH:
            raise Skip("the runtime's backends only")
        try:
            session = self._once(key, lambda: self._session(key, editing=True), "editing")
            kept = session.encode(images)
            ws = kept["ws"]
            step = np.random.default_rng(0).standard_normal(ws.shape[1:]).astype(np.float32)
            moved = ws + _STEP * step
            works = {
                "edit": lambda: session.edit(kept, moved).image,
                "frame": lambda: session.hold(images, ws)["result"],
            }
            works[task]()  # also compiles what compiles at the first run
            return works[task]
        except UserError as error:
            raise Skip(str(error)) from None

    def _session(self, key: Key, editing: bool = False) -> Session:
        """By separate graphs where the backend's name says so."""
        naive = "-" in key.backend
        return Session(self.bundle(key.precision), self._choice(key), naive=naive, editing=editing)

    def _choice(self, key: Key) -> EngineChoice:
        name = key.backend.partition("-")[0]
        device = "cuda" if name == "trt" else self.device
        return EngineChoice(name, device, self.threads, key.precision if key.precision == "bf16" else None)

    def _torch(self, key: Key) -> Work:
        import torch

        from benchmarks import reference

        if key.backend == "reference":
            model = copy.deepcopy(self.model).to(self.device) if self.device == "cuda" else self.model
            return self._on_device(lambda image: reference.invert(model, image).image)
        if key.backend == "graph" and self.device != "cuda":
            raise Skip("CUDA graphs need a GPU")
        module = self._pipeline(key.precision)
        if key.backend == "compile":
            module = torch.compile(module, dynamic=False)
        run = _replay(module, self._example(key.batch)) if key.backend == "graph" else lambda x: module(x)[2]
        return self._on_device(run)

    def _pipeline(self, precision: str) -> Any:
        """The very module that the export traces."""
        from export.graphs import build_graphs

        if precision not in self._pipelines:
            self._pipelines[precision] = build_graphs(self.model, precision)[PIPELINE].module.to(self.device)
        return self._pipelines[precision]

    def _example(self, batch: int) -> Any:
        import torch

        size = self.model.generator.size
        return torch.zeros(batch, 3, size, size, device=self.device)

    def _on_device(self, run: Callable[[Any], Any]) -> Work:
        """Host array in, host array out; copies count, as they do for every other backend."""
        import torch

        def work(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return run(torch.from_numpy(images).to(self.device)).cpu().numpy()

        return work

    def _runtime(self, key: Key) -> Work:
        choice, bundle = self._choice(key), self.bundle(key.precision)
        backends.check(choice)
        if "-" in key.backend:
            session = copy.copy(self._once(key, lambda: self._session(key)))
            session.engine, self.timed[key] = timed(session.engine)  # each batch writes down its own times
            return lambda images: session.run(images).image
        # Not through a Session, which refuses bf16 where its parity is low: the report states the parity.
        manifest = manifests.read(bundle)
        if PIPELINE not in manifest.graphs:
            raise Skip("the bundle has no pipeline graph")
        engine = self._once(key, lambda: backends.open_engine(manifest, choice, FUSED)[1])
        return lambda images: engine.run_chain(FUSED, {"image": images})["result"]

    def _once(self, key: Key, make: Callable[[], Any], kind: str = "") -> Any:
        """One backend in one precision, for all batch sizes: full-size models are large."""
        name = key.backend, key.precision, kind
        if name not in self.opened:
            self.opened[name] = make()
        return self.opened[name]


def _replay(module: Any, example: Any) -> Callable[[Any], Any]:
    """The module captured once as a CUDA graph: fixed buffers, one launch."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            module(example)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        result = module(example)[2]

    def run(image: Any) -> Any:
        example.copy_(image)
        graph.replay()
        return result

    return run
