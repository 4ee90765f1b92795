"""The Haar transform alone, every implementation, against a copy of the same memory.

python benchmarks/haar.py --size 1024 --rounds 20 --out haar.json

The op reads and writes every value once, as a copy does: a copy is its floor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

_COLOURS = 3


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="haar.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--size", type=int, default=1024, metavar="S", help="side of the image (default 1024)")
    add("--batch", type=int, default=1, metavar="N", help="images (default 1)")
    add("--rounds", type=int, default=20, metavar="N", help="interleaved rounds (default 20)")
    add("--threads", type=int, default=2, metavar="N", help="threads of torch and ONNX Runtime (default 2)")
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    return parser


def works(size: int, batch: int, threads: int) -> dict[str, Callable[[], Any]]:
    """Every implementation of both directions on the same image, and the copies."""
    import numpy as np
    import torch

    from wagi import haar as in_torch
    from wagi_rt import haar as in_numpy

    x = np.random.default_rng(0).standard_normal((batch, _COLOURS, size, size), np.float32)
    y = in_numpy.haar(x)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    target, tensor_target = np.empty_like(x), torch.empty_like(tensors[0])
    forward, inverse = (session(name, threads) for name in ("HaarDWT", "HaarIDWT"))
    return {
        "copy, numpy": lambda: np.copyto(target, x),
        "copy, torch": lambda: tensor_target.copy_(tensors[0]),
        "DWT, numpy": lambda: in_numpy.haar(x),
        "DWT, torch": lambda: in_torch.haar(tensors[0]),
        "DWT, ONNX Runtime": lambda: forward(x),
        "IDWT, numpy": lambda: in_numpy.inverse_haar(y),
        "IDWT, torch": lambda: in_torch.inverse_haar(tensors[1]),
        "IDWT, ONNX Runtime": lambda: inverse(y),
    }


def session(name: str, threads: int) -> Callable[[Any], Any]:
    """The function body of a wavelet node, as the exported graphs hold it, in ONNX Runtime."""
    import onnxruntime
    from onnx import TensorProto, helper

    from export.haar_functions import add_functions
    from export.trace import DEFAULT_OPSET

    channels = (_COLOURS, 4 * _COLOURS) if name == "HaarDWT" else (4 * _COLOURS, _COLOURS)
    source, target = (
        helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["N", count, None, None])
        for tensor, count in zip("xy", channels, strict=True)
    )
    node = helper.make_node(name, ["x"], ["y"], domain="wagi", plugin_namespace="wagi", plugin_version="1")
    imports = [helper.make_opsetid("", DEFAULT_OPSET)]
    model = helper.make_model(
        helper.make_graph([node], name, [source], [target]), opset_imports=imports, ir_version=10
    )
    add_functions(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    opened = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda values: opened.run(None, {"x": values})[0]


def run(args: argparse.Namespace) -> None:
    from wagi.errors import UserError

    if min(args.size, args.batch, args.rounds, args.threads) < 1 or args.size % 2:
        raise UserError("--size must be even, all numbers at least 1", 2)
    import torch

    from benchmarks.timing import interleave
    from wagi.files import write_json

    torch.set_num_threads(args.threads)
    samples = interleave(works(args.size, args.batch, args.threads), args.rounds, warmup=2)
    found = {name: times.statistics() for name, times in samples.items()}
    floor = min(found[name]["p50"] for name in ("copy, numpy", "copy, torch"))
    megabytes = 2 * 4 * args.batch * _COLOURS * args.size**2 / 1e6
    head = {name: getattr(args, name) for name in ("size", "batch", "rounds", "threads")}
    rows = {name: {**t, "times_a_copy": round(t["p50"] / floor, 2)} for name, t in found.items()}
    if args.out:
        write_json(args.out, {"schema": 1, **head, "latency_ms": rows})
    print(f"| {args.batch} x {_COLOURS} x {args.size} x {args.size}, FP32 | p50 ms | GB/s | times a copy |")
    print("| --- | --- | --- | --- |")
    for name, row in rows.items():
        print(f"| {name} | {row['p50']:.3g} | {megabytes / row['p50']:.1f} | {row['times_a_copy']:.1f} |")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the report cannot be written, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "")


if __name__ == "__main__":
    sys.exit(main())
