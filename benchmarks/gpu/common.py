"""Common ground of gpu_check.py's sections: the machine, clocks, and how they say "not here"."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PLUGINS = ROOT / "runtime" / "plugins"
BUILT = ROOT / "build" / "gpu"  # what --build-only made, on a machine that may have had no GPU


class Skip(Exception):
    """This section, or a part of it, cannot run here; the text says why."""


@dataclass(frozen=True)
class Machine:
    """The place where a section runs. `dry`: on the CPU, at tiny sizes, to exercise the flow."""

    dry: bool
    scratch: Path
    bundle: Path | None
    deadline: float  # time.monotonic()

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    def left(self) -> float:
        """Seconds that may still be used."""
        return self.deadline - time.monotonic()

    def require(self, seconds: float, what: str) -> None:
        if self.left() < seconds:
            raise Skip(f"{what}: {self.left():.0f} s left, {seconds:.0f} s wanted")

    def milliseconds(
        self, work: Callable[[], Any], iterations: int = 50, warmup: int = 10, waits: bool = False
    ) -> dict[str, float]:
        """Latency of `work`: CUDA events around each call; the clock if it `waits` for the GPU itself."""
        if self.dry:
            iterations, warmup = 2, 1
        for _ in range(warmup):
            work()
        times = _by_clock(work, iterations) if waits or self.dry else _by_events(work, iterations)
        quantiles = statistics.quantiles(times, n=10)
        found = {"p50": statistics.median(times), "p90": quantiles[8], "min": min(times)}
        return {**{key: round(value, 5) for key, value in found.items()}, "iterations": iterations}


def _by_clock(work: Callable[[], Any], iterations: int) -> list[float]:
    times = []
    for _ in range(iterations):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def _by_events(work: Callable[[], Any], iterations: int) -> list[float]:
    import torch

    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(iterations)]
    torch.cuda.synchronize()
    for start, end in pairs:
        start.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in pairs]


def attempt(work: Callable[[], Any]) -> Any:
    """The result of one part of a section, or {"skipped": why} or {"failed": why}: the rest goes on."""
    try:
        return work()
    except Skip as reason:
        return {"skipped": str(reason)}
    except Exception as error:  # whatever it is, the report goes on
        return {"failed": one_line(error)}


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def compile_with(command: list[str], target: Path) -> Path:
    """Run a compiler that writes `target`. Skip when there is none, RuntimeError with its words."""
    if shutil.which(command[0]) is None:
        raise Skip(
            f"{command[0]} is not installed, and {BUILT} holds no {target.name} (--build-only makes it)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-800:] or done.stdout.strip()[-800:]}")
    return target


def built(name: str, make: Callable[[Path], Path], scratch: Path) -> Path:
    """The file `name` that --build-only left, else made now."""
    return BUILT / name if (BUILT / name).is_file() else make(scratch / name)


KERNELS = ("haar_kernels.cu", "skip_kernels.cu")
NVCC = ["nvcc", "-O3", "-std=c++17", "-arch=all-major"]


def tensorrt_headers() -> Path:
    """The folder of NvInfer.h; Skip where there is none."""
    named = os.environ.get("WAGI_TENSORRT_INCLUDE")
    system = ("/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/local/tensorrt/include")
    places = [Path(named)] if named else [ROOT / "build/_deps/tensorrt-src/include", *map(Path, system)]
    for place in places:
        if (place / "NvInfer.h").is_file():
            return place
    raise Skip("no NvInfer.h (set WAGI_TENSORRT_INCLUDE, or cmake -DWAGI_FETCH_TENSORRT=ON)")
