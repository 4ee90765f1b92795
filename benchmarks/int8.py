"""int8 of encoder and consultation heads by ONNX Runtime's static quantiser, against FP32 on held-out images.

python benchmarks/int8.py --out benchmarks/results/int8.json                # the embedded model
python benchmarks/int8.py --bundle DIR --calibrate FOLDER --data FOLDER     # of yours

The layers and how they are quantised are those of `export/to_onnx.py --int8`, which spares the outermost
layers of the heads. Speed is the CPU time of a part's whole graph as a share of its own in FP32, by engine;
`--rounds 0` leaves it out where something else has the machine, which changes no dB.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from wagi_rt.engines.ort import OrtEngine
    from wagi_rt.manifest import Manifest

# Both seeds are unknown to the embedded model's training.
CALIBRATORS = ("MinMax", "Entropy", "Percentile")
CALIBRATION, HELD_OUT = "portraits:8001:32", "portraits:9001:32"
NAMES = ("result", "worst", "edit", "naive_r")  # dB: inversions, the worst of them, edits, naive images
_BATCH = 8


class Variant(NamedTuple):
    """Layers of one part in int8. spared: the outermost of them stay in FP32."""

    part: str
    spared: bool


VARIANTS = (Variant("encoder", False), Variant("heads", False), Variant("heads", True))
# What is measured: the variants alone, and what `--int8 encoder,heads` exports.
ROWS = (*((one,) for one in VARIANTS), (VARIANTS[0], VARIANTS[2]))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="int8.py",
        description=(__doc__ or "").split("\n")[0],
        epilog=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, metavar="DIR", help="FP32 or half weights (default: the embedded model)")
    add("--calibrate", default=CALIBRATION, metavar="DATA", help=f"for ranges (default {CALIBRATION})")
    add("--data", default=HELD_OUT, metavar="DATA", help=f"held-out pictures (default {HELD_OUT})")
    add("--rounds", type=int, default=15, metavar="N", help="rounds of timing; 0: none (default 15)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    return parser


def folded(path: Path, scratch: Path) -> onnx.ModelProto:
    """The graph with plain operators and FP32 weights inside: functions inlined, widening casts computed."""
    import onnx
    import onnxruntime

    whole, plain = scratch / "whole.onnx", scratch / path.name
    onnx.save(onnx.load(path), whole)  # the bundle's weights inside
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(plain)
    onnxruntime.InferenceSession(str(whole), options, providers=["CPUExecutionProvider"])
    model = onnx.load(plain)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"  # the quantiser chooses by name
    return model


def batches(data: str, size: int) -> Iterator[np.ndarray]:
    """Pictures [n, 3, size, size] in [-1, 1] of what `--data` of training takes."""
    from wagi.data import open_dataset
    from wagi.loader import batch_of

    found = open_dataset(data, size)
    for first in range(0, len(found), _BATCH):
        yield batch_of(found, range(first, min(first + _BATCH, len(found))))["image"].numpy()


def collect(engine: OrtEngine, images: Iterator[np.ndarray]) -> dict[str, list[dict[str, np.ndarray]]]:
    """Inputs of every graph of an inversion, by graph."""
    from wagi_rt.chain import walk

    found: dict[str, list[dict[str, np.ndarray]]] = {}
    manifest = engine.manifest
    for batch in images:
        run = lambda step, given: engine._run(step.name, given, frozenset())  # noqa: E731
        for step, given, _ in walk(manifest.inversion, {"image": batch}, run, manifest.resolution):
            found.setdefault(step.name, []).append(dict(given))
    return found


def results(engine: OrtEngine, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Inversion, naive image at R and an edit (as the bundle's probes are edited) of all pictures."""
    import numpy as np

    from export.int8 import shown

    manifest, found = engine.manifest, {"result": [], "naive_r": [], "edit": []}
    for batch in images:
        inversion, edit = shown(engine, batch, manifest.inversion, manifest.edit)
        for name, value in (*inversion.items(), ("edit", edit["result"])):
            if name in found:
                found[name].append(value)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def decibels(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """PSNR of all pictures together, as the gate of bf16 takes it, and of the worst one."""
    from export.rows import psnr_db
    from wagi_rt.metrics import PEAK, psnr

    rows = {name: round(psnr_db(found[name], wanted[name], PEAK), 2) for name in wanted}
    return {**rows, "worst": round(float(psnr(found["result"], wanted["result"]).min()), 2)}


def measure(args: argparse.Namespace, manifest: Manifest, scratch: Path) -> list[dict[str, Any]]:
    """One row for each of ROWS, by calibrator."""
    import onnx

    from export.int8 import PARTS, inner, layers_of, quantise
    from wagi_rt.engines.base import EngineChoice
    from wagi_rt.engines.ort import OrtEngine

    choice = EngineChoice("onnx", threads=args.threads)
    engine = OrtEngine(manifest, choice, manifest.inversion)
    exact = dict(engine._sessions)
    given = collect(engine, batches(args.calibrate, manifest.size))
    images = list(batches(args.data, manifest.size))
    wanted = results(engine, images)
    made: dict[tuple[Variant, str], Path] = {}
    speeds = {}
    for variant in VARIANTS:
        name = PARTS[variant.part][0]
        (folder := scratch / f"{variant.part}-{variant.spared}").mkdir()
        graph = folded(manifest.folder / manifest.graphs[name].file, folder)
        layers = layers_of(variant.part, graph)
        layers = inner(graph, layers) if variant.spared else layers
        onnx.save(graph, plain := folder / "fp32.onnx")
        for calibrator in CALIBRATORS:
            made[variant, calibrator] = path = folder / f"{calibrator}.onnx"
            onnx.save(quantise(graph, layers, given[name], calibrator), path)
        inputs = {key: value[:1] for key, value in given[name][0].items()}
        speeds[(variant,)] = {"speed": speed(args, plain, path, inputs)} if args.rounds else {}
    rows = []
    for calibrator, variants in itertools.product(CALIBRATORS, ROWS):
        engine._sessions = dict(exact)
        for variant in variants:
            name = PARTS[variant.part][0]
            engine._sessions[name] = engine._create(made[variant, calibrator], False, None)
        row = {"parts": "+".join(one.part for one in variants), "calibrator": calibrator,
               "spared": variants[-1].spared}  # fmt: skip
        rows.append(row | decibels(results(engine, images), wanted) | speeds.get(variants, {}))
    return rows


def speed(
    args: argparse.Namespace, plain: Path, int8: Path, inputs: dict[str, np.ndarray]
) -> dict[str, float]:
    """CPU time of the graph in int8, as a share of its time in FP32, by engine."""
    from benchmarks.timing import interleave, statistics

    paths = {"fp32": plain, "int8": int8}
    works = {(name, kind): opened(name, path, args.threads, inputs)
             for name in ("onnx", "openvino") for kind, path in paths.items()}  # fmt: skip
    samples = interleave(works, args.rounds, warmup=3)
    p50 = {key: statistics(times.cpu)["p50"] for key, times in samples.items()}
    return {name: round(p50[name, "int8"] / p50[name, "fp32"], 3) for name in ("onnx", "openvino")}


def opened(name: str, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    """The graph in one engine, as a call."""
    if name == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, inputs)
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape({key: list(value.shape) for key, value in inputs.items()})
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)
    return lambda: compiled(inputs)


