"""Draw scenes of edits with a generator: pairs for training the flow aligner that need no labels.

python -m wagi.scenes --model CKPT --directions DIR --views yaw pitch --out DIR --count 2000

A scene is G0(w), two edits of appearance G0(w + a d), a turn G0(w + b t), and the first edit turned.
`python -m wagi.train inversion --set aligner=flow` takes the folder as --data.
"""

import argparse
import sys
from pathlib import Path

from wagi.errors import UserError, run_command


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.scenes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("--model", required=True, type=Path, metavar="CKPT", help="checkpoint of any stage with a generator")
    add("--directions", required=True, type=Path, metavar="DIR", help="folder of directions in its latents")
    add("--views", required=True, nargs="+", metavar="NAME",
        help="directions that turn; all others are taken to leave everything where it is")  # fmt: skip
    add("--out", required=True, type=Path, metavar="DIR", help="folder to fill")
    add("--count", type=int, default=1000, metavar="N",
        help="scenes; training reads them by 25 (default 1000)")  # fmt: skip
    add("--seed", type=int, default=1, metavar="K", help="of latents and edits (default 1)")
    add("--truncation", type=float, default=1.0, metavar="T",
        help="draw W's samples towards its mean: 0.7 for instance (default 1: not)")  # fmt: skip
    add("--strength", type=float, default=1.0, metavar="X",
        help="reach of directions without a measured range, from -X to X (default 1)")  # fmt: skip
    add("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    add("--threads", type=int, default=0, help="CPU threads (default: PyTorch's)")
    add("--quiet", action="store_true", help="no progress bar")
    return p


def check(args: argparse.Namespace) -> None:
    """Refuse values that cannot work. Raises UserError, status 2."""
    for name, low, high in (("count", 1, 10_000_000), ("seed", 0, 2**62)):
        if not low <= getattr(args, name) <= high:
            raise UserError(f"--{name} {getattr(args, name)}: must be between {low} and {high}", 2)
    for name, high in (("truncation", 1), ("strength", 1000)):
        if not 0 < getattr(args, name) <= high:
            raise UserError(f"--{name} {getattr(args, name):g}: must be above 0, at most {high}", 2)
    if not args.directions.is_dir():
        raise UserError(f"--directions {args.directions}: no such folder", 2)


def run(args: argparse.Namespace) -> None:
    """Draw, and say where the pictures are. Raises UserError."""
    check(args)
    import torch

    from wagi import checkpoint
    from wagi.training import drawn, setup

    if args.threads:
        torch.set_num_threads(args.threads)
    device, content = setup.device(args.device), checkpoint.read(args.model)
    param_dim = checkpoint.model_config(content, args.model).param_dim
    drawn.check_parameters(param_dim, args.model)
    generator = checkpoint.build_loaded(content, "generator", args.model)
    origin = checkpoint.weights_hash(generator)
    edits = drawn.read_edits(args.directions, args.views, args.strength, generator, origin)  # type: ignore[arg-type]
    scenes = drawn.Scenes(generator.to(device), edits, args.seed, param_dim, args.truncation)  # type: ignore[arg-type]
    new = drawn.generate(args.out, scenes, args.count, origin, not args.quiet)
    print(f"{args.count} scenes ({new} drawn now) in {args.out}; look at {args.out / 'contact_sheet.png'}")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the work failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    return run_command(lambda: run(args), "; run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
