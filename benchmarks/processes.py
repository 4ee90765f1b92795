"""Whole processes: time from start to end, and peak memory of the process itself."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

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


class Run(NamedTuple):
    """The way that a process of the runtime works."""

    bundle: Path | None
    backend: str
    precision: str
    threads: int


def _command(run: Run, *words: str) -> list[str]:
    command = [*words, "--overwrite", "-q", "--backend", run.backend, "--threads", str(run.threads)]
    command += ["--precision", run.precision] if run.precision == "bf16" else []
    return command + (["-m", str(run.bundle)] if run.bundle else [])


def _invert(photo: Path, run: Run) -> list[str]:
    return _command(run, "invert", str(photo), "-o", str(photo.with_name("out.png")))


def measure_runtime(photo: Path, run: Run, repeats: int = 2) -> dict[str, float]:
    """`wagi-rt invert one.jpg` as a process: cold_start_ms (the fastest), peak_rss_mb (the largest).

    first_use_ms and first_use_rss_mb are of the run before those, which fills the cache.
    """
    return _measured(_invert(photo, run), repeats)


def measure_edit(photo: Path, run: Run, repeats: int = 1) -> dict[str, float]:
    """The same of `wagi-rt edit one.jpg --direction FILE=1`, along any direction of the model's latents."""
    from wagi_rt import manifest
    from wagi_rt.directions import Direction, write

    shape = (found := manifest.read(run.bundle)).n_latent, found.style_dim
    path = photo.with_name(f"any-{found.size}.safetensors")
    write(path, Direction("any", np.full(shape, 0.1, np.float32)))
    words = ["edit", str(photo), "-o", str(photo.with_name("edited.png")), "--direction", f"{path}=1"]
    return _measured(_command(run, *words), repeats)


def _measured(arguments: list[str], repeats: int) -> dict[str, float]:
    found = []
    with tempfile.TemporaryDirectory(prefix="wagi-cache-") as cache:
        for _ in range(1 + repeats):
            started = time.perf_counter()
            text = run_python("-c", _CLI, *arguments, cache=Path(cache))
            found.append(((time.perf_counter() - started) * 1000, int(text.split()[-1]) * 1024 / 1e6))
    (first_ms, first_mb), *later = found
    return {
        "first_use_ms": round(first_ms, 1),
        "first_use_rss_mb": round(first_mb, 1),
        "cold_start_ms": round(min(t for t, _ in later), 1),
        "peak_rss_mb": round(max(m for _, m in later), 1),
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
        images, cache = probes.images(session.size, _SEED, 1), scratch / "cache"
        samples = interleave(
            {
                "invert": lambda: run_python(
                    "-c", _COMMAND, *_invert(photo, Run(None, "onnx", "fp32", threads)), cache=cache
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
