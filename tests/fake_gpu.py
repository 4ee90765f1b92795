"""FAKES: a GPU, the CUDA runtime and TensorRT 11, for tests of our code around them without hardware.

Nothing here says anything about the real ones. `FakeCuda` has the functions of `cuda.bindings.runtime` that
we call; its device memory is host memory, and what is enqueued during a capture runs only when its graph is
launched. `fake_tensorrt` has the classes of `tensorrt_lean` (fake_builder.py adds the builder); a fake plan
is an ONNX file with a header, and ONNX Runtime computes it on the bound addresses. So the wiring of buffers,
streams and graphs is really exercised.
"""

import ctypes
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from wagi_rt.engines import trt_plans

MAGIC = b"FAKE PLAN\n"
GPU, VERSION = "FAKE GPU 9000", "11.4.0.106"
OUT_OF_MEMORY, INVALID, INSUFFICIENT_DRIVER, NO_DEVICE = 2, 1, 35, 100


class FakeCuda(ModuleType):
    """`status`: what cudaGetDeviceCount returns; `memory`: bytes of the device."""

    cudaStreamNonBlocking = 1  # noqa: N815 - CUDA's names
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self, status: int = 0, count: int = 1, driver: int = 13000, memory: int = 1 << 30) -> None:
        super().__init__("cuda.bindings.runtime")
        self.status, self.count, self.driver, self.memory = status, count, driver, memory
        self.names = [GPU] * count
        self.blocks: dict[int, Any] = {}  # address -> the host memory behind it
        self.device_bytes: dict[int, int] = {}
        self.calls: Counter[str] = Counter()
        self.captured: list[Any] | None = None
        self.refuse_capture = False

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cuda") and name[4].isupper():
            ModuleType.__getattribute__(self, "calls")[name] += 1
        return ModuleType.__getattribute__(self, name)

    def cudaGetDeviceCount(self) -> tuple:  # noqa: N802
        return (self.status, None) if self.status else (0, self.count)

    def cudaDriverGetVersion(self) -> tuple:  # noqa: N802
        return 0, self.driver

    def cudaGetErrorName(self, status: int) -> tuple:  # noqa: N802
        return 0, f"cudaErrorFake{int(status)}".encode()

    def cudaGetDeviceProperties(self, index: int) -> tuple:  # noqa: N802
        return 0, SimpleNamespace(name=self.names[index].encode() + b"\0\0\0")

    def cudaSetDevice(self, index: int) -> tuple:  # noqa: N802
        return (0 if index < self.count else INVALID,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple:  # noqa: N802
        return 0, 77

    def cudaStreamDestroy(self, stream: int) -> tuple:  # noqa: N802
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple:  # noqa: N802
        return (INVALID if self.captured is not None else 0,)

    def _allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        self.blocks[address] = block
        return address

    def cudaMalloc(self, size: int) -> tuple:  # noqa: N802
        if sum(self.device_bytes.values()) + size > self.memory:
            return OUT_OF_MEMORY, None
        address = self._allocate(size)
        self.device_bytes[address] = size
        return 0, address

    def cudaMallocHost(self, size: int) -> tuple:  # noqa: N802
        return 0, self._allocate(size)

    def cudaFree(self, address: int) -> tuple:  # noqa: N802
        del self.blocks[address], self.device_bytes[address]
        return (0,)

    def cudaFreeHost(self, address: int) -> tuple:  # noqa: N802
        del self.blocks[address]
        return (0,)

    def enqueue(self, work: Any) -> None:
        """Now, or when the graph that is being captured is launched."""
        if self.captured is None:
            work()
        else:
            self.captured.append(work)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple:  # noqa: N802
        self.enqueue(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple:  # noqa: N802
        self.captured = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple:  # noqa: N802
        works, self.captured = self.captured, None
        return (INVALID, None) if self.refuse_capture else (0, works)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple:  # noqa: N802
        return 0, list(graph)

    def cudaGraphDestroy(self, graph: Any) -> tuple:  # noqa: N802
        return (0,)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple:  # noqa: N802
        for work in graph:
            work()
        return (0,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple:  # noqa: N802
        return (0,)


def make_plan(model: onnx.ModelProto, batch: tuple[int, int, int] = (1, 1, 4)) -> bytes:
    """What the fake builder writes."""
    content = model.SerializeToString()
    header = json.dumps({"batch": batch, "bytes": len(content)}).encode()
    return MAGIC + header + b"\n" + content


class FakeEngine:
    """ICudaEngine."""

    device_memory_size_v2 = 4096

    def __init__(self, trt: Any, plan: bytes) -> None:
        header, content = plan.removeprefix(MAGIC).split(b"\n", 1)
        self.trt, self.batch = trt, json.loads(header)["batch"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: tuple(value.shape[1:]) for value in self.session.get_inputs()}
        self.outputs = {value.name: tuple(value.shape[1:]) for value in self.session.get_outputs()}
        # Outputs first and backwards: whoever binds by position fails.
        self.names = [*reversed(self.outputs), *reversed(self.inputs)]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> str:
        return self.trt.float32

    def get_tensor_mode(self, name: str) -> str:
        return self.trt.TensorIOMode.INPUT if name in self.inputs else self.trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple:
        return (-1, *(self.inputs | self.outputs)[name])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple]:
        return [(batch, *self.inputs[name]) for batch in self.batch]

    def create_execution_context(self, strategy: str) -> Any:
        assert strategy == "user managed"
        if self.trt.no_context_memory:
            self.trt.error("CUDA error: out of memory")
            return None
        self.trt.contexts.append(FakeContext(self))
        return self.trt.contexts[-1]


class FakeContext:
    """IExecutionContext."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.trt = engine, engine.trt
        self.addresses: dict[str, int] = {}
        self.batch, self.workspace = 0, 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory in self.trt.cuda.device_bytes and size >= self.engine.device_memory_size_v2
        self.workspace = memory

    def set_input_shape(self, name: str, shape: tuple) -> bool:
        self.batch = shape[0]
        return name in self.engine.inputs and tuple(shape[1:]) == self.engine.inputs[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.names and address in self.trt.cuda.device_bytes

    def execute_async_v3(self, stream: int) -> bool:
        self.trt.cuda.enqueue(self._run)
        return bool(self.workspace) and set(self.addresses) == set(self.engine.names)

    def _view(self, name: str, shape: tuple) -> np.ndarray:
        values = self.batch * int(np.prod(shape))
        memory = (ctypes.c_float * values).from_address(self.addresses[name])
        return np.ctypeslib.as_array(memory).reshape(self.batch, *shape)

    def _run(self) -> None:
        engine = self.engine
        inputs = {name: self._view(name, shape) for name, shape in engine.inputs.items()}
        results = engine.session.run(list(engine.outputs), inputs)
        for (name, shape), result in zip(engine.outputs.items(), results, strict=True):
            self._view(name, shape)[...] = self.trt.spoil(result)


class _Logger:
    ERROR, INTERNAL_ERROR, WARNING = "error", "internal error", "warning"

    def __init__(self) -> None:
        pass


class _Registry:
    """IPluginRegistry; `creators`: what a loaded library brings."""

    def __init__(self) -> None:
        self.libraries: list[str] = []
        self.creators = {(name, "1", "wagi") for name in ("HaarDWT", "HaarIDWT", "SkipUpsample")}

    def load_library(self, path: str) -> object:
        assert Path(path).is_file()
        self.libraries.append(path)
        return object()

    def get_creator(self, name: str, version: str, namespace: str = "") -> object | None:
        return object() if self.libraries and (name, version, namespace) in self.creators else None


class FakeRuntime:
    """trt.Runtime."""

    def __init__(self, trt: Any, log: Any) -> None:
        assert trt.cuda.calls["cudaGetDeviceCount"], "TensorRT was touched before CUDA was probed"
        trt.log = log
        self.trt = trt

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
        if not plan.startswith(MAGIC):
            self.trt.error("Serialization assertion magicTagRead == kMAGIC_TAG failed.")
            self.trt.error("deserializeCudaEngine failed")
            return None
        return FakeEngine(self.trt, plan)


def fake_tensorrt(cuda: FakeCuda, name: str = "tensorrt_lean", version: str = VERSION) -> Any:
    """The module `name`; tests set `spoil` (of outputs), `no_context_memory` and `registry.creators`."""
    trt: Any = ModuleType(name)
    trt.__version__, trt.cuda = version, cuda
    trt.spoil, trt.no_context_memory = (lambda array: array), False
    trt.contexts, trt.registry, trt.log = [], _Registry(), None
    trt.error = lambda text: trt.log.log(_Logger.ERROR, text)
    trt.ILogger, trt.float32 = _Logger, "float32"
    trt.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    trt.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    trt.get_plugin_registry = lambda: trt.registry
    trt.Runtime = lambda log: FakeRuntime(trt, log)
    return trt


def install(monkeypatch: Any, cuda: FakeCuda, *modules: Any) -> None:
    """Put the fakes in the place of the real modules; TensorRTs that are not given are not installed."""
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    found = {module.__name__: module for module in modules}
    for name in ("tensorrt_lean", "tensorrt_lean_bindings", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, found.get(name))
    monkeypatch.setattr(trt_plans, "_loaded", {})
