"""Rounding to 8 bit inside the graph against numpy's, behind the last inverse Haar of the generator.

python benchmarks/rounding.py --size 1024 --rounds 30 --out benchmarks/results/rounding.json

Each form takes coefficients and gives pixels [H, W, 3]; `different` counts values that are not numpy's.
Ratios are against numpy in the same engine and the same rounds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    import numpy as np
    import onnx

ENGINES = ("onnx", "openvino")
# float: the graph as it is exported, without rounding; numpy: the same and the runtime's function behind it;
# planes: rounding in the graph, order of the pixels in numpy; graph: both in the graph.
FORMS = ("float", "numpy", "planes", "graph")
_BANDS = 12


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rounding.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--size", type=int, default=1024, metavar="S", help="side of the image (default 1024)")
    add("--rounds", type=int, default=30, metavar="N", help="interleaved rounds (default 30)")
    add("--threads", type=int, default=2, metavar="N", help="threads of the engines (default 2)")
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    return parser


def graph(form: str, size: int) -> onnx.ModelProto:
    """Coefficients x [1, 12, S/2, S/2] -> y: floats or uint8 [1, 3, S, S], or uint8 pixels [1, S, S, 3]."""
    import numpy as np
    import onnx.inliner
    from onnx import TensorProto, helper, numpy_helper

    from export.haar_functions import add_functions
    from export.trace import DEFAULT_OPSET

    kind = {"planes": TensorProto.UINT8, "graph": TensorProto.UINT8}.get(form, TensorProto.FLOAT)
    last = "image" if kind == TensorProto.UINT8 else "y"
    nodes = [
        helper.make_node(
            "HaarIDWT", ["x"], [last], domain="wagi", plugin_namespace="wagi", plugin_version="1"
        )
    ]
    if kind == TensorProto.UINT8:
        whole = "y" if form == "planes" else "planes"
        nodes += [
            helper.make_node("Clip", ["image", "low", "one"], ["clipped"]),
            helper.make_node("Add", ["clipped", "one"], ["positive"]),
            helper.make_node("Mul", ["positive", "scale"], ["scaled"]),
            helper.make_node("Round", ["scaled"], ["rounded"]),
            helper.make_node("Cast", ["rounded"], [whole], to=kind),
        ]
    if form == "graph":
        nodes.append(helper.make_node("Transpose", ["planes"], ["y"], perm=[0, 2, 3, 1]))
    constants = {"low": -1, "one": 1, "scale": 127.5}
    stored = [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
    shape = [1, size, size, 3] if form == "graph" else [1, 3, size, size]
    model = helper.make_model(
        helper.make_graph(
            nodes, form,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, _BANDS, size // 2, size // 2])],
            [helper.make_tensor_value_info("y", kind, shape)], stored,
        ),
        opset_imports=[helper.make_opsetid("", DEFAULT_OPSET)], ir_version=10,
    )  # fmt: skip
    add_functions(model)
    return onnx.inliner.inline_local_functions(model)


def opened(engine: str, form: str, size: int, threads: int) -> Callable[[Any], np.ndarray]:
    """x => pixels [S, S, 3], of `float` the image [3, S, S]."""
    import numpy as np

    from wagi_rt import pictures

    content = graph(form, size).SerializeToString()
    if engine == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        compute = lambda x: session.run(None, {"x": x})[0]  # noqa: E731
    else:
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        model = core.compile_model(core.read_model(content), "CPU", settings)
        compute = lambda x: np.array(model({"x": x})["y"])  # noqa: E731 - a copy, as the runtime makes one
    behind = {
        "float": lambda y: y[0],
        "numpy": lambda y: pictures.to_uint8(y)[0],
        "planes": lambda y: np.ascontiguousarray(y[0].transpose(1, 2, 0)),
        "graph": lambda y: y[0],
    }[form]
    return lambda x: behind(compute(x))


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from benchmarks.machine import commit, processor
    from benchmarks.report import table
    from benchmarks.timing import interleave
    from wagi.errors import UserError
    from wagi.files import write_json
    from wagi_rt import haar, probes

    if min(args.size, args.rounds, args.threads) < 1 or args.size & (args.size - 1):
        raise UserError("--size must be a power of two, --rounds and --threads at least 1", 2)
    x = haar.haar(1.1 * probes.images(args.size, 1, 1))  # some values beyond the range
    works = {(e, f): opened(e, f, args.size, args.threads) for e in ENGINES for f in FORMS}
    made = {key: work(x) for key, work in works.items()}
    samples = interleave({k: lambda w=w: w(x) for k, w in works.items()}, args.rounds, warmup=3)
    p50 = {key: times.statistics()["p50"] for key, times in samples.items()}
    rows = [
        {
            "engine": e,
            "form": f,
            "ratio": round(p50[e, f] / p50[e, "numpy"], 3),
            "different": None if f == "float" else int((made[e, f] != made[e, "numpy"]).sum()),
        }
        for e, f in works
    ]
    head = {"machine": processor(), "commit": commit(), "numpy": np.__version__}
    head |= {name: getattr(args, name) for name in ("size", "rounds", "threads")}
    if args.out:
        write_json(args.out, {"schema": 1, **head, "rows": rows})
    print(table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]))


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the report cannot be written, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "")


if __name__ == "__main__":
    sys.exit(main())
