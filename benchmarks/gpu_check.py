"""Everything that waits for a GPU, in one run and one JSON file; --cpu-dry-run is the same flow without one.

python benchmarks/gpu_check.py --out benchmarks/gpu_NAME.json

Needs the repository, PyTorch with CUDA and numpy. What else is missing (nvcc, TensorRT, ONNX Runtime with
CUDA) skips its section with the reason. The file is written after each section.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    from benchmarks.gpu.common import Machine

SCHEMA = 1
# The last one takes what time is left.
SECTIONS = ("haar", "skip", "plugin", "lean", "onnxruntime", "engines", "torch")
_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt_cu13",
             "tensorrt_lean_cu13", "cuda-bindings")  # fmt: skip


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu_check.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, metavar="FILE", help="the JSON file to write (default: gpu_check.json)")
    add(
        "--cpu-dry-run", action="store_true", help="the whole flow on the CPU at tiny sizes; measures nothing"
    )
    add("--sections", metavar="A,B", help=f"only these of {','.join(SECTIONS)}")
    add("--bundle", type=Path, help="bundle for ONNX Runtime and TensorRT (default: the embedded model)")
    add("--machine", metavar="NAME", help="the machine's name in the report (default: the GPU's)")
    add("--minutes", type=float, default=9.5, metavar="M", help="stop starting work after M (default 9.5)")
    add(
        "--build-only",
        action="store_true",
        help="only compile kernels, plugins and harness into build/gpu, for a GPU machine without nvcc",
    )
    return parser


def section(name: str) -> Callable[["Machine"], dict[str, Any]]:
    """The function of a section; imported late, because sections import torch and others."""
    from benchmarks.gpu import engines, formulation, haar, plugin, skip

    functions = {
        "haar": haar.run, "skip": skip.run, "plugin": plugin.run, "lean": engines.run_lean,
        "torch": formulation.run, "onnxruntime": engines.run_onnxruntime, "engines": engines.run_engines,
    }  # fmt: skip
    return functions[name]


def run_section(name: str, machine: "Machine") -> dict[str, Any]:
    """{"status": ok | skipped | failed, "seconds", and "reason" or "results"}; never raises an Exception."""
    from benchmarks.gpu.common import Skip, one_line

    started = time.monotonic()
    report: dict[str, Any]
    try:
        results = section(name)(machine)
        broken = failed_parts(results)
        report = {"status": "failed" if broken else "ok", "results": results}
        report |= {"reason": f"failed: {', '.join(broken)}"} if broken else {}
    except Skip as reason:
        report = {"status": "skipped", "reason": str(reason)}
    except Exception as error:  # one failure must not lose the other sections
        report = {"status": "failed", "reason": one_line(error)}
        report |= {"results": error.results} if hasattr(error, "results") else {}
    return {**report, "seconds": round(time.monotonic() - started, 2)}


def failed_parts(results: Any, path: str = "") -> list[str]:
    """The places in a section's results where a part says "failed" (see benchmarks.gpu.common.attempt)."""
    if not isinstance(results, dict):
        return []
    if "failed" in results:
        return [path]
    return [part for key, value in results.items() for part in failed_parts(value, f"{path}/{key}")]


def describe(machine: str | None, dry: bool) -> dict[str, Any]:
    """Identity of the run: machine, GPU, versions, commit."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"python": platform.python_version(), "cuda_of_torch": torch.version.cuda}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "schema": SCHEMA,
        "machine": machine or gpu or platform.processor() or platform.machine(),
        "gpu": gpu,
        "driver": _output(
            "nvidia-smi", "--query-gpu=driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"
        ),
        "nvcc": (_output("nvcc", "--version") or "").rpartition("release ")[2].partition(",")[0] or None,
        "commit": _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"),
        "versions": versions,
        "cpu_dry_run": dry,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() or None if done.returncode == 0 else None


def build_only() -> int:
    """Exit status: 0 when everything was compiled."""
    from benchmarks.gpu import haar, plugin
    from benchmarks.gpu.common import BUILT, attempt
    from wagi_rt.engines.trt_plans import PLUGIN_LIBRARY

    makers = {haar.LIBRARY: haar.compile_kernels, PLUGIN_LIBRARY: plugin.compile_library,
              plugin.HARNESS: plugin.compile_harness}  # fmt: skip
    results = {
        name: attempt(lambda name=name, make=make: str(make(BUILT / name))) for name, make in makers.items()
    }
    print(json.dumps(results, indent=1))
    return int(any(isinstance(result, dict) for result in results.values()))


def write(report: dict[str, Any], out: Path) -> None:
    """Beside, then renamed: an interrupted run leaves the sections that are done."""
    beside = out.with_name(f".{out.name}.tmp")
    beside.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(beside, out)


def run(args: argparse.Namespace) -> int:
    from benchmarks.gpu.common import Machine

    names = args.sections.split(",") if args.sections else list(SECTIONS)
    if unknown := set(names) - set(SECTIONS):
        return _fail(f"--sections {','.join(sorted(unknown))}: choose from {','.join(SECTIONS)}", 2)
    report = describe(args.machine, args.cpu_dry_run)
    if report["gpu"] is None and not args.cpu_dry_run:
        return _fail("no CUDA GPU that torch can use; try the flow with --cpu-dry-run", 1)
    out = args.out or Path("gpu_check.json")
    if not out.parent.is_dir():
        return _fail(f"--out {out}: the folder does not exist", 2)
    report["sections"] = {}
    deadline = time.monotonic() + args.minutes * 60
    with tempfile.TemporaryDirectory(prefix="wagi-gpu-") as scratch:
        machine = Machine(args.cpu_dry_run, Path(scratch), args.bundle, deadline)
        for name in names:
            _say(f"{name} ...")
            found = report["sections"][name] = run_section(name, machine)
            _say(f"{name}: {found['status']} in {found['seconds']} s {found.get('reason', '')}")
            write(report, out)
    _say(f"written: {out}")
    return int(any(found["status"] == "failed" for found in report["sections"].values()))


def _say(text: str) -> None:
    print(" ".join(text.splitlines()), file=sys.stderr, flush=True)


def _fail(text: str, status: int) -> int:
    _say(f"error: {text}")
    return status


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all sections ran or were skipped, 1 one failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    return build_only() if args.build_only else run(args)


if __name__ == "__main__":
    sys.exit(main())
