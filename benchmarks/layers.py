"""ONNX Runtime's time in the pipeline graph by kind of layer, from its own profile, beside the layers' floor.

python benchmarks/layers.py                                             # the embedded model
python benchmarks/layers.py --size 1024 --rounds 7 --threads 2 --out benchmarks/results/layers.json

The unit is the floor of the whole graph, as floor.py counts it: layers (convolutions, products) stand beside
their own share of it. What lies between them, which that floor counts as free, stands beside the time that
its inputs and outputs take at the memory's bandwidth, each read or written once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.floor import Layer, Rates
    from wagi_rt.manifest import Manifest

LAYERS = ("Conv", "FIR", "ConvTranspose", "product")  # groups; an FIR is a Conv of every channel by itself
_GROUPS = {
    "Conv": "Conv FusedConv",
    "ConvTranspose": "ConvTranspose",
    "product": "Gemm FusedGemm MatMul FusedMatMul",
    "elementwise": "Add Sub Mul Div Sum Clip Relu LeakyRelu PRelu Sigmoid Tanh Sqrt Reciprocal Pow Neg Abs "
    "Max Min Cast Exp Where Floor",
    "layout": "ReorderInput ReorderOutput Transpose Concat Split Slice Gather Expand Pad Reshape Flatten",
    "resize and pooling": "Resize Upsample AveragePool GlobalAveragePool MaxPool GridSample",
    "norms and sums": "InstanceNormalization GroupNorm LayerNormalization BatchNormalization ReduceMean "
    "ReduceSum ReduceMax",
}
GROUP_OF = {op: group for group, ops in _GROUPS.items() for op in ops.split()}  # others are `other`
_REST = "between nodes"  # of the whole run, what no node took
_SEED, _LISTED, _BYTES = 1, 12, 4


class Node(NamedTuple):
    """One node of the graph as it runs: fused, and reordered, by ONNX Runtime."""

    name: str
    op: str
    group: str
    shapes: str
    values: int  # read and written
    ms: float  # median of the runs


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="layers.py",
        description=(__doc__ or "").split("\n")[0],
        epilog=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--size", type=int, metavar="S", help="a random model of this size: 1024, 256, 128, 64, 32")
    add("--bundle", type=Path, metavar="DIR", help="this bundle (default: the embedded model)")
    add("--rounds", type=int, default=7, metavar="N", help="measured runs (default 7)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: one per core that may be used)")
    add("--machine", metavar="NAME", help="the machine's name in the report (default: the processor's)")
    add("--work", type=Path, default=ROOT / "build" / "bench", metavar="DIR",
        help="folder of the random models (default build/bench)")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    return parser


# ------------------------------------------------------------------------------------------ the profile


def nodes(events: list[dict[str, Any]], skipped: int = 1) -> tuple[list[Node], float]:
    """The nodes of a profile and the time of a whole run in ms, medians without the first `skipped` runs."""
    runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")[skipped:]
    times: dict[str, list[float]] = defaultdict(list)
    found = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= runs[0][0]:
            times[event["name"]].append(event["dur"] / 1000)
            found[event["name"]] = event["args"]
    made = [_node(name, args, statistics.median(times[name])) for name, args in found.items()]
    return made, statistics.median((end - begin) / 1000 for begin, end in runs)


def _node(name: str, args: dict[str, Any], ms: float) -> Node:
    read, written = (_shapes(args.get(f"{side}_type_shape", [])) for side in ("input", "output"))
    op = args["op_name"]
    group = GROUP_OF.get(op, "other")
    # ONNX Runtime pads channels to whole vectors, so both counts are compared after padding.
    if group == "Conv" and len(read) > 1 and read[1][1] == 1 and read[1][0] == read[0][1] > 1:
        group = "FIR"
    shown = [*read[:2], *written[:1]]
    values = sum(map(math.prod, read + written))
    return Node(name.removesuffix("_kernel_time"), op, group, " ".join(map(_shown, shown)), values, ms)


def _shown(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _shapes(listed: list[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for entry in listed for shape in entry.values()]


# -------------------------------------------------------------------------------------------- measuring


def session(path: Path, threads: int, prefix: Path) -> Any:
    """The graph with the runtime's settings, its profile written beside `prefix`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling, options.profile_file_prefix = True, str(prefix)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def profile(path: Path, image: np.ndarray, args: argparse.Namespace, scratch: Path) -> tuple[list, Rates]:
    """The events of all runs, and the rates of the machine, measured in turns with them."""
    from benchmarks import floor
    from benchmarks.measure import best_rates
    from benchmarks.timing import interleave

    opened = session(path, args.threads, scratch / "profile")
    reference = floor.rate_works("fp32")
    works: dict[str, Callable[[], object]] = {name: work for name, (work, _) in reference.items()}
    samples = interleave({"run": lambda: opened.run(None, {"image": image}), **works}, args.rounds, warmup=1)
    events = json.loads(Path(opened.end_profiling()).read_text())
    reached = {("fp32", name): (samples[name], amount) for name, (_, amount) in reference.items()}
    return events, best_rates(reached)["fp32"]


