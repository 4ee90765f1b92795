"""Compare a bundle with PyTorch in ONNX Runtime: compare.py with `--backends onnx --batches 3`.

python export/check_parity.py my-bundle
python export/check_parity.py my-bundle --checkpoint RUN/latest.pt --images photos/
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not

PRESET = ["--backends", "onnx", "--batches", "3"]


def parser() -> argparse.ArgumentParser:
    from export.compare import add_common

    parser = argparse.ArgumentParser(prog="check_parity.py", description=(__doc__ or "").split("\n")[0])
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 equal, 1 past the tolerance or unreadable, 2 wrong usage."""
    words = sys.argv[1:] if argv is None else argv
    parser().parse_args(words)
    from export import compare

    return compare.main([*words, *PRESET])


if __name__ == "__main__":
    sys.exit(main())
