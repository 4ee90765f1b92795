"""Section `haar`: the Haar kernels against torch (directions, precisions, layouts), and their bandwidth."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.common import KERNELS, NVCC, PLUGINS, Machine, built, compile_with

LIBRARY = "libwagi_kernels.so"
LAYOUTS = {"linear": 0, "hwc8": 1}
# Vectors and scalars, RGB and others, odd numbers of blocks: every path of haar_kernels.cu.
SHAPES = ((1, 3, 64, 64), (2, 3, 34, 18), (3, 5, 6, 10), (2, 12, 16, 32), (1, 8, 2, 2))


def compile_kernels(target: Path) -> Path:
    """With nvcc, as a shared library behind the C ABI of haar_kernels.h and skip_kernels.h."""
    command = [*NVCC, "-shared", "-Xcompiler", "-fPIC", *(str(PLUGINS / name) for name in KERNELS)]
    return compile_with(command, target)


def compile_host(target: Path) -> Path:
    source = Path(__file__).with_name("haar_host.cpp")
    return compile_with(["g++", "-O2", "-std=c++17", "-shared", "-fPIC", str(source)], target)


def library(machine: Machine) -> Path:
    """The kernels of this machine; in a dry run their host build."""
    if machine.dry:
        return compile_host(machine.scratch / LIBRARY)
    return built(LIBRARY, compile_kernels, machine.scratch)


def run(machine: Machine) -> dict[str, Any]:
    """{"parity": {case: largest difference, in units of the last place for half}, "bandwidth": {...}}."""
    kernels = Kernels(library(machine), machine)
    parity = {name: kernels.parity(*case) for name, case in cases()}
    wrong = [name for name, found in parity.items() if not found["passed"]]
    result = {
        "parity": parity,
        "bandwidth": {name: kernels.bandwidth(*case) for name, case in timed(machine)},
    }
    if wrong:
        raise WrongKernels(f"wrong results: {', '.join(wrong)}", result)
    return result


class WrongKernels(Exception):
    """With what was measured in `results`."""

    def __init__(self, message: str, results: dict[str, Any]) -> None:
        super().__init__(message)
        self.results = results


def cases() -> Iterator[tuple[str, tuple[Any, ...]]]:
    for forward in (True, False):
        for half, layout in ((False, "linear"), (True, "linear"), (True, "hwc8")):
            for shape in SHAPES:
                for aligned in (True, False):
                    parts = ["forward" if forward else "inverse", "fp16" if half else "fp32", layout]
                    parts += ["x".join(map(str, shape)), *([] if aligned else ["unaligned"])]
                    yield " ".join(parts), (forward, half, layout, shape, aligned)


def timed(machine: Machine) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """One image, which stays in the cache of a large GPU, and a batch that does not."""
    sizes = {"batch 1": (1, 3, 1024, 1024), "batch 32": (32, 3, 1024, 1024)}
    for size, shape in ({"tiny": (1, 3, 32, 32)} if machine.dry else sizes).items():
        for half, layout in ((False, "linear"), (True, "linear"), (True, "hwc8")):
            for forward in (True, False):
                way = "forward" if forward else "inverse"
                yield f"{way} {'fp16' if half else 'fp32'} {layout} {size}", (forward, half, layout, shape)


class Kernels:
    """The library through ctypes, on torch tensors."""

    def __init__(self, path: Path, machine: Machine) -> None:
        self.machine = machine
        library = ctypes.CDLL(str(path))
        self.functions = {True: library.wagi_haar_forward, False: library.wagi_haar_inverse}
        for function in self.functions.values():
            function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int] * 6 + [ctypes.c_void_p]
            function.restype = ctypes.c_int

    def launch(self, forward: bool, source: Any, target: Any, shape: tuple, half: bool, layout: str) -> None:
        """`shape`: of the image. The kernel goes onto torch's current stream."""
        import torch

        stream = None if self.machine.dry else torch.cuda.current_stream().cuda_stream
        status = self.functions[forward](
            source.data_ptr(), target.data_ptr(), *shape, int(half), LAYOUTS[layout], stream
        )
        if status:
            raise RuntimeError(f"kernel launch returned CUDA error {status}")

    def parity(self, forward: bool, half: bool, layout: str, shape: tuple, aligned: bool) -> dict[str, Any]:
        """Against wagi.haar in double precision, rounded once: equal in half but for ties, 1e-6 in float."""
        import torch

        from wagi.haar import haar, inverse_haar

        dtype = torch.float16 if half else torch.float32
        n, c, h, w = shape
        generator = torch.Generator().manual_seed(0)
        source_shape = shape if forward else (n, 4 * c, h // 2, w // 2)
        values = torch.randn(source_shape, generator=generator).to(dtype)
        exact = (haar if forward else inverse_haar)(values.double())
        packed = self.place(pack(values, layout), aligned)
        room = self.place(torch.full_like(pack(exact.to(dtype), layout), 7.0), aligned)
        self.launch(forward, packed, room, shape, half, layout)
        found = unpack(room.cpu(), exact.shape, layout)
        padding = 0.0 if layout == "linear" else float(room.cpu()[..., exact.shape[1] :].abs().sum())
        error = float((found.double() - exact).abs().max())
        # Half a unit in the last place of values below 8, and of the single precision sums before it.
        limit = 2.0**-9 + 1e-6 if half else 2e-6
        return {
            "max_abs": error,
            "limit": limit,
            "padding": padding,
            "passed": error <= limit and padding == 0,
        }

    def place(self, values: Any, aligned: bool) -> Any:
        """A copy on the device; unaligned: one element behind a 16-byte boundary."""
        import torch

        room = torch.empty(values.numel() + 8, dtype=values.dtype, device=self.machine.device)
        start = 0 if aligned else 1
        placed = room[start : start + values.numel()].view(values.shape)
        placed.copy_(values)
        return placed

    def bandwidth(self, forward: bool, half: bool, layout: str, shape: tuple) -> dict[str, Any]:
        """Bytes read and written per second, as a share of torch's copy of equally many bytes."""
        import torch

        from wagi.haar import haar, inverse_haar

        machine, dtype = self.machine, torch.float16 if half else torch.float32
        n, c, h, w = shape
        image = pack(torch.randn(shape, device=machine.device, dtype=dtype), layout)
        bands = pack(torch.randn((n, 4 * c, h // 2, w // 2), device=machine.device, dtype=dtype), layout)
        source, target = (image, bands) if forward else (bands, image)
        kernel = machine.milliseconds(lambda: self.launch(forward, source, target, shape, half, layout))
        moved = source.nbytes + target.nbytes
        one = torch.empty(moved // 2, dtype=torch.uint8, device=machine.device)
        other = torch.empty_like(one)
        copy = machine.milliseconds(lambda: other.copy_(one))
        found = {
            "kernel_ms": kernel,
            "copy_ms": copy,
            "bytes": moved,
            "gb_per_s": round(moved / kernel["p50"] / 1e6, 2),
            "share_of_copy": round(copy["p50"] / kernel["p50"], 4),
        }
        if layout == "linear":
            operation = haar if forward else inverse_haar
            found["torch_ms"] = machine.milliseconds(lambda: operation(source))
        return found


def pack(values: Any, layout: str) -> Any:
    """[N, C, H, W] as it lies in memory: itself, or [N, H, W, C rounded up to 8] with zeros behind."""
    import torch.nn.functional as F

    if layout == "linear":
        return values.contiguous()
    return F.pad(values.permute(0, 2, 3, 1), (0, -values.shape[1] % 8)).contiguous()


def unpack(values: Any, shape: tuple, layout: str) -> Any:
    return values if layout == "linear" else values[..., : shape[1]].permute(0, 3, 1, 2)
