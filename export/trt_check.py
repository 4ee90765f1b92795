"""Parse and build every graph of a bundle with a real TensorRT parser and builder, without a GPU.

python export/trt_check.py my-bundle
python export/trt_check.py           the embedded model, in FP16 with each form of the skip path, and random
                                     models at 1024 px in FP32 and FP16

The builder is TensorRT-RTX's (`make trt-check` installs it), which builds ahead of time on the CPU. Every
graph is built without and with the plugin library, each time in a process of its own; with the library, each
node of the domain `wagi` must be one PLUGIN_V3 layer.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not

WHEEL = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
LIBRARIES = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")
MOST_SECONDS = 1800


@dataclass(frozen=True)
class Tools:
    """The compiled driver, the plugin library, and a folder in which TensorRT-RTX has its plain names."""

    driver: Path
    plugins: Path
    libraries: Path


@dataclass(frozen=True)
class Result:
    """One build: the network's layers, those that are plugins, the plan's size; `error` when it failed."""

    layers: int = 0
    plugins: int = 0
    size: int = 0
    seconds: float = 0
    error: str = ""


@dataclass(frozen=True)
class Row:
    """One graph: its nodes that are plugins, and its builds without and with the plugin library."""

    label: str
    nodes: int
    plain: Result
    plugged: Result

    @property
    def error(self) -> str:
        for kind, result, wanted in (("without", self.plain, 0), ("with", self.plugged, self.nodes)):
            if result.error:
                return f"{kind} the plugin library: {result.error}"
            if result.plugins != wanted:
                return f"{kind} the plugin library: {result.plugins} plugin layers, not {wanted}"
        return ""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trt_check.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", type=Path, nargs="*", metavar="BUNDLE", help="folder by to_onnx.py")
    parser.add_argument(
        "--rtx", type=Path, default=ROOT / ".venv-trt", metavar="DIR",
        help=f"folder or environment that holds {WHEEL} (default: .venv-trt of the checkout)",
    )  # fmt: skip
    parser.add_argument(
        "--headers", type=Path, metavar="DIR", default=os.environ.get("WAGI_TENSORRT_INCLUDE"),
        help="folder of NvInfer.h, TensorRT 11 (default: $WAGI_TENSORRT_INCLUDE, then the system's)",
    )  # fmt: skip
    parser.add_argument(
        "--fetch-headers", action="store_true", help="download NVIDIA's public headers where none are found"
    )
    parser.add_argument("--max-batch", type=int, default=4, metavar="N", help="profile 1 to N (default 4)")
    parser.add_argument("--only", metavar="A,B", help="of what is checked by default (a wrong name lists it)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the table as JSON; a FILE's other graphs stay"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Build the tools, check every graph, print the table; 1 when a graph failed."""
    from export.trt_graphs import bundle_graphs, chosen, default_graphs
    from wagi.files import write_json
    from wagi_rt.errors import UserError

    if args.max_batch < 1:
        raise UserError(f"--max-batch {args.max_batch}: must be at least 1", 2)
    if args.bundles and args.only is not None:
        raise UserError("--only: chooses among the default graphs; leave it out beside BUNDLE", 2)
    names = [] if args.bundles else chosen(args.only)
    rows = earlier(args.out) if args.out else {}
    with tempfile.TemporaryDirectory(prefix="trt-check-") as scratch:
        tools = prepare(args, Path(scratch))
        named = (pair for bundle in args.bundles for pair in bundle_graphs(bundle))
        print(f"{'graph':<34} {'nodes':>5} {'plugins':>7} {'layers':>11} {'plan MB':>13} {'seconds':>11}")
        bad = 0
        for label, graph in named if args.bundles else default_graphs(Path(scratch), names):
            row = check(label, graph, tools, args.max_batch)
            print(line(row), flush=True)
            rows[label] = values(row)
            if args.out:
                write_json(args.out, {**head(tools, args.max_batch), "rows": list(rows.values())})
            bad += bool(row.error)
    print(f"{bad} graphs failed" if bad else "every graph was parsed and built, without and with plugins")
    return 1 if bad else 0


def line(row: Row) -> str:
    """A row of the table; pairs are without/with the plugin library."""
    a, b = row.plain, row.plugged
    return (
        f"{row.label:<34} {row.nodes:>5} {b.plugins:>7} {f'{a.layers}/{b.layers}':>11} "
        f"{f'{a.size / 1e6:.1f}/{b.size / 1e6:.1f}':>13} {f'{a.seconds:.0f}/{b.seconds:.0f}':>11}  "
        f"{'FAIL ' + row.error if row.error else 'pass'}"
    )


