"""Export a trained WaGI checkpoint as a bundle of ONNX graphs, and prove it against PyTorch.

python export/to_onnx.py --checkpoint RUN/latest.pt -o my-bundle
wagi-rt invert photo.jpg --model my-bundle -o out
"""

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from export.int8 import Int8
    from wagi_rt.directions import Direction

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not

_CALIBRATION = 8  # images
_INT8 = 32  # images for ranges, and as many to be judged by
_INT8_HELP = (
    "int8 layers in encoder, or encoder,heads (of the consultation encoder): for CPUs; ranges from the first "
    f"{_INT8} images of --calibrate. Refused where inversions or edits of the first {_INT8} of --held-out "
    "(default: three seeded patterns) have a PSNR below 45 dB against PyTorch in FP32"
)
_HALF_HELP = (
    "compute in half precision, with FP32 where it is sensitive (styles, norms, wavelets, inputs and "
    "outputs): for GPUs. Refused below a PSNR of 55 dB against FP32"
)
_STORE_HELP = (
    "only store the weights in half precision: half the download, the same FP32 arithmetic and speed; for "
    "CPUs. Refused below a PSNR of 55 dB"
)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="to_onnx.py", description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="C", help="inversion checkpoint")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="BUNDLE", help="folder to write")
    half = parser.add_mutually_exclusive_group()
    half.add_argument("--fp16", dest="precision", action="store_const", const="fp16", help=_HALF_HELP)
    half.add_argument(
        "--half-weights", dest="precision", action="store_const", const="fp16-weights", help=_STORE_HELP
    )
    parser.add_argument("--int8", metavar="PARTS", help=_INT8_HELP)
    parser.add_argument(
        "--up-convolution",
        choices=("transposed", "single", "polyphase"),
        default="transposed",
        help="form of the layers that double the resolution; the default is the fastest on CPUs, on GPUs "
        "benchmarks/gpu_check.py measures",
    )
    parser.add_argument(
        "--skip",
        choices=("folded", "wavelet", "plugin"),
        default="folded",
        help="form of the skip path: one transposed convolution (the default), wavelet nodes around an "
        "upsampling, or one node SkipUpsample with a TensorRT plugin; all give the same numbers",
    )
    parser.add_argument(
        "--calibrate",
        metavar="DATA",
        help="compare with PyTorch and measure the largest activations on these: DIR or portraits:SEED:COUNT "
        "(the first 8 images; default: three seeded patterns)",
    )
    parser.add_argument(
        "--held-out",
        metavar="DATA",
        help="measure how far naive inversions are from these pictures, which training has not seen (DIR or "
        "portraits:SEED:COUNT); wagi-rt says of a picture when it is much farther",
    )
    parser.add_argument(
        "--directions",
        type=Path,
        metavar="DIR",
        help="pack the directions of this folder (.safetensors), for wagi-rt edit --set NAME=STRENGTH",
    )
    parser.add_argument(
        "--text",
        type=Path,
        metavar="DIR",
        help="pack the text model that `wagi.directions styleclip` left here, for wagi-rt edit --text",
    )
    parser.add_argument(
        "--styles",
        action="store_true",
        help="let edits move the generator's styles too (directions in style space want it anyway); an "
        "inversion's pictures stay as they are",
    )
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX opset, 18 to 23 (default 20)")
    parser.add_argument(
        "--atol",
        type=float,
        metavar="X",
        help="largest difference from PyTorch allowed (default 1e-3; --half-weights 5e-2, --fp16 2e-1)",
    )
    parser.add_argument("--name", help="the bundle's name (default: the name of the folder)")
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle at BUNDLE")
    return parser


