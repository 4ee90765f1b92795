"""`python -m wagi.portraits --out DIR --count N --size S --seed K`: render a data set of portraits."""

import argparse
import sys
from pathlib import Path

from wagi.errors import UserError, run_command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m wagi.portraits",
        description="Render portraits with known parameters. A stopped run goes on by the same command.",
    )
    result.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to fill")
    result.add_argument(
        "--count", type=int, default=64, metavar="N", help="number of portraits, or scenes (default 64)"
    )
    result.add_argument("--size", type=int, default=128, metavar="S", help="pixels per side (default 128)")
    result.add_argument("--seed", type=int, default=1, metavar="K", help="data set seed (default 1)")
    result.add_argument(
        "--memmap", action="store_true", help="numpy memmaps with regions and parameters, for training"
    )
    what = result.add_mutually_exclusive_group()
    what.add_argument(
        "--edited", action="store_true", help="instead of each portrait, its true edit (yaw, smile, ...)"
    )
    what.add_argument(
        "--scenes", action="store_true",
        help="each portrait five times, with two other appearances, turned, and both: every pair is an edit",
    )  # fmt: skip
    result.add_argument("--workers", type=int, default=1, metavar="W", help="processes (default 1)")
    result.add_argument("--quiet", action="store_true", help="no progress bar")
    return result


def _check(arguments: argparse.Namespace) -> None:
    for name, low, high in (
        ("count", 1, 10_000_000),
        ("size", 16, 1024),
        ("seed", 0, 2**62),
        ("workers", 1, 512),
    ):
        value = getattr(arguments, name)
        if not low <= value <= high:
            raise UserError(f"--{name} {value}: must be between {low} and {high}", status=2)


def run(arguments: argparse.Namespace) -> None:
    """Render, and say where the pictures are."""
    _check(arguments)
    from wagi.portraits.dataset import Settings, generate
    from wagi.portraits.edits import PER_SCENE

    pictures = arguments.count * (PER_SCENE if arguments.scenes else 1)
    settings = Settings(
        pictures, arguments.size, arguments.seed, arguments.memmap,
        edited=arguments.edited, scenes=arguments.scenes,
    )  # fmt: skip
    rendered = generate(arguments.out, settings, arguments.workers, progress=not arguments.quiet)
    sheet = arguments.out / "contact_sheet.png"
    print(f"{pictures} portraits ({rendered} rendered now) in {arguments.out}; look at {sheet}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: run(arguments), "; run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