def values(row: Row) -> dict[str, Any]:
    """The row as JSON, without seconds: they belong to one machine, the rest to TensorRT-RTX."""

    def numbers(result: Result) -> dict[str, int]:
        return {"layers": result.layers, "plugins": result.plugins, "bytes": result.size}

    built = {"without": numbers(row.plain), "with": numbers(row.plugged)}
    return {"graph": row.label, "nodes": row.nodes, **built, "error": row.error}


def head(tools: Tools, most: int) -> dict[str, Any]:
    version = (tools.libraries / LIBRARIES[0]).resolve().name.partition(".so.")[2]
    command = f"python export/trt_check.py --max-batch {most}"  # whatever --only chose: rows of runs add up
    return {"schema": 1, "command": command, "tensorrt_rtx": version}


def earlier(path: Path) -> dict[str, dict[str, Any]]:
    """{graph: row} of an earlier run's file, nothing where there is none. UserError for another file."""
    from wagi_rt.errors import UserError

    try:
        return {row["graph"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}
    except (ValueError, KeyError, TypeError, OSError):
        raise UserError(f"--out {path}: is not a file of trt_check.py; choose another name", 2) from None


# -------------------------------------------------------------------------------------------------- the tools


def prepare(args: argparse.Namespace, scratch: Path) -> Tools:
    """Find TensorRT-RTX, compile driver and plugins with CMake. UserError says what is missing."""
    libraries = scratch / "lib"
    libraries.mkdir()
    for name in LIBRARIES:
        found = next(iter(sorted(args.rtx.rglob(f"{name}.*"))), None) if args.rtx.is_dir() else None
        if not found:
            raise _missing(f"--rtx {args.rtx}: no {name} there; run `make trt-check` (it installs {WHEEL})")
        # Under the name without a version: the parser opens the builder's library by it for every plugin
        # and ends the process where it is not found. The wheel only holds the versioned name.
        (libraries / name).symlink_to(found.resolve())
    build = ROOT / "build-trt-check"
    options = ["-DWAGI_TESTS=OFF", "-DCMAKE_CUDA_ARCHITECTURES=80-real"]
    options += [f"-DWAGI_TENSORRT_INCLUDE={Path(args.headers).resolve()}"] if args.headers else []
    options += ["-DWAGI_FETCH_TENSORRT=ON"] if args.fetch_headers else []
    said = _cmake("-S", str(ROOT), "-B", str(build), *options)
    if "TensorRT plugins are skipped" in said:
        reason = next(text for text in said.splitlines() if "skipped" in text)
        raise _missing(f"{reason.removeprefix('-- ')}; or use --headers DIR, --fetch-headers")
    _cmake("--build", str(build), "--target", "wagi_trt", "wagi_trt_check")
    return Tools(build / "bin" / "wagi_trt_check", build / "lib" / "libwagi_trt.so", libraries)


def _missing(text: str) -> Exception:
    from wagi_rt.errors import UserError

    return UserError(text, 2)


def _cmake(*words: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(
            ["cmake", *words], env={**os.environ, "PATH": path}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError:
        raise _missing("cmake is not installed; run: pip install cmake") from None
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise _missing(f"cmake {' '.join(words)} failed; its output is above")
    return done.stdout


# ------------------------------------------------------------------------------------------------- the builds


def check(label: str, graph: Path, tools: Tools, most: int) -> Row:
    """Count the nodes of `graph` that are plugins, build it without and with the plugin library."""
    import onnx

    nodes = onnx.load(graph, load_external_data=False).graph.node
    count = sum(node.domain == "wagi" for node in nodes)
    return Row(label, count, build(tools, graph, most, False), build(tools, graph, most, True))


def build(tools: Tools, graph: Path, most: int, plugins: bool) -> Result:
    """Parse and build `graph` in a process of its own: a crash of the library is a result, not the end."""
    command = [str(tools.driver), *LIBRARIES, str(graph), str(most)]
    command += [str(tools.plugins)] if plugins else []
    start = time.monotonic()
    try:
        done = subprocess.run(
            command, env={**os.environ, "LD_LIBRARY_PATH": str(tools.libraries)},
            capture_output=True, text=True, errors="replace", timeout=MOST_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Result(error=f"not finished after {MOST_SECONDS} s")
    seconds = time.monotonic() - start
    numbers = re.fullmatch(r"layers (\d+) plugins (\d+) bytes (\d+)\n", done.stdout)
    if done.returncode or not numbers:
        errors = [text for text in done.stderr.splitlines() if text.startswith("error")]
        reason = errors[0] if errors else (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Result(error=f"status {done.returncode}, {reason[:400]}")
    layers, found, size = map(int, numbers.groups())
    return Result(layers, found, size, seconds)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 all graphs pass, 1 one does not or a bundle is broken, 2 something is missing."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "", "export")


if __name__ == "__main__":
    sys.exit(main())
