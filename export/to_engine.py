"""Build TensorRT engines of a bundle for this machine's GPU, and prove each against ONNX Runtime.

python export/to_engine.py BUNDLE
wagi-rt invert photo.jpg --model BUNDLE --backend trt --device cuda -o out.png

Engines go into a cache ($WAGI_CACHE, default ~/.cache/wagi), never into the bundle.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np

    from export.engine_build import Options
    from wagi_rt.engines.trt_cuda import Device
    from wagi_rt.manifest import Manifest

_SEED = 20  # of the inputs for bundles that store none


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="to_engine.py",
        description=(__doc__ or "").split("\n")[0],
        epilog="Needs an NVIDIA GPU with its driver, the full tensorrt package and the plugin library.",
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder written by export/to_onnx.py")
    add("--device", default="cuda", metavar="cuda[:N]", help="the GPU to build for (default cuda)")
    add(
        "--engines",
        choices=("default", "pipeline", "graphs", "all", "edit"),
        default="default",
        help="one engine for the whole inversion, one per graph, both, or what edits need (default: what an "
        "inversion runs)",
    )
    add("--min-batch", type=int, default=1, metavar="N", help="smallest batch (default 1)")
    add("--opt-batch", type=int, metavar="N", help="batch that the engine is tuned for (default --min-batch)")
    add("--max-batch", type=int, default=4, metavar="N", help="largest batch (default 4)")
    add("--level", type=int, default=3, metavar="0-5", help="builder effort (default 3; 5 for a release)")
    add(
        "--exact-version",
        action="store_true",
        help="plans for the full tensorrt of this very version only (default: version compatible, for "
        "tensorrt_lean)",
    )
    add("--no-plugins", action="store_true", help="build the wavelet nodes from plain operators")
    add("--overwrite", action="store_true", help="build again what the cache holds")
    return parser


def run(args: argparse.Namespace) -> None:
    """Build, check, store. Raises UserError; engines that passed before the failure are kept."""
    from export.engine_build import Options
    from wagi_rt import manifest as manifests
    from wagi_rt.engines.base import parse_device
    from wagi_rt.engines.trt_cuda import Device

    batches = args.min_batch, args.opt_batch or args.min_batch, args.max_batch
    if not 1 <= batches[0] <= batches[1] <= batches[2]:
        raise _usage("--min-batch, --opt-batch and --max-batch must be 1 <= min <= opt <= max")
    if not 0 <= args.level <= 5:
        raise _usage(f"--level {args.level}: must be from 0 to 5")
    kind, index = parse_device(args.device)
    if kind != "cuda":
        raise _usage(f"--device {args.device}: engines are built on a GPU; use cuda or cuda:N")
    manifest = manifests.read(args.bundle)
    if manifest.int8:
        raise _usage(f"{args.bundle}: has int8 layers, which are for CPUs; export it without --int8")
    names = _names(args.engines, manifest)
    # TF32 has the mantissa of half: no loss where the graph is half anyway, none wanted where it is not.
    options = Options(*batches, args.level, not args.exact_version, tf32=manifest.precision == "fp16")
    device = Device(index)  # probes the driver, before TensorRT is touched
    try:
        folder = _build_all(args, manifest, names, options, device)
    finally:
        device.close()
    print(f"engines    {folder}")
    command = f"wagi-rt invert photo.jpg -m {args.bundle} --backend trt --device {args.device} -o out.png"
    print(f"run them   {command}")


def _build_all(
    args: argparse.Namespace, manifest: "Manifest", names: list[str], options: "Options", device: "Device"
) -> Path:
    """The folder of the cache into which the engines went."""
    from export.engine_build import import_builder
    from wagi_rt.engines import trt_plans
    from wagi_rt.engines.trt_program import Runtime, import_tensorrt

    builder = import_builder()
    runtime = builder if args.exact_version else import_tensorrt()
    target = trt_plans.target(manifest, device.name, runtime.__version__)
    if target.tensorrt != trt_plans.short(builder.__version__):
        versions = f"tensorrt {builder.__version__} builds, {runtime.__name__} {runtime.__version__} runs"
        raise _usage(f"{versions}: install the same version of both, or use --exact-version")
    if not args.no_plugins:
        _load_plugins(builder, runtime)
    from export.engine_make import HEADER, IMAGES, Maker, references, stored

    kept = [] if args.overwrite else [name for name in names if stored(target, name, options)]
    for name in kept:
        _say(f"{name} is in the cache already; --overwrite builds it again")
    names = [name for name in names if name not in kept]
    if not names:
        return target.folder
    _say(f"{manifest.name}: {', '.join(names)} for {device.name}, TensorRT {builder.__version__}")
    maker = Maker(manifest, target, options, builder, Runtime(device, runtime), _say)
    _say("computing the reference with ONNX Runtime")
    expected = references(manifest, _stored_inputs(manifest, max(IMAGES, options.min_batch)), names)
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="wagi-engines-") as scratch:
        for number, name in enumerate(names, 1):
            _say(f"building {name} ({number} of {len(names)})")
            print(maker.make(name, expected[name], Path(scratch)), flush=True)
    return target.folder


def _names(which: str, manifest: "Manifest") -> list[str]:
    """The engines to build, in running order."""
    from wagi_rt.chain import FUSED, PIPELINE, opening

    if which == "edit":
        steps = (*opening(*manifest.kind).steps, *manifest.edit_chain.steps)
        return list(dict.fromkeys(step.name for step in steps))
    if which == "default":
        which = manifest.default
    if which == "pipeline" and PIPELINE not in manifest.graphs:
        raise _usage(
            f"--engines pipeline: {manifest.folder} has no such graph; export it again, or use graphs"
        )
    chains = [FUSED] if which != "graphs" and PIPELINE in manifest.graphs else []
    chains += [manifest.inversion] if which != "pipeline" else []
    return [step.name for chain in chains for step in chain.steps]


def _load_plugins(*modules: Any) -> None:
    """Into the builder and into the runtime, which have registries of their own."""
    from wagi_rt.engines import trt_plans
    from wagi_rt.errors import UserError

    path = trt_plans.find_plugins()
    if path is None:
        missing = f"the plugin library {trt_plans.PLUGIN_LIBRARY} is not here"
        raise UserError(f"{missing}: build it with CMake and set WAGI_PLUGINS to it, or add --no-plugins")
    for module in dict.fromkeys(modules):
        trt_plans.load_plugins(module, path)


def _stored_inputs(manifest: "Manifest", batch: int) -> "np.ndarray":
    """The images of the bundle's probes, which its seed describes: [batch, 3, S, S] in [-1, 1]."""
    from wagi_rt.probes import images

    probes = manifest.source.get("probes")
    seed = probes.get("seed") if isinstance(probes, dict) else None
    return images(manifest.size, seed if isinstance(seed, int) else _SEED, batch)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _usage(message: str) -> Exception:
    from wagi_rt.errors import UserError

    return UserError(message, 2)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a build or its check failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; engines that are listed above are stored", "export")


if __name__ == "__main__":
    sys.exit(main())
