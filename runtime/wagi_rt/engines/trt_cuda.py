"""CUDA through cuda-bindings: the probe that comes before TensorRT, memory, one stream, graphs.

A TensorRT runtime that is made without a driver is a broken object and its next call crashes the process
(a null check does not help), so nothing may touch TensorRT before `probe` has returned.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from wagi_rt.errors import UserError

NAME = "TensorRT"
INSTALL = "pip install 'wagi[trt]'"
# cudaError_t values, as the CUDA runtime API documents them.
_OUT_OF_MEMORY, _INSUFFICIENT_DRIVER, _NO_DEVICE = 2, 35, 100
_LEAST_DRIVER = "CUDA 13 needs driver r580 or newer"


def import_cuda() -> Any:
    """cuda.bindings.runtime, or one line that says how to install it. Needs no driver."""
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "cuda"
        what = "is not installed" if missing else f"does not load ({_one_line(error)})"
        raise UserError(f"{NAME}: cuda-bindings {what}; run: {INSTALL}", status=2) from None


def probe() -> int:
    """The number of GPUs, at least one. UserError: no driver, a driver that is too old, no GPU."""
    cuda = import_cuda()
    status, count = cuda.cudaGetDeviceCount()
    code = int(status)
    if code == _INSUFFICIENT_DRIVER:
        version = int(cuda.cudaDriverGetVersion()[1] or 0)  # the newest CUDA it supports; 0: no driver at all
        if not version:
            raise UserError(
                f"{NAME}: no NVIDIA driver on this machine; install r580 or newer, or use --backend onnx"
            )
        supports = f"the NVIDIA driver is too old (CUDA {_cuda_version(version)})"
        raise UserError(f"{NAME}: {supports}; {_LEAST_DRIVER}: update it")
    if code == _NO_DEVICE or (code == 0 and not count):
        raise UserError(f"{NAME}: no NVIDIA GPU on this machine (or hidden); use --backend onnx")
    if code:
        raise UserError(f"{NAME}: CUDA does not start ({_error_name(cuda, status)}); check nvidia-smi")
    return int(count)


class Device:
    """One GPU with one stream. Buffers live until `close`; errors are UserErrors."""

    def __init__(self, index: int) -> None:
        count = probe()
        if index >= count:
            last = f"cuda:{count - 1}" if count > 1 else "cuda:0"
            raise UserError(f"--device cuda:{index}: there is no such GPU, the last one is {last}", status=2)
        self._cuda = import_cuda()
        self.index = index
        self._buffers: set[int] = set()
        self._pinned: set[int] = set()
        self.use()
        # cudaGetDeviceProperties fills `name` up with zero bytes.
        self.name = bytes(self._call("cudaGetDeviceProperties", index).name).split(b"\0")[0].decode().strip()
        # TensorRT synchronises the whole device when it is given the default stream.
        self.stream = int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def use(self) -> None:
        """Make this GPU the calling thread's: CUDA keeps that per thread."""
        self._call("cudaSetDevice", self.index)

    @property
    def driver(self) -> str:
        """The newest CUDA that the driver supports, such as "13.0"."""
        return _cuda_version(int(self._call("cudaDriverGetVersion")))

    def buffer(self, size: int) -> int:
        """The address of `size` bytes of GPU memory."""
        address = int(self._call("cudaMalloc", max(size, 1)))
        self._buffers.add(address)
        return address

    def pinned(self, shape: tuple[int, ...]) -> np.ndarray:
        """A float32 array in page-locked host memory: its copies run at full speed and can be captured."""
        size = int(np.prod(shape))
        address = int(self._call("cudaMallocHost", max(4 * size, 1)))
        self._pinned.add(address)
        return np.ctypeslib.as_array((ctypes.c_float * size).from_address(address)).reshape(shape)

    def free(self, *memory: int | np.ndarray) -> None:
        """Give buffers and pinned arrays back; errors of a GPU that is lost anyway are ignored."""
        for item in memory:
            address = item.ctypes.data if isinstance(item, np.ndarray) else item
            if address in self._buffers:
                self._buffers.remove(address)
                self._cuda.cudaFree(address)
            elif address in self._pinned:
                self._pinned.remove(address)
                self._cuda.cudaFreeHost(address)

    def upload(self, target: int, source: np.ndarray) -> None:
        """Enqueue a copy of a pinned array to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, kind, self.stream)

    def download(self, target: np.ndarray, source: int) -> None:
        """Enqueue a copy from the GPU into a pinned array."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, kind, self.stream)

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> Any:
        """`work`, which only enqueues on the stream, as a CUDA graph for `launch`."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        except UserError:
            self._cuda.cudaStreamEndCapture(self.stream)  # leave capture mode: the stream stays usable
            raise
        graph = self._call("cudaStreamEndCapture", self.stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any) -> None:
        self._call("cudaGraphLaunch", graph, self.stream)

    def forget(self, graph: Any) -> None:
        self._cuda.cudaGraphExecDestroy(graph)

    def close(self) -> None:
        """Give everything back."""
        self._cuda.cudaSetDevice(self.index)
        self._cuda.cudaStreamSynchronize(self.stream)
        self.free(*self._buffers, *self._pinned)
        self._cuda.cudaStreamDestroy(self.stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the CUDA runtime; its functions return (status,) or (status, value)."""
        status, *values = getattr(self._cuda, name)(*arguments)
        if int(status) == _OUT_OF_MEMORY:
            raise out_of_memory(f"cuda:{self.index}")
        if int(status):
            reason = f"{_error_name(self._cuda, status)} in {name}"
            raise UserError(f"cuda:{self.index}: CUDA failed ({reason}); check the GPU with nvidia-smi")
        return values[0] if values else None


def out_of_memory(device: str) -> UserError:
    return UserError(f"{device}: not enough GPU memory; use a smaller --batch, or free the GPU (nvidia-smi)")


def _cuda_version(number: int) -> str:
    """CUDA's 13050 => "13.5"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _error_name(cuda: Any, status: Any) -> str:
    text = cuda.cudaGetErrorName(status)[1]
    return text.decode() if isinstance(text, bytes) else str(text)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
