"""Compare a bundle with PyTorch: every value with its checkpoint, stored reference values without it.

python export/check_parity.py my-bundle
python export/check_parity.py my-bundle --checkpoint RUN/latest.pt --images photos/
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="check_parity.py", description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder written by to_onnx.py")
    parser.add_argument("--checkpoint", type=Path, metavar="C", help="the checkpoint it was exported from")
    parser.add_argument(
        "--images", type=Path, nargs="+", metavar="FILE", help="with --checkpoint: compare on these"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="with --checkpoint: seed of the images (default 1)"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 when a difference is past the manifest's tolerance."""
    from wagi_rt.errors import UserError

    if args.images and not args.checkpoint:
        raise UserError("--images: only works together with --checkpoint", 2)
    from export.parity import compare, compare_probes, failure, table

    if args.checkpoint:
        from wagi.checkpoint import load_model
        from wagi.conversion.identify import foreign_named
        from wagi_rt import manifest, probes

        with foreign_named():
            model = load_model(args.checkpoint)
        size, wanted = model.generator.size, manifest.read(args.bundle).size
        if size != wanted:
            line = f"is a model of {size} px, the bundle is one of {wanted}; name the one that was exported"
            raise UserError(f"--checkpoint {args.checkpoint}: {line}", 2)
        rows = compare(args.bundle, model, _read(args) if args.images else probes.images(size, args.seed))
    else:
        rows = compare_probes(args.bundle)
    print(table(rows), flush=True)
    if message := failure(rows):
        raise UserError(f"{args.bundle}: {message}; export it again")
    return 0


def _read(args: argparse.Namespace) -> "np.ndarray":
    """The given files as the runtime prepares them, [N, 3, S, S]."""
    import numpy as np

    from wagi_rt.session import Session

    with Session(args.bundle) as session:
        return np.stack([session.prepare(path).image for path in args.images])


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 equal, 1 past the tolerance or unreadable, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "", "export")


if __name__ == "__main__":
    sys.exit(main())
