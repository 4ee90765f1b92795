"""Train the stand-in networks that judge rendered portraits. The same command again goes on.

python -m wagi.portraits --memmap --size 128 --count 10000 --seed 1 --out data
python -m wagi.standins attributes --data data --out runs/attributes
python -m wagi.standins identity --data identities:20:384:8 \\
    --init runs/attributes/portraits-attributes.safetensors --out runs/identity
python -m wagi.standins clip --data data \\
    --init runs/attributes/portraits-attributes.safetensors --out runs/clip
"""

import argparse
import json
import sys
from pathlib import Path

from wagi.errors import UserError, run_command

# Steps, batch and rate with which the shipped weights were made.
DEFAULTS = {"attributes": (2000, 32, 4e-3), "identity": (900, 64, 2e-3), "clip": (1500, 64, 2e-3)}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.standins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("network", choices=tuple(DEFAULTS), help="what to train")
    p.add_argument(
        "--data", required=True,
        help="attributes and clip: a folder of portraits with memmaps; identity: identities:SEED:COUNT:VIEWS",
    )  # fmt: skip
    p.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the run")
    p.add_argument(
        "--init", type=Path, metavar="FILE", help="identity, clip: attribute weights to start from"
    )
    p.add_argument("--steps", type=int, help="optimiser steps (default 2000, 900 or 1500)")
    p.add_argument("--batch", type=int, help="images per step (default 32, 64 or 64)")
    p.add_argument("--lr", type=float, help="highest learning rate (default 4e-3, 2e-3 or 2e-3)")
    p.add_argument("--seed", type=int, default=0, help="of start weights and order (default 0)")
    p.add_argument("--threads", type=int, default=1, help="CPU threads of the arithmetic (default 1)")
    p.add_argument("--workers", type=int, default=1, help="identity: processes that render (default 1)")
    return p


def run(args: argparse.Namespace) -> None:
    """Train, then print the verification as JSON."""
    steps, batch, lr = (
        given if given is not None else default
        for given, default in zip((args.steps, args.batch, args.lr), DEFAULTS[args.network], strict=True)
    )
    for name, value in (("steps", steps), ("batch", batch), ("lr", lr), ("threads", args.threads)):
        if value <= 0:
            raise UserError(f"--{name} {value}: must be greater than 0", 2)
    if args.init and args.network == "attributes":
        raise UserError("--init: is for identity and clip only", 2)
    import torch

    from wagi.standins import train

    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    common = {"steps": steps, "batch": batch, "lr": lr, "seed": args.seed}
    if args.network == "attributes":
        report = train.train_attributes(args.data, args.out, **common)
    elif args.network == "clip":
        from wagi.standins.train_clip import train_clip

        report = train_clip(args.data, args.init, args.out, **common)
    else:
        report = train.train_identity(args.data, args.init, args.out, workers=args.workers, **common)
    print(json.dumps(report, indent=1))


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return run_command(lambda: run(args), "; run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