def divide(found: list[Node], whole: float, layers: list[Layer], rates: Rates) -> dict[str, Any]:
    """Every group in multiples of the graph's floor, and the nodes that take the most beyond their own."""
    from benchmarks.floor import floor_ms

    kinds = {"Gemm": "product", "MatMul": "product"}
    own = {g: floor_ms([x for x in layers if kinds.get(x.kind, x.kind) == g], rates) for g in LAYERS}
    least = sum(own.values())
    rows = {}
    for group in dict.fromkeys([*LAYERS, *_GROUPS, "other", _REST]):
        members = [n for n in found if n.group == group]
        ms = whole - sum(n.ms for n in found) if group == _REST else sum(n.ms for n in members)
        traffic = sum(n.values for n in members) * _BYTES / (rates.gbytes * 1e6)
        needed = own.get(group, traffic)
        if ms:
            rows[group] = {
                "nodes": len(members),
                "share": round(ms / whole, 4),
                "floors": round(ms / least, 4),
                "needed": round(needed / least, 4),
                "operators": _operators(members, whole),
            }
    longest = sorted(found, key=lambda n: -n.ms)[:_LISTED]
    return {
        "floor_multiple": round(whole / least, 3),
        "groups": rows,
        "longest": [
            {"name": n.name, "op": n.op, "shapes": n.shapes, "share": round(n.ms / whole, 4)} for n in longest
        ],
    }


def _operators(members: list[Node], whole: float) -> dict[str, float]:
    """Share of the time by ONNX Runtime's own names, largest first."""
    sums: dict[str, float] = defaultdict(float)
    for node in members:
        sums[node.op] += node.ms
    return {op: round(ms / whole, 4) for op, ms in sorted(sums.items(), key=lambda item: -item[1])}


# ------------------------------------------------------------------------------------------ the command


def text(report: dict[str, Any]) -> str:
    """The groups as a Markdown table."""
    from benchmarks.report import table

    header = ["", "nodes", "share", "in floors", "its own floor, or memory", "operators (share in %)"]
    rows = [
        [
            group, str(row["nodes"]), f"{100 * row['share']:.1f} %", f"{row['floors']:.3f}",
            f"{row['needed']:.3f}", ", ".join(f"{o} {100 * s:.1f}" for o, s in row["operators"].items()),
        ]
        for group, row in report["groups"].items()
    ]  # fmt: skip
    return table(header, [*rows, ["whole", "", "100 %", f"{report['floor_multiple']:.3f}", "", ""]])


def bundle_of(args: argparse.Namespace) -> Manifest:
    from benchmarks.models import SIZES, prepare
    from wagi_rt import manifest
    from wagi_rt.chain import PIPELINE
    from wagi_rt.errors import UserError

    if args.size and args.bundle:
        raise UserError("--bundle: not together with --size, which makes a bundle of its own", 2)
    if args.size and args.size not in SIZES:
        raise UserError(f"--size {args.size}: choose from {', '.join(map(str, SIZES))}", 2)
    found = manifest.read(prepare(args.work, args.size, None)[1] if args.size else args.bundle)
    if PIPELINE not in found.graphs:
        raise UserError(f"--bundle {found.folder}: has no graph `{PIPELINE}`; export it again")
    return found


def run(args: argparse.Namespace) -> None:
    import onnxruntime
    import torch

    from benchmarks import floor
    from benchmarks.machine import commit, processor
    from wagi.errors import UserError
    from wagi.files import write_json
    from wagi_rt import probes
    from wagi_rt.chain import PIPELINE

    args.threads = args.threads or len(os.sched_getaffinity(0))
    if min(args.rounds, args.threads) < 1:
        raise UserError("--rounds and --threads must be at least 1", 2)
    torch.set_num_threads(args.threads)
    manifest = bundle_of(args)
    path = manifest.folder / manifest.graphs[PIPELINE].file
    with tempfile.TemporaryDirectory(prefix="wagi-layers-") as scratch:
        image = probes.images(manifest.size, _SEED, 1)
        events, rates = profile(path, image, args, Path(scratch))
    report = {
        "schema": 1,
        "model": manifest.name,
        "size": manifest.size,
        "machine": args.machine or processor(),
        "onnxruntime": onnxruntime.__version__,
        "threads": args.threads,
        "rounds": args.rounds,
        "commit": commit(),
        **divide(*nodes(events), floor.layers(path, 1), rates),
    }
    if args.out:
        write_json(args.out, report)
    print(f"{report['model']}, {report['machine']}, {args.threads} threads\n\n{text(report)}")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the bundle does not work, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
