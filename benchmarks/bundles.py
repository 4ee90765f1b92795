"""Whole inversions, or edits, of several bundles of one model in one interleaved run: what an export changes.

python export/to_onnx.py --checkpoint C -o folded
python export/to_onnx.py --checkpoint C -o wavelet --skip wavelet
python benchmarks/bundles.py folded wavelet --backends onnx,openvino --rounds 7 --out skip.json
python benchmarks/bundles.py BUNDLE --backends openvino,openvino:bf16 --data portraits:9001:32 --out bf16.json
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np

    from wagi_rt.engines.base import Engine
    from wagi_rt.manifest import Manifest

_SEED = 20


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bundles.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("bundles", type=Path, nargs="+", metavar="BUNDLE", help="the others are held against the first")
    add("--backends", default="onnx", metavar="A,B",
        help="of onnx, openvino, openvino:bf16, trt (default onnx)")  # fmt: skip
    add("--batch", type=int, default=1, metavar="N", help="images (default 1)")
    add("--rounds", type=int, default=7, metavar="N", help="interleaved rounds (default 7)")
    add("--edits", action="store_true", help="edits of a picture that is open already, not inversions")
    add("--data", metavar="DATA",
        help="DIR or portraits:SEED:COUNT: PSNR of inversions and edits of each of these too")  # fmt: skip
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
    head = {"command": _command(args), "machine": processor(), "commit": commit(), "size": found[0].size}
    head |= {"precision": found[0].precision, "batch": args.batch}
    head |= {"rounds": args.rounds, "threads": args.threads}
    if args.out:
        write_json(args.out, {"schema": 1, **head, "rows": rows})
    where = f"{head['machine']}, {args.threads} threads, batch {args.batch}"
    names = ["inversions", "edits"] if args.data else []
    titles = ["p50 ms", "ratio", "CPU ratio", "PSNR dB", *(f"{name}: least, mean dB" for name in names)]
    print(f"| {where} | backend | {' | '.join(titles)} |")
    print("| --- " * (2 + len(titles)) + "|")
    for row in rows:
        numbers = f"{row['p50']:.4g} | {row['ratio']:.3f} | {row['cpu_ratio']:.3f} | {row['psnr_db']:.1f}"
        for values in (row["pictures_db"][name] for name in names):
            numbers += f" | {min(values):.1f}, {sum(values) / len(values):.1f}"
        print(f"| {row['bundle']} | {row['backend']} | {numbers} |")


def _command(args: argparse.Namespace) -> str:
    """As typed, without the folders of this machine."""
    words = ["python benchmarks/bundles.py", *(path.name for path in args.bundles)]
    words += [f"--data {Path(args.data).name}"] if args.data else []
    words += ["--edits"] if args.edits else []
    words += [f"--{name} {getattr(args, name)}" for name in ("backends", "batch", "rounds", "threads")]
    return " ".join(words)


Key = tuple[str, str]  # backend, bundle


def measure(args: argparse.Namespace, bundles: list[Manifest], images: np.ndarray) -> list[dict[str, Any]]:
    """One row for each bundle and backend: ms, ratios of medians (wall, CPU) and PSNR to the row that it is
    held against."""
    from benchmarks.timing import interleave, statistics
    from export.rows import psnr_db

    engines = opened(args, bundles)
    works = {key: call(engine, images, args.edits) for key, engine in engines.items()}
    results = {key: work() for key, work in works.items()}
    samples = interleave(works, args.rounds, warmup=1)
    rows = []
    for key, times in samples.items():
        first = against(key, list(engines))
        found, base = times.statistics(), samples[first].statistics()
        cpu, of = (statistics(one.cpu)["p50"] for one in (times, samples[first]))
        found |= {"ratio": round(found["p50"] / base["p50"], 4), "cpu_ms": cpu}
        found |= {"cpu_ratio": round(cpu / of, 4), "psnr_db": round(psnr_db(results[key], results[first]), 2)}
        rows.append({"bundle": Path(key[1]).name, "backend": key[0], **found})
    if args.data:
        for row, found in zip(rows, by_picture(engines, args.data).values(), strict=True):
            row["pictures_db"] = found
    for engine in engines.values():
        engine.close()
    return rows


def call(engine: Engine, images: np.ndarray, edits: bool) -> Callable[[], np.ndarray]:
    """An inversion, or an edit of the opened images, as a call."""
    from wagi_rt import probes

    chain = engine.manifest.edit_chain if edits else engine.manifest.chain
    given = probes.given(engine, chain, images)
    return lambda: engine.run_chain(chain, given)["result"]


def opened(args: argparse.Namespace, bundles: list[Manifest]) -> dict[Key, Engine]:
    """Every bundle in every backend. UserError for one that cannot be."""
    from wagi_rt.backends import check, open_engine
    from wagi_rt.engines.base import EngineChoice

    engines = {}
    for backend in args.backends.split(","):
        name, _, precision = backend.partition(":")
        check(choice := EngineChoice(name, threads=args.threads, precision=precision or None))
        for path, bundle in zip(args.bundles, bundles, strict=True):
            engines[backend, str(path)] = open_engine(bundle, choice, bundle.chain)[1]
    return engines


def against(key: Key, keys: list[Key]) -> Key:
    """The first bundle by the same backend, in the backend's own precision where that runs too."""
    bundle, own = keys[0][1], key[0].partition(":")[0]
    return (own, bundle) if (own, bundle) in keys else (key[0], bundle)


def by_picture(engines: dict[Key, Engine], data: str) -> dict[Key, dict[str, list[float]]]:
    """PSNR in dB of the inversion and of an edit (wagi_rt.probes.edited) of each picture of the data."""
    from benchmarks.int8 import batches
    from export.int8 import shown
    from export.rows import psnr_db
    from wagi_rt.metrics import PEAK

    found = {key: {"inversions": [], "edits": []} for key in engines}
    size = next(iter(engines.values())).manifest.size
    for image in (one for batch in batches(data, size) for one in batch[:, None]):
        made = {}
        for key, engine in engines.items():
            inversion, edit = shown(engine, image, engine.manifest.chain, engine.manifest.edit_chain)
            made[key] = {"inversions": inversion["result"], "edits": edit["result"]}
        for key, pictures in made.items():
            for name, picture in pictures.items():
                wanted = made[against(key, list(engines))][name]
                found[key][name].append(round(psnr_db(picture, wanted, PEAK), 2))
    return found


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a bundle or backend does not work, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "")


if __name__ == "__main__":
    sys.exit(main())
