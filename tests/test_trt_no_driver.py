"""The real TensorRT and CUDA packages on a machine without a driver: one line and status 1, never a crash.

A TensorRT runtime object made without a driver kills the process at its next call (decision 51), so each
command runs in a process of its own. Skipped where the packages are missing or where there is a GPU.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from PIL import Image
from tiny_bundle import error_line, write_tiny_bundle

LINE = "TensorRT: no NVIDIA driver on this machine; install r580 or newer"

# What a command does with an error of the runtime.
GUARDED = """
import pathlib, sys
from wagi_rt.errors import UserError
from wagi_rt.manifest import read
from wagi_rt.engines.trt import TrtEngine
from wagi_rt.engines.trt_plans import load_plugins
from wagi_rt.engines.trt_program import import_tensorrt
try:
    {work}
except UserError as error:
    print("error:", error, file=sys.stderr)
    sys.exit(error.status)
"""
LOAD_TWICE = """
import pathlib, sys
from wagi_rt.engines.trt_plans import load_plugins
from wagi_rt.engines.trt_program import import_tensorrt
trt = import_tensorrt()
for _ in range(2):
    load_plugins(trt, pathlib.Path(sys.argv[1]))
registry = trt.get_plugin_registry()
print([registry.get_creator(name, "1", "wagi").name for name in ("HaarDWT", "HaarIDWT")])
"""

# Every call of ours, through the code that makes it: the bindings convert the arguments, then find no driver.
EVERY_CALL = """
import ctypes
import numpy as np
from wagi_rt.engines import trt_cuda
from wagi_rt.errors import UserError
from wagi_rt.engines.trt_program import import_tensorrt, logger
device = trt_cuda.Device.__new__(trt_cuda.Device)
device._cuda = cuda = trt_cuda.import_cuda()
device.index, device.stream, device._buffers, device._pinned = 0, int(cuda.cudaStream_t(16)), {4096}, {8192}
array = np.zeros(4, np.float32)
calls = [
    device.use, lambda: device.buffer(16), lambda: device.pinned((2, 2)), device.synchronize,
    lambda: device.upload(4096, array), lambda: device.download(array, 4096),
    lambda: device.capture(lambda: None), lambda: device.launch(cuda.cudaGraphExec_t()),
    lambda: device._call("cudaGetDeviceProperties", 0),
    lambda: device._call("cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking),
    lambda: device._call("cudaStreamEndCapture", device.stream),
    lambda: device._call("cudaGraphInstantiate", cuda.cudaGraph_t(), 0),
    lambda: device._call("cudaGraphDestroy", cuda.cudaGraph_t()),
]
for call in calls:
    try:
        call()
    except UserError as error:
        assert "cudaErrorInsufficientDriver" in str(error), error
    else:
        raise AssertionError("no error")
device.forget(cuda.cudaGraphExec_t())
device.close()
assert bytes(cuda.cudaDeviceProp().name) == b""
trt = import_tensorrt()
log = logger(trt)
log.log(trt.ILogger.WARNING, "a warning")
log.log(trt.ILogger.ERROR, "CUDA error: out of memory")
assert log.first() == "CUDA error: out of memory" and log.out_of_memory()
assert trt.ExecutionContextAllocationStrategy.USER_MANAGED and trt.TensorIOMode.INPUT and trt.float32
print("done")
"""


def installed(*names: str) -> bool:
    return any(importlib.util.find_spec(name.partition(".")[0]) is not None for name in names)


@pytest.fixture(scope="module", autouse=True)
def no_driver():
    if not installed("tensorrt_lean", "tensorrt_lean_bindings") or not installed("cuda.bindings"):
        pytest.skip("tensorrt-lean-cu13 and cuda-bindings are not installed (extra trt)")
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver")


def run(*command: object, code: str = "") -> subprocess.CompletedProcess:
    """`python COMMAND` or `python -c CODE COMMAND`, with the sources of this checkout."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "runtime"), str(ROOT)])}
    words = [sys.executable, *(["-c", code] if code else []), *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b"))


def check(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 1, (done.returncode, done.stderr)  # a crash would be negative
    assert LINE in error_line(done.stderr) and len(done.stderr.splitlines()) == 1


def test_the_backend(bundle):
    check(run(bundle, code=GUARDED.format(work="TrtEngine(read(sys.argv[1]))")))


def test_the_command(bundle, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "in.png")
    arguments = ["invert", tmp_path / "in.png", "-m", bundle, "-o", tmp_path / "out.png", "--backend", "trt"]
    check(run("-m", "wagi_rt", *arguments, "-q"))
    assert not (tmp_path / "out.png").exists()


def test_building_engines(bundle):
    check(run(ROOT / "export" / "to_engine.py", bundle))


def test_info_says_why_not():
    done = run("-m", "wagi_rt", "info", "--json")
    assert done.returncode == 0, done.stderr
    engine = json.loads(done.stdout)["engines"]["trt"]
    assert engine["available"] is False and "no NVIDIA driver" in engine["detail"]


def test_loading_plugins_needs_no_driver(tmp_path):
    """The plugin registry is safe to touch; a file that is no library is refused in one line."""
    (tmp_path / "libwagi_trt.so").write_text("no library")
    work = "load_plugins(import_tensorrt(), pathlib.Path(sys.argv[1]))"
    done = run(tmp_path / "libwagi_trt.so", code=GUARDED.format(work=work))
    assert done.returncode == 1 and "libwagi_trt.so" in error_line(done.stderr)


def test_our_own_plugins_load_where_they_are_built():
    """Both creators by (name, version, namespace), and loading twice is once."""
    from wagi_rt.engines.trt_plans import find_plugins

    library = find_plugins()
    if library is None:
        pytest.skip("libwagi_trt.so is not built here (needs nvcc and TensorRT headers)")
    done = run(library, code=LOAD_TWICE)
    assert done.returncode == 0 and done.stdout.strip() == "['HaarDWT', 'HaarIDWT']", done.stderr


def test_the_real_bindings_take_our_arguments():
    """Names and argument types against the installed wheels; what a GPU does with them is not shown."""
    done = run(code=EVERY_CALL)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr
