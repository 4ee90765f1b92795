"""Parse and build every graph of a bundle with a real TensorRT parser and builder, without a GPU.

python export/trt_check.py my-bundle
python export/trt_check.py           the embedded model, in FP16 with each form of the skip path, and a random
                                     SWAGAN-1024 in FP32 and FP16

The builder is TensorRT-RTX's (`make trt-check` installs it), which builds ahead of time on the CPU. Every
graph is built without and with the plugin library, each time in a process of its own; with the library, each
node of the domain `wagi` must be one PLUGIN_V3 layer.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wagi.model import WaGI

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # the scripts run from any checkout, installed or not

EMBEDDED = ROOT / "wagi" / "portraits" / "portraits-128.safetensors"
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
    return parser


def run(args: argparse.Namespace) -> int:
    """Build the tools, check every graph, print the table; 1 when a graph failed."""
    from wagi_rt.errors import UserError

    if args.max_batch < 1:
        raise UserError(f"--max-batch {args.max_batch}: must be at least 1", 2)
    with tempfile.TemporaryDirectory(prefix="trt-check-") as scratch:
        tools = prepare(args, Path(scratch))
        print(f"{'graph':<34} {'nodes':>5} {'plugins':>7} {'layers':>11} {'plan MB':>13} {'seconds':>11}")
        bad = 0
        named = (pair for bundle in args.bundles for pair in bundle_graphs(bundle))
        for label, graph in named if args.bundles else default_graphs(Path(scratch)):
            row = check(label, graph, tools, args.max_batch)
            print(line(row), flush=True)
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


# ------------------------------------------------------------------------------------------------- the graphs


def default_graphs(scratch: Path) -> Iterator[tuple[str, Path]]:
    """(label, file): the embedded bundle's, its checkpoint's in FP16 with each form of the skip path, and the
    paper's model at 1024 px.

    The paper's has random weights, which neither parser nor builder minds.
    """
    from export.skip import SKIP_FORMS
    from wagi.checkpoint import load_model
    from wagi_rt import manifest

    yield from bundle_graphs(manifest.read().folder)
    for name, make, precision, skip in (
        *(("embedded", lambda: load_model(EMBEDDED), "fp16", skip) for skip in SKIP_FORMS),
        ("swagan-1024", random_model, "fp32", "folded"),
        ("swagan-1024", random_model, "fp16", "folded"),
    ):
        label = f"{name}-{precision}" + (f"-{skip}" if skip != "folded" else "")
        with tempfile.TemporaryDirectory(dir=scratch) as folder:  # the large ones take a gigabyte each
            for path in export_graphs(make(), precision, Path(folder), skip):
                yield f"{label}/{path.stem}", path


def random_model() -> "WaGI":
    """The paper's model at 1024 px with fresh weights."""
    import torch

    from wagi.config import ModelConfig
    from wagi.model import WaGI
    from wagi.networks.build import PARTS, build_part

    torch.manual_seed(0)
    parts: list[Any] = [build_part(ModelConfig(size=1024), part) for part in PARTS]
    return WaGI(*parts).eval()


def export_graphs(model: "WaGI", precision: str, folder: Path, skip: str = "folded") -> list[Path]:
    """Export a model into `folder`, without the comparison with PyTorch."""
    from export.bundle import trace_one_by_one, write_graphs
    from export.graphs import build_graphs
    from export.trace import DEFAULT_OPSET

    graphs = build_graphs(model, precision, skip=skip)

    def say(text: str) -> None:
        print(f"{model.generator.size} px {precision}: {text}", file=sys.stderr, flush=True)

    traced = trace_one_by_one(graphs, DEFAULT_OPSET, say)
    write_graphs(traced, model, folder, precision)
    return [folder / f"{name}.onnx" for name in graphs]


def bundle_graphs(bundle: Path) -> Iterator[tuple[str, Path]]:
    """(label, file) of every graph of a checked bundle."""
    from wagi_rt import manifest

    described = manifest.read(bundle)
    for name, graph in described.graphs.items():
        yield f"{described.folder.resolve().name}/{name}", described.folder / graph.file


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
