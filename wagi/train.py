"""Train one stage of a model. The same command again resumes a run that was stopped.

python -m wagi.train generator --preset portraits-64 --data DATA --out runs/g
python -m wagi.train encoder   --preset portraits-64 --data DATA --generator runs/g/checkpoint.pt --out runs/e
python -m wagi.train inversion --preset portraits-64 --data DATA --encoder runs/e/checkpoint.pt --out runs/i

In place of the inversion, to compare with: hypernetwork, which is HyperStyle's.
"""

import argparse
import sys

from wagi.errors import UserError, run_command


def parser() -> argparse.ArgumentParser:
    from wagi.config import STAGES
    from wagi.presets import CONFIGURATIONS, PRESETS

    p = argparse.ArgumentParser(
        prog="python -m wagi.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("stage", choices=STAGES, help="what to train; the first three in this order")
    p.add_argument("--preset", required=True, help=", ".join(PRESETS))
    p.add_argument(
        "--data",
        help="folder of images, or of portraits from `python -m wagi.portraits --memmap`, or "
        "celeba-hq:FOLDER:train",
    )
    p.add_argument(
        "--edited", metavar="DIR", help="inversion: true edits of the portraits (wagi.portraits --edited)"
    )
    p.add_argument(
        "--photos", metavar="DIR", help="inversion, aligner=flow: photographs for the share `textures`"
    )
    p.add_argument(
        "--validation", metavar="DIR|LISTFILE",
        help="pictures of the validation loss and the grids: data as --data, or a text file with a path per "
        "line, absolute or below --data; no step trains on them (default: the setting holdout)",
    )  # fmt: skip
    p.add_argument("--out", help="folder of the run: checkpoint.pt, metrics.jsonl, tensorboard/, grids/")
    p.add_argument(
        "--init", metavar="CKPT", help="start from the weights there that fit by name and shape (growing)"
    )
    p.add_argument("--init-parts", default="", help="only these parts of it, e.g. fusion (default: all)")
    p.add_argument(
        "--generator", metavar="CKPT", help="checkpoint with the frozen G0 (and the encoder's start)"
    )
    p.add_argument(
        "--encoder", metavar="CKPT", help="checkpoint with the frozen E0 (and G0, without --generator)"
    )
    p.add_argument(
        "--teacher",
        metavar="CKPT",
        help="encoder: a trained E0 of the same G0, towards whose codes lambda_teacher draws the new one's",
    )
    p.add_argument("--configuration", default="", help=f"the paper's ablation: {', '.join(CONFIGURATIONS)}")
    p.add_argument("--batch", help="images per optimiser step, over all processes")
    p.add_argument("--lr", help="learning rate")
    length = p.add_mutually_exclusive_group()
    length.add_argument("--kimg", help="length of the run in thousands of images")
    length.add_argument("--steps", help="length of the run in optimiser steps")
    p.add_argument("--seed", help="of start weights, data order and noise")
    p.add_argument("--precision", help="fp32, bf16 or fp16 (autocast)")
    p.add_argument("--accumulate", help="micro-batches per optimiser step; batch stays the total")
    p.add_argument("--log-every", metavar="STEPS", help="a line of means, on stderr and in metrics.jsonl")
    p.add_argument("--save-every", metavar="STEPS", help="RUN/checkpoint.pt, with all that resuming needs")
    p.add_argument("--grid-every", metavar="STEPS", help="validation loss, numbers and a picture grid")
    p.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of --dry-run"
    )
    p.add_argument("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    p.add_argument(
        "--threads", type=int, default=0, help="CPU threads of the arithmetic (default: PyTorch's)"
    )
    p.add_argument(
        "--workers", type=int, default=0, help="threads that decode images ahead (default 0: none)"
    )
    p.add_argument(
        "--arcface",
        "--irse50",
        metavar="FILE",
        help="public ArcFace IR-SE50 weights: identity loss, e4e's start",
    )
    p.add_argument("--lpips-trunk", metavar="FILE", help="public AlexNet weights for LPIPS")
    p.add_argument("--lpips-linear", metavar="FILE", help="public LPIPS v0.1 linear weights")
    p.add_argument("--dry-run", action="store_true", help="print the settings and stop")
    return p


def overrides(args: argparse.Namespace) -> dict[str, str]:
    """`--set` texts, and the short options on top of them."""
    from wagi import config

    texts = config.named(args.set)
    for name in (
        "batch",
        "lr",
        "kimg",
        "seed",
        "precision",
        "accumulate",
        "log_every",
        "save_every",
        "grid_every",
    ):
        if (value := getattr(args, name)) is not None:
            texts[name] = value
    return texts


def run(args: argparse.Namespace) -> int:
    from wagi import config
    from wagi.conversion.identify import foreign_named
    from wagi.features import FeatureFiles
    from wagi.training import setup

    model, train = config.settings(args.preset, args.stage, overrides(args), args.configuration)
    if args.steps is not None:
        try:
            kimg = int(args.steps) * train.batch / 1000
        except ValueError:
            raise UserError(f"--steps {args.steps}: not a whole number", 2) from None
        model, train = config.apply_overrides(model, train, {"kimg": repr(kimg)})
    options = setup.RunOptions(
        args.stage, args.preset, args.data, args.out, args.edited, args.init, args.init_parts, args.generator,
        args.encoder, args.device, args.threads, args.workers,
        FeatureFiles(args.lpips_trunk, args.lpips_linear, args.arcface), args.photos, args.teacher,
        args.validation, frozenset(overrides(args)),
    )  # fmt: skip
    if args.dry_run:
        setup.print_settings(options, model, train)
        return 0
    for option in ("data", "out"):
        if not getattr(args, option):
            raise UserError(f"--{option}: is needed", 2)
    with foreign_named():
        return setup.train(options, model, train)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return run_command(lambda: run(args), " before the first step")


if __name__ == "__main__":
    sys.exit(main())
