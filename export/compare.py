"""Compare a bundle's engines with PyTorch: every graph, a whole inversion and an edit, at each batch size.

python export/compare.py BUNDLE --checkpoint C --backends torch,onnx,openvino,openvino:bf16,trt
python export/compare.py BUNDLE --backends onnx,openvino:bf16 --bisect     the first layer past its limit

With --checkpoint every value is compared with the training model in FP32 on the same seeded images; without
it the values that the bundle stores of that model. A backend that does not work here is named and left out.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np

    from export.rows import Recorded, Row
    from wagi.model import WaGI
    from wagi_rt.engines.base import Engine
    from wagi_rt.manifest import Manifest

TORCH = "torch"
SCHEMA = 1


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options that check_parity.py has too."""
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder written by to_onnx.py")
    add("--checkpoint", type=Path, metavar="C", help="the checkpoint it was exported from")
    add("--images", type=Path, nargs="+", metavar="FILE", help="with --checkpoint: compare on these")
    add("--seed", type=int, default=1, help="with --checkpoint: seed of the images (default 1)")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common(parser)
    parser.add_argument(
        "--backends", default="onnx,openvino", metavar="LIST",
        help="torch (the exported formulation, needs --checkpoint), onnx, openvino, openvino:bf16, trt "
        "(default onnx,openvino)",
    )  # fmt: skip
    parser.add_argument(
        "--batches", default="1,3", metavar="LIST", help="images that run together (default 1,3)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of an engine (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument(
        "--bisect", action="store_true",
        help="for an FP16 bundle and for openvino:bf16: the first layer whose output leaves its graph's "
        "limit against the same layers in FP32",
    )  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the table or the layers. UserError when a difference is past its limit or nothing could run."""
    from wagi_rt import manifest as manifests
    from wagi_rt.errors import UserError

    if args.images and not args.checkpoint:
        raise UserError("--images: only works together with --checkpoint", 2)
    batches = _batches(args.batches)
    names = [name for name in args.backends.split(",") if name]
    model = _model(args) if args.checkpoint else None
    manifest = manifests.read(args.bundle)
    if args.bisect:
        from export.layers import report

        return report(manifest, names, args.threads)
    wanted = _reference(args, manifest, model) if model else None
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            with _opened(name, manifest, model, args.threads) as engine:
                rows += _rows(engine, name, wanted, batches)
        except NotHere as reason:
            missing[name] = str(reason)
    _show(args, manifest, rows, missing)
    if not rows:
        raise UserError(f"--backends {args.backends}: nothing was compared")
    from export.rows import failure

    if message := failure(rows):
        raise UserError(f"{args.bundle}: {message}; export it again, or use another backend")
    return 0


class NotHere(Exception):
    """Why a backend cannot be compared on this machine."""


def _batches(text: str) -> list[int]:
    from wagi_rt.errors import UserError

    sizes = [int(word) if word.isdecimal() else 0 for word in text.split(",")]
    if min(sizes) < 1:
        raise UserError(f"--batches {text}: must be numbers from 1 on, as in 1,3", 2)
    return sizes


def _model(args: argparse.Namespace) -> "WaGI":
    from wagi.checkpoint import load_model
    from wagi.conversion.identify import foreign_named
    from wagi_rt import manifest as manifests
    from wagi_rt.errors import UserError

    with foreign_named():
        model = load_model(args.checkpoint)
    size, wanted = model.generator.size, manifests.read(args.bundle).size
    if size != wanted:
        line = f"is a model of {size} px, the bundle is one of {wanted}; name the one that was exported"
        raise UserError(f"--checkpoint {args.checkpoint}: {line}", 2)
    return model.float().cpu().eval()


def _reference(args: argparse.Namespace, manifest: "Manifest", model: "WaGI") -> "Recorded":
    """PyTorch's inputs and outputs of every graph, for the given files or for the seed's images."""
    from export.parity import reference
    from wagi_rt import probes

    images = _read(args) if args.images else probes.images(manifest.size, args.seed)
    return reference(model, images, bool(manifest.styles))


def _read(args: argparse.Namespace) -> "np.ndarray":
    """The given files as the runtime prepares them, [N, 3, S, S]."""
    import numpy as np

    from wagi_rt.session import Session

    with Session(args.bundle) as session:
        return np.stack([session.prepare(path).image for path in args.images])


@contextmanager
def _opened(name: str, manifest: "Manifest", model: "WaGI | None", threads: int | None) -> "Iterator[Engine]":
    """The backend's engine. UserError for a name that is none; NotHere when it does not work here."""
    from wagi_rt import backends
    from wagi_rt.engines.base import EngineChoice
    from wagi_rt.errors import UserError

    if name == TORCH:
        if model is None:
            raise NotHere("needs --checkpoint")
        from export.torch_engine import TorchEngine

        engine: Engine = TorchEngine(manifest, model)
    else:
        backend, _, precision = name.partition(":")
        known = [TORCH, *backends.BACKENDS]
        if backend not in known:
            raise UserError(f"--backends {name}: unknown; choose from {', '.join(known)}", 2)
        choice = EngineChoice(backend, threads=threads, precision=precision or None)
        backends.check(choice)
        works, why = backends.engine_class(backend).available()
        if not works:
            raise NotHere(why)
        try:
            engine = backends.engine_class(backend)(manifest, choice, manifest.chain)
        except UserError as error:
            raise NotHere(str(error)) from None
    with engine:
        yield engine


def _rows(engine: "Engine", name: str, wanted: "Recorded | None", batches: Sequence[int]) -> "list[Row]":
    from export.comparison import compare, compare_probes
    from wagi_rt.probes import BATCH

    count = len(wanted["pipeline"][0]["image"]) if wanted else BATCH
    fit = sorted({min(batch, count, engine.max_batch or count) for batch in batches})
    return compare(engine, wanted, fit, name) if wanted else compare_probes(engine, fit, name)


def _show(args: argparse.Namespace, manifest: "Manifest", rows: "list[Row]", missing: dict[str, str]) -> None:
    from export.rows import table

    order = list(dict.fromkeys(row.name for row in rows))
    rows = sorted(rows, key=lambda row: order.index(row.name))  # stable: backends and batches in their order
    for name, reason in missing.items():
        print(f"{name}: not compared: {reason}", file=sys.stderr)
    if not args.json:
        if rows:
            print(table(rows), flush=True)
        return
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "bundle": manifest.name,
        "sha256": manifest.sha256,
        "precision": manifest.precision,
        "reference": "PyTorch, every value" if args.checkpoint else "PyTorch, the values that are stored",
        "images": [path.name for path in args.images] if args.images else {"seed": _seed(args, manifest)},
        "rows": [row.as_json() for row in rows],
        "not_compared": missing,
    }
    print(json.dumps(content, indent=1), flush=True)


def _seed(args: argparse.Namespace, manifest: "Manifest") -> int:
    from wagi_rt import probes

    stored = None if args.checkpoint else probes.stored(manifest)
    return stored.seed if stored else args.seed


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 equal, 1 past a limit, unreadable or nothing to compare, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "", "export")


if __name__ == "__main__":
    sys.exit(main())
