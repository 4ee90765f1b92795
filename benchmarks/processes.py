"""Whole processes: time from start to end, and peak memory of the process itself."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.timing import interleave

ROOT = Path(__file__).resolve().parent.parent
# ru_maxrss of a child begins with what its parent held; VmHWM does not.
_PEAK = "next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))"
_CLI = f"import sys; from wagi_rt.cli import main; s = main(sys.argv[1:]); print({_PEAK}); sys.exit(s)"
# The peak of the inversion, not of reading a checkpoint: the kernel forgets the peak at "5".
_REFERENCE = f"""
import gc, sys, numpy, torch
torch.set_num_threads(int(sys.argv[2]))
from benchmarks import reference
from wagi.checkpoint import load_model
model = load_model(sys.argv[1])
size = model.generator.size
gc.collect()
open('/proc/self/clear_refs', 'w').write('5')
reference.invert(model, torch.zeros(1, 3, size, size))
print({_PEAK})
"""
_SEED = 1
# As the installed command starts.
_COMMAND = "from wagi_rt.cli import command; command()"
_IMPORTS = "import numpy, PIL.Image, onnxruntime"


class Failed(Exception):
    """A child process ended with an error; the text is the last line that it said."""


def run_python(*arguments: str, cache: Path | None = None) -> str:
    """stdout of `python ARGUMENTS`, with the checkout on the path."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "runtime")])
    env = {**os.environ, "PYTHONPATH": path} | ({"WAGI_CACHE": str(cache)} if cache else {})
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env)
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["no message"])[-1])
    return done.stdout


def write_photo(folder: Path, size: int) -> Path:
    """A JPEG with detail at every scale."""
    from wagi_rt import pictures, probes

    path = folder / f"photo-{size}.jpg"
    path.write_bytes(pictures.encode(pictures.to_uint8(probes.images(size, _SEED, 1))[0], ".jpg"))
    return path


def _invert(photo: Path, bundle: Path | None, backend: str, precision: str, threads: int) -> list[str]:
    command = ["invert", str(photo), "-o", str(photo.with_name("out.png")), "--overwrite", "-q"]
    command += ["--backend", backend, "--threads", str(threads)]
    command += ["--precision", precision] if precision == "bf16" else []
    return command + (["-m", str(bundle)] if bundle else [])


def measure_runtime(
    photo: Path, bundle: Path, backend: str, precision: str, threads: int, repeats: int = 2
) -> dict[str, float]:
    """`wagi-rt invert one.jpg` as a process: cold_start_ms (the fastest), peak_rss_mb (the largest)."""
    arguments = _invert(photo, bundle, backend, precision, threads)
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        text = run_python("-c", _CLI, *arguments)
        found.append(((time.perf_counter() - started) * 1000, int(text.split()[-1]) * 1024 / 1e6))
    return {
        "cold_start_ms": round(min(t for t, _ in found), 1),
        "peak_rss_mb": round(max(m for _, m in found), 1),
    }


def measure_reference(checkpoint: Path, threads: int) -> dict[str, float]:
    """peak_rss_mb of one inversion in the reference formulation, its weights in memory before."""
    text = run_python("-c", _REFERENCE, str(checkpoint), str(threads))
    return {"peak_rss_mb": round(int(text.split()[-1]) * 1024 / 1e6, 1)}


def cold_start(scratch: Path, threads: int, rounds: int) -> dict[str, float]:
    """The embedded model from a cold process, beside what no process can avoid; medians in ms, interleaved.

    invert: `wagi-rt invert one.jpg`, its cache of optimised graphs filled. imports: a process that imports
    numpy, Pillow and ONNX Runtime. run: an inversion in a warm session.
    """
    import wagi_rt
    from wagi_rt import probes

    with wagi_rt.load(threads=threads) as session:
        photo = write_photo(scratch, session.size)
        images = probes.images(session.size, _SEED, 1)
        samples = interleave(
            {
                "invert": lambda: run_python(
                    "-c", _COMMAND, *_invert(photo, None, "onnx", "fp32", threads), cache=scratch / "cache"
                ),
                "imports": lambda: run_python("-c", _IMPORTS),
                "run": lambda: session.restore(images),
                "help": lambda: run_python("-c", _COMMAND, "--help"),
                "argparse": lambda: run_python("-c", "import argparse"),
            },
            rounds,
            warmup=1,
        )
    found = {f"{name}_ms": round(statistics.median(times.wall), 2) for name, times in samples.items()}
    found["invert_ratio"] = round(found["invert_ms"] / (found["imports_ms"] + found["run_ms"]), 3)
    found["help_ratio"] = round(found["help_ms"] / found["argparse_ms"], 3)
    return found
