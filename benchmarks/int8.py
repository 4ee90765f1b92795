"""int8 of encoder and consultation heads by ONNX Runtime's static quantiser, against FP32 on held-out images.

python benchmarks/int8.py --out benchmarks/results/int8.json                # the embedded model
python benchmarks/int8.py --bundle DIR --calibrate FOLDER --data FOLDER     # of yours

Weights are signed and per channel, activations unsigned; norms, the generator and all between stay in FP32.
`heads` are the layers of `decode` that depend on the aligned residual alone. Speed is the time of a part's
whole graph against its own in FP32.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from wagi_rt.engines.ort import OrtEngine
    from wagi_rt.manifest import Manifest

# Part -> its graph. Both seeds are unknown to the embedded model's training.
PARTS = {"encoder": "encoder", "heads": "decode"}
CALIBRATORS = ("MinMax", "Entropy", "Percentile")
CALIBRATION, HELD_OUT = "portraits:8001:32", "portraits:9001:32"
NAMES = ("result", "worst", "edit", "naive_r")  # dB: inversions, the worst of them, edits, naive images
GATE_DB, EQUAL_DB = 45.0, 200.0  # the gate of bf16 (decision 48); JSON has no infinity
_LAYERS = ("Conv", "Gemm", "MatMul")
_BATCH = 8


class Variant(NamedTuple):
    """Layers of one part in int8. spared: the first and last of them stay in FP32."""

    part: str
    calibrator: str
    spared: bool


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
    add("--rounds", type=int, default=15, metavar="N", help="interleaved rounds of timing (default 15)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    return parser


def quantise(
    graph: onnx.ModelProto, layers: list[str], inputs: list[dict[str, np.ndarray]], calibrator: str, out: Path
) -> None:
    """Write the graph with these layers in int8, ranges from `inputs` (one dict of arrays for each run)."""
    import onnx
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(inputs)

        def get_next(self) -> Any:
            return next(self.left, None)

    # As a file: the quantiser loses the weights of a graph in memory with this version of onnx.
    onnx.save(graph, source := out.with_suffix(".fp32"))
    logging.disable(logging.WARNING)  # "consider pre-processing", which `folded` was
    with redirect_stdout(io.StringIO()):  # progress
        q.quantize_static(
            source, out, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True, nodes_to_quantize=layers,
            activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod[calibrator],
        )  # fmt: skip
    logging.disable(logging.NOTSET)


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


def layers_of(part: str, graph: onnx.ModelProto) -> list[str]:
    """The names of the part's layers with constant weights, in running order."""
    constant = {tensor.name for tensor in graph.graph.initializer}
    depends = {name: set() for name in constant} | {value.name: {value.name} for value in graph.graph.input}
    found = []
    for node in graph.graph.node:
        reads = set().union(*(depends[name] for name in node.input if name))
        depends |= dict.fromkeys(node.output, reads)
        if node.op_type in _LAYERS and set(node.input) & constant:
            if part == "encoder" or reads == {"aligned"}:
                found.append(node.name)
    return found


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

    from wagi_rt import chain, probes

    manifest, found = engine.manifest, {"result": [], "naive_r": [], "edit": []}
    opening = chain.opening(*manifest.kind)
    for batch in images:
        kept = engine.run_chain(opening, {"image": batch}) | {"image": batch}
        kept["edit_ws"] = probes.edited(kept["ws"])
        edit = engine.run_chain(manifest.edit, {name: kept[name] for name in manifest.edit.inputs})
        inversion = engine.run_chain(manifest.inversion, {"image": batch})
        for name, value in (*inversion.items(), ("edit", edit["result"])):
            if name in found:
                found[name].append(value)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def decibels(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """PSNR of all pictures together, as the gate of bf16 takes it, and of the worst one."""
    from wagi_rt.metrics import psnr, psnr_of_all

    rows = {name: round(min(psnr_of_all(found[name], wanted[name]), EQUAL_DB), 2) for name in wanted}
    return {**rows, "worst": round(float(psnr(found["result"], wanted["result"]).min()), 2)}


def measure(args: argparse.Namespace, manifest: Manifest, scratch: Path) -> list[dict[str, Any]]:
    """One row for each part, and for both, by calibrator."""
    from wagi_rt.engines.base import EngineChoice
    from wagi_rt.engines.ort import OrtEngine

    choice = EngineChoice("onnx", threads=args.threads)
    engine = OrtEngine(manifest, choice, manifest.inversion)
    plain = dict(engine._sessions)
    given = collect(engine, batches(args.calibrate, manifest.size))
    images = list(batches(args.data, manifest.size))
    wanted = results(engine, images)
    made: dict[Variant, Path] = {}
    fp32 = {}
    for part, name in PARTS.items():
        (folder := scratch / part).mkdir()
        graph = folded(manifest.folder / manifest.graphs[name].file, folder)
        fp32[part], every = folder / manifest.graphs[name].file, layers_of(part, graph)
        for calibrator in CALIBRATORS:
            for spared in (False, True):
                variant = Variant(part, calibrator, spared)
                made[variant] = folder / f"{calibrator}-{spared}.onnx"
                quantise(graph, every[1:-1] if spared else every, given[name], calibrator, made[variant])
    rows = []
    for calibrator in CALIBRATORS:
        for spared in (False, True):
            for parts in (["encoder"], ["heads"], ["encoder", "heads"]):
                engine._sessions = dict(plain)
                for part in parts:
                    path = made[Variant(part, calibrator, spared)]
                    engine._sessions[PARTS[part]] = engine._create(path, False, None)
                row = {"parts": "+".join(parts), "calibrator": calibrator, "spared": spared}
                rows.append(row | decibels(results(engine, images), wanted))
    speeds = {part: speed(args, fp32[part], made[Variant(part, CALIBRATORS[0], False)],
                          {key: value[:1] for key, value in given[PARTS[part]][0].items()})
              for part in PARTS}  # fmt: skip
    return [row | {"speed": None if row["spared"] else speeds.get(row["parts"])} for row in rows]


def speed(
    args: argparse.Namespace, plain: Path, int8: Path, inputs: dict[str, np.ndarray]
) -> dict[str, float]:
    """Time of the part's whole graph in int8, as a share of its time in FP32, by engine."""
    from benchmarks.timing import interleave

    paths = {"fp32": plain, "int8": int8}
    works = {(name, kind): opened(name, path, args.threads, inputs)
             for name in ("onnx", "openvino") for kind, path in paths.items()}  # fmt: skip
    samples = interleave(works, args.rounds, warmup=3)
    p50 = {key: times.statistics()["p50"] for key, times in samples.items()}
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
    from wagi.errors import UserError
    from wagi.files import write_json
    from wagi_rt import manifest as manifests

    if min(args.rounds, args.threads) < 1:
        raise UserError("--rounds and --threads must be at least 1", 2)
    manifest = manifests.read(args.bundle)
    with tempfile.TemporaryDirectory(prefix="wagi-int8-") as scratch:
        rows = measure(args, manifest, Path(scratch))
    head = {"model": manifest.name, "machine": processor(), "commit": commit(), "threads": args.threads,
            "calibrate": args.calibrate, "data": args.data, "gate_db": GATE_DB}  # fmt: skip
    if args.out:
        write_json(args.out, {"schema": 1, **head, "rows": rows})
    print(table(
        ["int8", "ranges", "first and last in FP32", *NAMES, "speed"],
        [[row["parts"], row["calibrator"], "yes" if row["spared"] else "no",
          *(f"{row[name]:.1f}" for name in NAMES),
          ", ".join(f"{e} {ratio}" for e, ratio in (row["speed"] or {}).items())] for row in rows],
    ))  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the bundle does not work, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "")


if __name__ == "__main__":
    sys.exit(main())
