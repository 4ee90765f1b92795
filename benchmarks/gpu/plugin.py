"""Section `plugin`: `enqueue` of the TensorRT plugins, through a small C++ harness (plugin_enqueue.cpp)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from benchmarks.gpu.common import KERNELS, NVCC, PLUGINS, Machine, Skip, built, compile_with, tensorrt_headers
from wagi_rt.engines.trt_plans import PLUGIN_LIBRARY, find_plugins

HARNESS = "plugin_enqueue"


def compile_library(target: Path) -> Path:
    names = (*KERNELS, "plugins.cpp", "haar_plugin.cpp", "skip_plugin.cpp")
    sources = [str(PLUGINS / name) for name in names]
    flags = ["-shared", "-Xcompiler", "-fPIC,-w", "-I", str(tensorrt_headers())]
    return compile_with([*NVCC, *flags, *sources], target)


def compile_harness(target: Path) -> Path:
    source = str(Path(__file__).with_name(f"{HARNESS}.cpp"))
    return compile_with([*NVCC, "-Xcompiler", "-w", "-I", str(tensorrt_headers()), source, "-ldl"], target)


def library(machine: Machine) -> Path:
    """The library: the user's, that of --build-only, or compiled now."""
    return find_plugins() or built(PLUGIN_LIBRARY, compile_library, machine.scratch)


def run(machine: Machine) -> dict[str, Any]:
    """{"cases": {name: {"plain": difference, "graph": difference, "ok"}}}."""
    if machine.dry:
        raise Skip("enqueue needs a GPU")
    harness = built(HARNESS, compile_harness, machine.scratch)
    done = subprocess.run([harness, library(machine)], capture_output=True, text=True, timeout=120)
    cases = {}
    for line in done.stdout.splitlines():
        *name, plain, graph, verdict = line.split()
        cases[" ".join(name)] = {"plain": float(plain), "graph": float(graph), "ok": verdict == "ok"}
    if done.returncode or not cases:
        wrong = [name for name, case in cases.items() if not case["ok"]]
        raise RuntimeError(f"wrong: {wrong}" if wrong else done.stderr.strip()[-500:] or "no output")
    return {"cases": cases}
