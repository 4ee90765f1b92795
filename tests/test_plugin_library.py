"""The TensorRT plugin library: what it exports, what it answers, and that the lean runtime finds its plugins.

No GPU is needed. Built where nvcc and TensorRT's headers are (WAGI_TENSORRT_INCLUDE or the system's).
"""

import ctypes
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from build_tools import need, run

PLUGINS = Path(__file__).resolve().parent.parent / "runtime" / "plugins"


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> tuple[Path, str]:
    """The build folder and what CMake said; one architecture only."""
    need("nvcc", "cmake", "ctest", "g++")
    folder = tmp_path_factory.mktemp("plugins")
    said = run("cmake", "-S", PLUGINS.parent.parent, "-B", folder, "-DCMAKE_CUDA_ARCHITECTURES=80-real")
    run("cmake", "--build", folder)
    return folder, said


@pytest.fixture(scope="module")
def library(build) -> Path:
    folder, said = build
    if "TensorRT plugins are skipped" in said:
        pytest.skip("no TensorRT headers (set WAGI_TENSORRT_INCLUDE to the folder of NvInfer.h)")
    return folder / "lib" / "libwagi_trt.so"


def exported(library: Path) -> set[str]:
    need("nm")
    return {text.split()[-1] for text in run("nm", "-D", "--defined-only", library).splitlines()}


def test_kernels_are_a_c_library_of_three_functions(build):
    names = {"wagi_haar_forward", "wagi_haar_inverse", "wagi_skip_upsample"}
    assert exported(build[0] / "lib/libwagi_kernels.so") == names


@pytest.mark.parametrize("arguments", [
    (0, 3, 8, 8, 0, 0), (1, 0, 8, 8, 0, 0), (1, 3, 7, 8, 0, 0), (1, 3, 8, 7, 0, 0), (1, 3, 0, 8, 0, 0),
    (1, 3, 8, 8, 2, 0), (1, 3, 8, 8, 0, 2), (1, 3, 8, 8, 0, 1), (1 << 12, 1 << 12, 1 << 6, 1 << 6, 1, 0),
])  # fmt: skip
def test_kernels_refuse_what_the_contract_excludes(build, arguments):
    """cudaErrorInvalidValue before CUDA is asked for anything: n, c, h, w, type, layout."""
    library = ctypes.CDLL(str(build[0] / "lib/libwagi_kernels.so"))
    there = ctypes.c_void_p(16)  # never read
    for function in (library.wagi_haar_forward, library.wagi_haar_inverse):
        assert function(there, there, *arguments, None) == 1
        assert function(None, there, 1, 3, 8, 8, 0, 0, None) == 1


@pytest.mark.parametrize("arguments", [
    (0, 3, 8, 8, 0), (1, 0, 8, 8, 0), (1, 3, 0, 8, 0), (1, 3, 8, 8, 2), (1 << 11, 3, 1 << 10, 1 << 10, 1),
])  # fmt: skip
def test_the_skip_kernel_refuses_what_its_contract_excludes(build, arguments):
    """n, c, h, w, type."""
    function = ctypes.CDLL(str(build[0] / "lib/libwagi_kernels.so")).wagi_skip_upsample
    there = ctypes.c_void_p(16)  # never read
    assert function(there, there, there, *arguments, None) == 1
    for missing in range(3):
        pointers = [None if place == missing else there for place in range(3)]
        assert function(*pointers, 1, 3, 8, 8, 0, None) == 1


def test_kernels_access_memory_in_whole_vectors(tmp_path):
    """nvcc once split half of the stores of the forward kernel into scalars."""
    need("nvcc")
    code = tmp_path / "kernels.ptx"
    run("nvcc", "-std=c++17", "-O3", "-arch=sm_80", "-ptx", "-o", code, PLUGINS / "haar_kernels.cu")
    bodies = re.split(r"\.entry +", code.read_text())[1:]
    vectorised = {re.split(r"\(", body)[0]: body for body in bodies if re.search("columns_|rgb_", body[:120])}
    assert len(vectorised) == 6  # columns: two types, two directions; rgb: two directions
    for name, body in vectorised.items():
        accesses = re.findall(r"\b(?:ld|st)\.global[.\w]*|\b(?:ld|st)\.local[.\w]*", body)
        assert len(accesses) >= 6 and all(".v4." in access for access in accesses), f"{name}: {accesses}"


def test_plugins_answer_as_their_contract_says(build, library):
    report = run("ctest", "--test-dir", build[0], "-R", "plugins", "--output-on-failure")
    assert re.search(r"plugins \.+ +Passed", report), report


def test_library_exports_what_tensorrt_looks_up_and_needs_none_of_it(library):
    """A static CUDA runtime and no libnvinfer: one file that loads beside any TensorRT 11."""
    assert exported(library) == {"getCreators", "setLoggerFinder"}
    need("readelf")
    needed = re.findall(r"NEEDED.*\[(.+)\]", run("readelf", "-d", library))
    assert needed and not [name for name in needed if re.search("nvinfer|cuda", name)], needed


LOOK_UP = """
import json, sys
import tensorrt_lean as trt
registry = trt.get_plugin_registry()
registry.load_library(sys.argv[1])
asked = [(name, version, space) for name in ("HaarDWT", "HaarIDWT", "SkipUpsample", "Haar")
         for version in ("1", "2") for space in ("wagi", "")]
found = [(key, registry.get_creator(*key)) for key in asked]
print(json.dumps([[*key, c.name, c.plugin_version, c.plugin_namespace] for key, c in found if c]))
"""


def test_lean_runtime_finds_the_creators(library):
    """By (name, version, namespace), without a GPU; in a process of its own, as the registry is one."""
    if not find_spec("tensorrt_lean"):
        pytest.skip("tensorrt_lean is not installed (pip install tensorrt-lean-cu13)")
    found = json.loads(run(sys.executable, "-c", LOOK_UP, library).splitlines()[-1])
    keys = [[name, "1", "wagi"] for name in ("HaarDWT", "HaarIDWT", "SkipUpsample")]
    assert found == [key + key for key in keys]