def run(args: argparse.Namespace) -> None:
    from benchmarks.machine import commit, processor
    from benchmarks.report import table
    from export.int8 import LIMIT_DB
    from wagi.errors import UserError
    from wagi.files import write_json
    from wagi_rt import manifest as manifests

    if args.rounds < 0 or args.threads < 1:
        raise UserError("--rounds must not be negative, --threads at least 1", 2)
    manifest = manifests.read(args.bundle)
    with tempfile.TemporaryDirectory(prefix="wagi-int8-") as scratch:
        rows = measure(args, manifest, Path(scratch))
    head = {"model": manifest.name, "machine": processor(), "commit": commit(), "threads": args.threads,
            "calibrate": args.calibrate, "data": args.data, "gate_db": LIMIT_DB}  # fmt: skip
    if args.out:
        write_json(args.out, {"schema": 1, **head, "rows": rows})
    print(table(
        ["int8", "ranges", "outermost heads in FP32", *NAMES, "speed"],
        [[row["parts"], row["calibrator"], "yes" if row["spared"] else "no",
          *(f"{row[name]:.1f}" for name in NAMES),
          ", ".join(f"{e} {ratio}" for e, ratio in row.get("speed", {}).items())] for row in rows],
    ))  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the bundle does not work, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "")


if __name__ == "__main__":
    sys.exit(main())
