"""Whole inversions of several bundles of one model in one interleaved run: what an export option changes.

python export/to_onnx.py --checkpoint C -o folded
python export/to_onnx.py --checkpoint C -o wavelet --skip wavelet
python benchmarks/bundles.py folded wavelet --backends onnx,openvino --rounds 7 --out skip.json
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np

    from wagi_rt.manifest import Manifest

_SEED = 20


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bundles.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("bundles", type=Path, nargs="+", metavar="BUNDLE", help="the others are held against the first")
    add("--backends", default="onnx", metavar="A,B", help="of onnx, openvino, trt (default onnx)")
    add("--batch", type=int, default=1, metavar="N", help="images (default 1)")
    add("--rounds", type=int, default=7, metavar="N", help="interleaved rounds (default 7)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: one per core that may be used)")
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    return parser


def run(args: argparse.Namespace) -> None:
    from benchmarks.machine import commit, processor
    from wagi.errors import UserError
    from wagi.files import write_json
    from wagi_rt import manifest, probes

    if min(args.batch, args.rounds, args.threads or 1) < 1:
        raise UserError("--batch, --rounds and --threads must be at least 1", 2)
    found = [manifest.read(path) for path in args.bundles]
    if len({(one.size, one.precision) for one in found}) > 1:
        raise UserError("the bundles differ in size or precision; name those of one model", 2)
    args.threads = args.threads or len(os.sched_getaffinity(0))
    rows = measure(args, found, probes.images(found[0].size, _SEED, args.batch))
    head = {"machine": processor(), "commit": commit(), "size": found[0].size}
    head |= {"precision": found[0].precision, "batch": args.batch}
    head |= {"rounds": args.rounds, "threads": args.threads}
    if args.out:
        write_json(args.out, {"schema": 1, **head, "rows": rows})
    where = f"{head['machine']}, {args.threads} threads, batch {args.batch}"
    print(f"| {where} | backend | p50 ms | ratio | CPU ratio | PSNR dB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        numbers = f"{row['p50']:.4g} | {row['ratio']:.3f} | {row['cpu_ratio']:.3f} | {row['psnr_db']:.1f}"
        print(f"| {row['bundle']} | {row['backend']} | {numbers} |")


def measure(args: argparse.Namespace, bundles: list[Manifest], images: np.ndarray) -> list[dict[str, Any]]:
    """One row for each bundle and backend: ms, ratios of medians (wall, CPU) to the first bundle's, PSNR
    against it."""
    from benchmarks.timing import interleave, statistics
    from export.rows import psnr_db
    from wagi_rt.backends import check, open_engine
    from wagi_rt.engines.base import EngineChoice

    engines = {}
    for backend in args.backends.split(","):
        check(choice := EngineChoice(backend, threads=args.threads))
        for path, bundle in zip(args.bundles, bundles, strict=True):
            engines[backend, str(path)] = open_engine(bundle, choice, bundle.chain)[1]
    works = {
        key: lambda engine=engine: engine.run_chain(engine.manifest.chain, {"image": images})["result"]
        for key, engine in engines.items()
    }
    results = {key: work() for key, work in works.items()}
    samples = interleave(works, args.rounds, warmup=1)
    rows = []
    for (backend, name), times in samples.items():
        first = backend, str(args.bundles[0])
        found, base = times.statistics(), samples[first].statistics()
        psnr = psnr_db(results[backend, name], results[first])
        cpu, of = (statistics(one.cpu)["p50"] for one in (times, samples[first]))
        found |= {"ratio": round(found["p50"] / base["p50"], 4), "cpu_ms": cpu}
        found |= {"cpu_ratio": round(cpu / of, 4), "psnr_db": round(psnr, 2)}
        rows.append({"bundle": Path(name).name, "backend": backend, **found})
    for engine in engines.values():
        engine.close()
    return rows


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a bundle or backend does not work, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "")


if __name__ == "__main__":
    sys.exit(main())
