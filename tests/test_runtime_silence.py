"""Nothing is left in a home and nobody is contacted: the engines' telemetry is off."""

import os
import shutil
import subprocess
import sys

import pytest
from checkout import ROOT
from PIL import Image
from tiny_bundle import write_tiny_bundle

COMMAND = "import sys; from wagi_rt.cli import main; sys.exit(main(sys.argv[1:]))"


def run(home, *arguments: object, tracer: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """`wagi-rt ARGUMENTS` with a fresh HOME and nothing of this process's settings about caches."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WAGI_", "ORT_", "XDG_"))}
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT / "runtime"), "OMP_NUM_THREADS": "1"}
    words = [*tracer, sys.executable, "-c", COMMAND, *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


def invert(folder, backend: str) -> list[object]:
    bundle = write_tiny_bundle(folder / "bundle", pipeline=True, default="pipeline")
    Image.new("RGB", (64, 64), "teal").save(folder / "in.png")
    return ["invert", folder / "in.png", "-m", bundle, "-o", folder / "out.png", "--backend", backend]


@pytest.mark.parametrize("command", ["onnx", "openvino", "info"])
def test_a_fresh_home_holds_our_cache_and_nothing_else(tmp_path, command):
    if command == "openvino":
        pytest.importorskip("openvino", reason="needs the extra `openvino`")
    home = tmp_path / "home"
    home.mkdir()
    done = run(home, *(["info"] if command == "info" else invert(tmp_path, command)))
    assert done.returncode == 0, done.stderr
    found = [path.relative_to(home) for path in home.rglob("*")]
    foreign = [path for path in found if path.parts[:2] not in ((".cache",), (".cache", "wagi"))]
    assert not foreign


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("command", ["onnx", "openvino", "info"])
def test_no_socket_is_opened(tmp_path, command):
    if command == "openvino":
        pytest.importorskip("openvino", reason="needs the extra `openvino`")
    trace = tmp_path / "trace"
    tracer = ("strace", "-f", "-qq", "-e", "trace=socket,connect,sendto", "-e", "signal=none")
    tracer += ("-o", str(trace))
    done = run(tmp_path, *(["info"] if command == "info" else invert(tmp_path, command)), tracer=tracer)
    if done.returncode and not trace.exists():
        pytest.skip(f"strace does not work here: {done.stderr[:100]}")
    assert done.returncode == 0, done.stderr
    calls = [line for line in trace.read_text().splitlines() if "(" in line and "AF_UNIX" not in line]
    assert not calls


def test_a_user_who_wants_it_keeps_it():
    code = "import wagi_rt, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    path = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    for setting, wanted in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        base = {key: value for key, value in path.items() if key != "ORT_DISABLE_TELEMETRY"}
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, env=base | setting, capture_output=True, text=True)
        assert done.stdout.strip() == wanted, done.stderr
