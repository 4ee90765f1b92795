"""Make a model repository for Triton Inference Server of a bundle: a photo's file in, a picture's file out.

python export/to_triton.py BUNDLE -o REPOSITORY
tritonserver --model-repository=REPOSITORY

The model takes PHOTO (the bytes of a file), FORMAT (png, jpg, webp; left out: png) and, where the bundle has
directions, STRENGTHS (a number for each; left out or zero: the inversion). It gives PICTURE (a file's bytes).
Where the bundle has a text model, the platform python also takes TEXT, NEUTRAL and TEXT_STRENGTH.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not

if TYPE_CHECKING:
    from export.triton_configs import Options
    from wagi_rt.manifest import Manifest


def parser() -> argparse.ArgumentParser:
    from wagi_rt.backends import NAMES
    from wagi_rt.values import count, positive

    parser = argparse.ArgumentParser(
        prog="to_triton.py",
        description=(__doc__ or "").split("\n")[0],
        epilog="The platform python has been run by Triton 2.51 on CPUs. Of the other two the configurations "
        "are checked, and the graphs in ONNX Runtime; no Triton with these backends has run them yet.",
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder written by export/to_onnx.py")
    add("-o", "--output", required=True, type=Path, metavar="REPOSITORY",
        help="model repository, new or not: other models in it stay")  # fmt: skip
    add(
        "--platform",
        choices=("python", "onnxruntime", "tensorrt"),
        default="python",
        help="backend of Triton that computes: python runs wagi_rt, which must be installed there, "
        "onnxruntime the bundle's graphs, tensorrt the engines that to_engine.py built (default python)",
    )
    add("--name", default="wagi", metavar="NAME", help="the model's name, before that of its parts")
    add("--version", type=positive, default=1, metavar="N",
        help="version to write (default 1); Triton serves the largest")  # fmt: skip
    add("--overwrite", action="store_true", help="replace the model, with all its versions")
    add("--max-batch", type=positive, metavar="N",
        help="pictures that run together (default 8; tensorrt: the largest of the engines)")  # fmt: skip
    add("--queue-delay", type=count, default=1000, metavar="US",
        help="microseconds that a picture waits for others to run with (default 1000)")  # fmt: skip
    add("--instances", type=positive, default=1, metavar="N",
        help="of what computes; on GPUs on each (default 1)")  # fmt: skip
    add("--workers", type=positive, default=1, metavar="N",
        help="processes that decode photos, and as many that encode pictures (default 1)")  # fmt: skip
    add("--device", choices=("cpu", "cuda"), help="what computes (default cpu; tensorrt: cuda)")
    add("--backend", choices=NAMES, default="onnx", help="engine of the platform python (default onnx)")
    add("--threads", type=positive, metavar="N", help="CPU threads of an instance (default one per core)")
    add("--gpu", metavar="NAME", help="tensorrt: the GPU whose engines are taken, if there are several")
    return parser


def run(args: argparse.Namespace) -> None:
    """Read the bundle, write the models, say how they are started. Raises UserError."""
    from export.triton_repository import check_target, find_engines, write
    from wagi_rt import manifest as manifests

    _check(args)
    manifest = manifests.read(args.bundle)
    engines = find_engines(manifest, args.gpu) if args.platform == "tensorrt" else {}
    options = _options(args, min((record.batch["max"] for _, record in engines.values()), default=8))
    check_target(manifest, options, args.output, args.version, args.overwrite)
    plans = {name: plan for name, (plan, _) in engines.items()}
    write(manifest, options, args.output, args.version, args.overwrite, plans)
    _report(manifest, options, args)


def _check(args: argparse.Namespace) -> None:
    """UserError (status 2) for options that do not go together."""
    from wagi_rt.directions import is_name
    from wagi_rt.errors import UserError

    if not is_name(args.name):
        raise UserError(f"--name {args.name}: letters, digits, '-' and '_' only", 2)
    for option, wrong, why in (
        ("--device cpu", args.platform == "tensorrt" and args.device == "cpu", "TensorRT runs on GPUs only"),
        ("--backend", args.platform != "python" and args.backend != "onnx", "goes with --platform python"),
        ("--gpu", args.platform != "tensorrt" and args.gpu, "goes with --platform tensorrt"),
    ):
        if wrong:
            raise UserError(f"{option}: {why}; leave it out", 2)


def _options(args: argparse.Namespace, most: int) -> "Options":
    """most: the largest batch, as far as engines limit it."""
    from export.triton_configs import Options
    from wagi_rt.errors import UserError

    tensorrt = args.platform == "tensorrt"
    if tensorrt and (args.max_batch or 0) > most:
        line = f"--max-batch {args.max_batch}: the engines were built for at most {most}"
        raise UserError(f"{line}; build them again with to_engine.py --max-batch", 2)
    return Options(
        args.name,
        args.platform,
        args.max_batch or most,
        args.queue_delay,
        args.instances,
        args.workers,
        args.device or ("cuda" if tensorrt else "cpu"),
        args.backend,
        args.threads,
    )


def _report(manifest: "Manifest", options: "Options", args: argparse.Namespace) -> None:
    from export.triton_configs import names, steps

    parts = " -> ".join(dict.fromkeys(options.model(step) for step in steps(manifest, options.platform)))
    print(f"model      {options.name}, version {args.version}: {parts}")
    if names(manifest):
        print(f"STRENGTHS  {', '.join(names(manifest))}")
    if manifest.text:
        known = f"texts as {manifest.text.name} reads them; also NEUTRAL, TEXT_STRENGTH"
        print(f"TEXT       {known if options.platform == 'python' else 'on --platform python only'}")
    command = f"tritonserver --model-repository={args.output}"
    if options.platform == "tensorrt":
        command = f"LD_PRELOAD=libwagi_trt.so {command} --backend-config=tensorrt,version-compatible=true"
    print(f"start it   {command}")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the work failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; nothing was written", "export")


if __name__ == "__main__":
    sys.exit(main())
