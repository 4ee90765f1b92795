"""PNG encoders' settings by bytes and time, interleaved; all lossless.

python benchmarks/png.py                                              # the embedded photo at 1024 px
python benchmarks/png.py --image A.jpg --size 1024 --rounds 15 --out benchmarks/results/png.json

Every setting's file is read back and must be the picture. Times are CPU time, the median of the rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]

_STRATEGIES = {"default": 0, "filtered": 1, "huffman": 2, "rle": 3}  # of zlib


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="png.py",
        description=(__doc__ or "").split("\n")[0],
        epilog=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="a photo (default: the embedded model's)")
    parser.add_argument("--size", type=int, default=1024, metavar="S", help="of the square (default 1024)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="measured rounds (default 7)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table as JSON")
    return parser


def settings(image: object) -> dict[str, Callable[[], bytes]]:
    """{name: encoder of the Pillow image} of Pillow's levels and strategies."""

    def encode(level: int, strategy: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=level, compress_type=strategy)  # type: ignore[attr-defined]
        return buffer.getvalue()

    pairs = [(level, name) for level in (1, 2, 3, 6) for name in ("default", "filtered")]
    pairs += [(1, "huffman"), (1, "rle")]
    return {
        f"level {level}, {name}": lambda level=level, name=name: encode(level, _STRATEGIES[name])  # type: ignore[misc]
        for level, name in pairs
    }


def measure(image: object, rounds: int) -> list[dict[str, object]]:
    """One row for each setting; RuntimeError for one that loses something."""
    import numpy as np
    from PIL import Image

    works = settings(image)
    times: dict[str, list[float]] = {name: [] for name in works}
    sizes = {}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            data = work()
            times[name].append(1e3 * (time.process_time() - start))
            sizes[name] = len(data)
            if not np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(image)):
                raise RuntimeError(f"{name}: the file is another picture")
    return [
        {"setting": name, "bytes": sizes[name], "cpu_ms": round(statistics.median(times[name]), 2)}
        for name in works
    ]


def run(args: argparse.Namespace) -> int:
    from PIL import Image, features

    from benchmarks.machine import commit, processor
    from benchmarks.report import table
    from wagi.files import write_json
    from wagi_rt import decoding, manifest, pictures
    from wagi_rt.errors import UserError

    if args.rounds < 1 or args.size < 1:
        raise UserError("--rounds and --size must be at least 1", 2)
    path = args.image or next((manifest.embedded() / "photo").glob("*.*g"))
    image = Image.fromarray(pictures.fit_square(decoding.decode(path), args.size))
    rows = measure(image, args.rounds)
    report = {
        "command": f"python benchmarks/png.py --size {args.size} --rounds {args.rounds}",
        "machine": processor(),
        "pillow": Image.__version__,
        "zlib_ng": features.version("zlib_ng") or features.version("zlib"),
        "picture": f"{path.name} at {args.size} px",
        "commit": commit(),
        "rows": rows,
    }
    if args.out:
        write_json(args.out, report)
    print(json.dumps({key: value for key, value in report.items() if key != "rows"}))
    print(table(["setting", "bytes", "CPU ms"], [[str(value) for value in row.values()] for row in rows]))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a step failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
