"""Latency of whole inversions: every backend, precision and batch in one interleaved run, beside the floor.

python benchmarks/latency.py                                        # the embedded model
python benchmarks/latency.py --size 1024,256 --batch 1,4 --rounds 7 --out cpu.json
python benchmarks/latency.py --size 1024 --gpu --out gpu.json

Random models and their bundles are made once and kept in --work. Prints Markdown tables; --out writes JSON.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import os
import platform
import sys
import tempfile
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

SCHEMA = 1
_CPU_BACKENDS, _GPU_BACKENDS = "reference,onnx,onnx-graphs,openvino", "reference,eager,graph"
_PACKAGES = ("wagi", "numpy", "pillow", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "torch",
             "tensorrt-lean-cu13")  # fmt: skip
_SECTIONS = ("edits", "memory", "cold-start")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latency.py",
        description=(__doc__ or "").split("\n")[0],
        epilog=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--size", type=_words, metavar="A,B", help="random models of these sizes: 1024, 256, 128, 64, 32")
    add(
        "--encoder",
        choices=("e4e", "small"),
        help="of the random models (default: the preset's, e4e from 256 px)",
    )
    add("--set", action="append", default=[], metavar="NAME=VALUE",
        help="a model setting of the random models: aligner=flow, full_detail=true")  # fmt: skip
    add("--bundle", type=Path, metavar="DIR", help="measure this bundle (default: the embedded model)")
    add("--backends", type=_words, metavar="A,B",
        help="of reference, eager, compile, graph, onnx, onnx-graphs, openvino, openvino-graphs, trt "
        f"(default {_CPU_BACKENDS}; with --gpu {_GPU_BACKENDS})")  # fmt: skip
    add("--precisions", type=_words, metavar="A,B",
        help="of fp32, fp16-weights, bf16, fp16; each for the backends that have it (default: the bundle's; "
        "with --gpu fp32,fp16)")  # fmt: skip
    add("--batch", type=_words, default=["1"], metavar="A,B",
        help="batch sizes; PyTorch and edits run the first only (default 1)")  # fmt: skip
    add("--rounds", type=int, default=7, metavar="N", help="measured rounds (default 7)")
    add("--warmup", type=int, default=1, metavar="N", help="rounds before the clock starts (default 1)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: one per core that may be used)")
    add("--gpu", action="store_true", help="measure on the CUDA GPU; one line and exit 0 where there is none")
    add("--without", type=_words, default=[], metavar="A,B",
        help="leave out edits (of opened pictures, and video frames), memory, cold-start")  # fmt: skip
    add("--machine", metavar="NAME", help="the machine's name in the report (default: the processor's)")
    add("--work", type=Path, default=ROOT / "build" / "bench", metavar="DIR",
        help="folder of the random models (default build/bench)")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    return parser


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def check(args: argparse.Namespace) -> None:
    """UserError (status 2) naming the option that cannot be."""
    from benchmarks.candidates import BACKENDS, SERIES
    from benchmarks.models import SIZES
    from wagi_rt.errors import UserError

    args.backends = args.backends or _words(_GPU_BACKENDS if args.gpu else _CPU_BACKENDS)
    args.threads = args.threads or len(os.sched_getaffinity(0))
    known = {
        "size": list(map(str, SIZES)),
        "backends": list(BACKENDS),
        "precisions": SERIES,
        "without": _SECTIONS,
    }
    for option, values in known.items():
        if unknown := [value for value in getattr(args, option) or [] if value not in values]:
            raise UserError(f"--{option} {','.join(unknown)}: choose from {', '.join(values)}", 2)
    if not all(value.isdecimal() and int(value) for value in args.batch) or not args.batch:
        raise UserError(f"--batch {','.join(args.batch)}: whole numbers of at least 1", 2)
    if args.rounds < 1 or args.warmup < 0 or args.threads < 1:
        raise UserError("--rounds and --threads must be at least 1, --warmup at least 0", 2)
    if args.bundle and args.size:
        raise UserError("--bundle: not together with --size, which makes bundles of its own", 2)
    if args.set and not args.size:
        raise UserError("--set: is for random models; name their --size", 2)
    if args.out and not args.out.parent.is_dir():
        raise UserError(f"--out {args.out}: the folder does not exist", 2)


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Machine, versions and command: the head of the report."""
    import torch

    from benchmarks.machine import commit, processor

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    gpu = torch.cuda.get_device_name() if args.gpu else None
    return {
        "schema": SCHEMA,
        "command": _command(args),
        "machine": args.machine or gpu or processor(),
        "device": "cuda" if args.gpu else "cpu",
        "gpu": gpu,
        "threads": args.threads,
        "warmup": args.warmup,
        "iterations": args.rounds,
        "versions": versions,
        "commit": commit(),
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "models": [],
    }


def _command(args: argparse.Namespace) -> str:
    """As typed, without the folders of this machine."""
    words = ["python benchmarks/latency.py"]
    for name in (
        "size",
        "encoder",
        "bundle",
        "backends",
        "precisions",
        "batch",
        "rounds",
        "warmup",
        "threads",
    ):
        value = getattr(args, name)
        if value is not None:
            shown = (
                ",".join(value)
                if isinstance(value, list)
                else Path(value).name
                if name == "bundle"
                else value
            )
            words.append(f"--{name} {shown}")
    words += [f"--set {text}" for text in args.set]
    return " ".join(words + (["--gpu"] if args.gpu else []))


def run(args: argparse.Namespace) -> int:
    """Measure model after model; the file is complete after each."""
    import torch

    from benchmarks.measure import measure
    from benchmarks.processes import cold_start
    from benchmarks.report import text
    from wagi.files import write_json

    check(args)
    if args.gpu and not torch.cuda.is_available():
        say("--gpu: skipped, PyTorch finds no CUDA GPU here")
        return 0
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    report = describe(args)
    with tempfile.TemporaryDirectory(prefix="wagi-bench-") as scratch:
        for size in args.size or [None]:
            report["models"].append(measure(args, size and int(size), Path(scratch), say))
            gc.collect()
            if args.out:
                write_json(args.out, report)
        if "cold-start" not in args.without and not args.gpu:
            say("cold start")
            report["cold_start"] = cold_start(Path(scratch), args.threads, args.rounds)
    if args.out:
        write_json(args.out, report)
    print(text(report))
    return 0


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done or no GPU, 1 a step failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; models that were finished are in --out")


if __name__ == "__main__":
    sys.exit(main())
