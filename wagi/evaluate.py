"""Measure a model by a named protocol, or repeat one of the paper's experiments.

python -m wagi.evaluate --model runs/i/checkpoint.pt --data portraits:9001:500 --protocol portraits
python -m wagi.evaluate --model BUNDLE --data photos --protocol wagi --arcface model_ir_se50.pth --out results
python -m wagi.evaluate --model runs/i/checkpoint.pt --data celeba-hq:CelebAMask-HQ --protocol wagi
python -m wagi.evaluate EXPERIMENT --help
"""

import argparse
import importlib
import json
import shlex
import sys
from pathlib import Path

from wagi.errors import UserError, run_command


def parser() -> argparse.ArgumentParser:
    """The command line of an evaluation; experiments have their own."""
    from wagi.evaluation.protocols import PROTOCOLS
    from wagi.experiments import EXPERIMENTS

    protocols = "\n".join(f"  {p.name:<20}{p.summary}" for p in PROTOCOLS.values())
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate",
        description=__doc__,
        epilog=f"protocols:\n{protocols}\n\nexperiments:\n  {', '.join(EXPERIMENTS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("--model", required=True, type=Path, metavar="CHECKPOINT|BUNDLE", help="what to measure")
    add("--data", required=True, metavar="DATA",
        help="folder of images, folder of rendered portraits, portraits:SEED:COUNT, or CelebA-HQ's official "
        "split, celeba-hq:FOLDER[:train|val|test] (README, Evaluate)")  # fmt: skip
    add("--protocol", required=True, metavar="NAME", help=", ".join(PROTOCOLS))
    add("--out", type=Path, metavar="DIR", help="also write evaluation.json and evaluation.txt there")
    add("--per-image", action="store_true", help="also write DIR/images.csv, one line per image")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--batch", type=int, default=8, metavar="N", help="images at a time (default 8)")
    add("--limit", type=int, default=0, metavar="N", help="the first N images only (default 0: all)")
    add("--lpips-trunk", type=Path, metavar="FILE", help="public AlexNet weights for LPIPS")
    add("--lpips-linear", type=Path, metavar="FILE", help="public LPIPS v0.1 linear weights")
    add("--arcface", "--irse50", type=Path, metavar="FILE", help="public ArcFace IR-SE50 weights for ID")
    add("--fid-network", type=Path, metavar="FILE",
        help="TorchScript network for FID (inception-2015-12-05.pt); the program in it is run")  # fmt: skip
    add("--device", default="", help="of PyTorch: cpu or cuda (default: cuda where there is one)")
    add("--threads", type=int, default=0, help="CPU threads of the arithmetic (default: PyTorch's)")
    add("--runtime", default="", metavar="OPTIONS",
        help="for a bundle: further options of `wagi-rt invert`, in quotes")  # fmt: skip
    add("-q", "--quiet", action="store_true", help="no progress bar")
    return p


def run(args: argparse.Namespace, command: str = "") -> None:
    """Measure, write, print. Raises UserError."""
    from wagi.evaluation.protocols import find

    protocol = find(args.protocol)
    if args.batch < 1:
        raise UserError(f"--batch {args.batch}: must be at least 1", 2)
    if args.per_image and not args.out:
        raise UserError("--per-image: needs --out DIR", 2)
    import torch

    from wagi.conversion.identify import foreign_named
    from wagi.evaluation import inverters, measure, report
    from wagi.features import FeatureFiles

    if args.threads:
        torch.set_num_threads(args.threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    with foreign_named():
        inverter = inverters.open_inverter(args.model, args.batch, device, args.runtime)
    files = FeatureFiles(args.lpips_trunk, args.lpips_linear, args.arcface, args.fid_network)
    found, rows = measure.evaluate(
        inverter, args.data, protocol, files, args.batch, args.limit, device, command, not args.quiet
    )
    if args.out:
        report.write(args.out, found, rows if args.per_image else None)
    print(json.dumps(found, indent=1) if args.json else report.table(found))


def _experiment(name: str, *words: str) -> None:
    from wagi.conversion.identify import foreign_named
    from wagi.experiments import EXPERIMENTS

    experiment = importlib.import_module(EXPERIMENTS[name])
    args = experiment.parser().parse_args(words)
    with foreign_named():
        experiment.run(args)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the work failed, 2 wrong usage."""
    from wagi.experiments import EXPERIMENTS

    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in EXPERIMENTS:
        return run_command(lambda: _experiment(*words), "; run the same command again to go on")
    args = parser().parse_args(words)
    command = shlex.join(["python", "-m", "wagi.evaluate", *words])
    return run_command(lambda: run(args, command), "; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