def run(args: argparse.Namespace) -> None:
    """Load, export, print the parity table. Raises a UserError of either package."""
    from wagi_rt.errors import UserError

    if args.atol is not None and not args.atol >= 0:
        raise UserError(f"--atol {args.atol}: must not be negative", 2)
    from export.bundle import ParityError, check_opset, check_target, export_model
    from export.rows import table
    from export.skip import bands
    from export.trace import DEFAULT_OPSET
    from wagi.checkpoint import build_model, model_config, read
    from wagi.config import to_dict
    from wagi.conversion.identify import foreign_named
    from wagi.editing.styleclip import read as read_text
    from wagi.errors import option
    from wagi_rt.manifest import file_sha256

    check_target(args.output, args.overwrite)
    parts = _int8_parts(args)
    opset = args.opset or DEFAULT_OPSET
    check_opset(opset)
    directions = _directions(args.directions) if args.directions else {}
    with option("--text"):
        text = read_text(args.text) if args.text else None
    with foreign_named():
        content = read(args.checkpoint)
    model = build_model(content, args.checkpoint)
    if args.skip != "folded" and bands(model.generator) == 3:
        raise UserError(f"--skip {args.skip}: this generator has no wavelets; use folded", 2)
    size = model.generator.size
    images = next(_batches("--calibrate", args.calibrate, size)) if args.calibrate else None
    int8 = _int8(args, parts, size) if parts else None
    config = to_dict(model_config(content, args.checkpoint))
    source = {
        "checkpoint": args.checkpoint.name,
        "checkpoint_sha256": file_sha256(args.checkpoint),
        "config": config,
        "command": _command(args),
    }
    try:
        found = export_model(
            model,
            args.output,
            args.name or args.output.resolve().name,
            precision=args.precision or "fp32",
            up=args.up_convolution,
            skip=args.skip,
            opset=opset,
            atol=args.atol,
            overwrite=args.overwrite,
            source=source,
            images=images,
            heldout=_batches("--held-out", args.held_out, size) if args.held_out else (),
            directions=directions,
            styles=args.styles,
            text=text,
            int8=int8,
            report=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except ParityError as error:
        print(table(*error.found), flush=True)
        raise
    print(table(*found))
    size = sum(path.stat().st_size for path in args.output.glob("*") if path.suffix in (".onnx", ".bin"))
    print(f"{args.output}: {model.generator.size} px, graphs and weights {size / 1e6:.1f} MB")


def _batches(name: str, data: str, size: int) -> "Iterator[np.ndarray]":  # => N,3,S,S in [-1, 1]
    """The images of a data set, a few at a time; option `name` gave them."""
    import numpy as np

    from wagi.data import open_dataset
    from wagi.errors import option

    with option(name):
        images = open_dataset(data, size)
    for first in range(0, len(images), _CALIBRATION):
        part = range(first, min(len(images), first + _CALIBRATION))
        yield np.stack([images.get(i, False)["image"].numpy() for i in part])


def _int8_parts(args: argparse.Namespace) -> tuple[str, ...]:
    """The parts of --int8, none without it. UserError (status 2) where it is wrong or options clash."""
    from export.int8 import PARTS
    from wagi_rt.errors import UserError

    if args.int8 is None:
        return ()
    parts = tuple(args.int8.split(","))
    if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
        raise UserError(f"--int8 {args.int8}: must be encoder, heads or encoder,heads", 2)
    if args.precision == "fp16":
        raise UserError("--int8: not together with --fp16, which is for GPUs; leave out one of them", 2)
    if not args.calibrate:
        raise UserError("--int8: needs pictures of the model's kind for its ranges; add --calibrate DATA", 2)
    return parts


def _int8(args: argparse.Namespace, parts: tuple[str, ...], size: int) -> "Int8":
    """The parts, and the pictures for ranges and for the gate."""
    import numpy as np

    from export.bundle import PARITY_SEED
    from export.int8 import Int8
    from wagi_rt import probes

    def pictures(name: str, data: str) -> np.ndarray:
        return np.concatenate(list(itertools.islice(_batches(name, data, size), _INT8 // _CALIBRATION)))

    ranges = pictures("--calibrate", args.calibrate)
    if args.held_out:
        return Int8(parts, ranges, pictures("--held-out", args.held_out))
    return Int8(parts, ranges, probes.images(size, PARITY_SEED), "seeded patterns (no --held-out)")


def _directions(folder: Path) -> "dict[str, Direction]":
    """Every direction of a folder by its name. Raises UserError."""
    from wagi_rt import directions
    from wagi_rt.errors import UserError

    found: dict[str, Direction] = {}
    for path in sorted(folder.glob(f"*{directions.SUFFIX}")):
        direction = directions.read(path)
        if direction.name in found:
            raise UserError(f"--directions {path}: another file there is called {direction.name}, too", 2)
        found[direction.name] = direction
    if not found:
        raise UserError(f"--directions {folder}: holds no {directions.SUFFIX} files", 2)
    return found


def _command(args: argparse.Namespace) -> str:
    """The command with bare file names: a bundle is public, its maker's folders are not."""
    words = [
        "python export/to_onnx.py",
        f"--checkpoint {args.checkpoint.name}",
        f"-o {args.output.resolve().name}",
    ]
    words += {"fp16": ["--fp16"], "fp16-weights": ["--half-weights"]}.get(args.precision, [])
    words += [f"--int8 {args.int8}"] if args.int8 else []
    up = args.up_convolution
    words += [f"--up-convolution {up}"] if up != parser().get_default("up_convolution") else []
    words += [f"--skip {args.skip}"] if args.skip != parser().get_default("skip") else []
    words += [f"--calibrate {Path(args.calibrate).name}"] if args.calibrate else []
    words += [f"--held-out {Path(args.held_out).name}"] if args.held_out else []
    words += [f"--directions {args.directions.name}"] if args.directions else []
    words += [f"--text {args.text.name}"] if args.text else []
    words += ["--styles"] if args.styles else []
    words += [f"--opset {args.opset}"] if args.opset else []
    words += [f"--atol {args.atol}"] if args.atol is not None else []
    return " ".join(words)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the export or its parity failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; nothing was written", "export")


if __name__ == "__main__":
    sys.exit(main())
