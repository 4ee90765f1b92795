"""FAKE: the builder half of `tensorrt` (see fake_gpu.py): parser, network, config, timing cache, progress."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
from fake_gpu import VERSION, FakeCuda, fake_tensorrt, make_plan

FLAGS = ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "TF32")


class _Network:
    """INetworkDefinition: wavelet nodes are plugin layers once a plugin library is loaded."""

    def __init__(self, trt: Any) -> None:
        self.trt = trt
        self.model: onnx.ModelProto | None = None

    @property
    def num_layers(self) -> int:
        return len(self.model.graph.node)

    def get_layer(self, index: int) -> Any:
        plugin = self.model.graph.node[index].domain == "wagi" and self.trt.registry.libraries
        return SimpleNamespace(type="plugin" if plugin else "other")


class _Parser:
    def __init__(self, network: _Network, log: Any) -> None:
        self.network, self.num_errors = network, 0

    def parse_from_file(self, path: str) -> bool:
        if self.network.trt.unparsable:
            self.num_errors = 1
            return False
        self.network.model = onnx.load(Path(path))
        return True

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: "In node 7 (importFake): UNSUPPORTED_NODE:\nfake")


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple] = {}

    def set_shape(self, name: str, least: tuple, best: tuple, most: tuple) -> None:
        self.shapes[name] = (least, best, most)


class _Config:
    def __init__(self) -> None:
        self.flags = {"TF32"}  # as in TensorRT
        self.builder_optimization_level, self.profiling_verbosity, self.progress_monitor = 3, None, None
        self.profiles: list[_Profile] = []
        self.timings = b""

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.profiles.append(profile)

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> None:
        self.timings = cache

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.timings + b"timed;")


class _Builder:
    def __init__(self, trt: Any) -> None:
        self.trt = trt

    def create_network(self, flags: int) -> _Network:
        return _Network(self.trt)

    def create_builder_config(self) -> _Config:
        self.trt.configs.append(_Config())
        return self.trt.configs[-1]

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 2)
        for step in range(2):
            if not monitor.step_complete("Building", step):
                return None
        monitor.phase_finish("Building")
        if self.trt.unbuildable:
            self.trt.error("Could not find any implementation for node fake.")
            return None
        (profile,) = config.profiles
        batches = {tuple(shape[0] for shape in shapes) for shapes in profile.shapes.values()}
        (batch,) = batches
        return make_plan(network.model, batch)


def fake_full_tensorrt(cuda: FakeCuda, version: str = VERSION) -> Any:
    """The module `tensorrt`; tests set `unparsable`, `unbuildable`, and read `configs`."""
    trt = fake_tensorrt(cuda, "tensorrt", version)
    trt.unparsable = trt.unbuildable = False
    trt.configs = []

    def make_builder(log: Any) -> _Builder:
        trt.log = log
        return _Builder(trt)

    trt.Builder, trt.OnnxParser = make_builder, _Parser
    trt.BuilderFlag = SimpleNamespace(**{name: name for name in FLAGS})
    trt.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    trt.LayerType = SimpleNamespace(PLUGIN_V3="plugin")

    class Monitor:
        def __init__(self) -> None:
            pass

    trt.IProgressMonitor = Monitor
    return trt
