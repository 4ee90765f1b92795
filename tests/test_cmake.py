"""CMake builds what the machine allows, says what it skips, and the host tests need but a C++ compiler."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from build_tools import PATH, need, run

GOLDEN = Path("runtime/plugins/tests/data")


def need_compiler() -> None:
    need("cmake", "ctest")
    if not any(shutil.which(compiler, path=PATH) for compiler in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler found")


def test_configure_build_and_ctest(root, tmp_path):
    """The three documented commands without nvcc."""
    need_compiler()
    said = run("cmake", "-S", root, "-B", tmp_path, "-DWAGI_CUDA=OFF", cwd=tmp_path)
    assert "device code is skipped" in said and "the TensorRT plugins are skipped" in said
    run("cmake", "--build", tmp_path, cwd=tmp_path)
    report = run("ctest", "--test-dir", tmp_path, "--output-on-failure", cwd=tmp_path)
    passed = set(re.findall(r"Test +#\d+: (\w+) \.+ +Passed", report))
    haar = ("matrix", "strides", "roundtrip", "golden", "columns", "hwc8")
    assert {*(f"haar_math_{case}" for case in haar), "skip_math_golden"} <= passed, report


def headers(folder: Path, major: int, minor: int) -> Path:
    """What CMake reads of TensorRT's headers."""
    folder.mkdir(parents=True)
    (folder / "NvInfer.h").touch()
    text = f"#define TRT_MAJOR_ENTERPRISE {major}\n#define TRT_MINOR_ENTERPRISE {minor}\n"
    (folder / "NvInferVersion.h").write_text(text)
    return folder


PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(search LANGUAGES NONE)
set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH OFF)
set(WAGI_HAVE_CUDA ON)
include({})
"""


@pytest.mark.parametrize("case", ["option", "prefix", "package", "old", "none"])
def test_where_tensorrt_headers_are_looked_for(root, tmp_path, case):
    """Option, prefix path, NVIDIA's CMake package; too old ones and none are skipped with a reason."""
    need("cmake")
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(root / "runtime/plugins/cmake/tensorrt.cmake"))
    found = headers(tmp_path / "sdk/include", *((10, 16) if case == "old" else (11, 2)))
    package = tmp_path / "sdk/cmake"
    package.mkdir()
    (package / "TensorRT-EnterpriseConfig.cmake").touch()
    option = {
        "option": f"-DWAGI_TENSORRT_INCLUDE={found}",
        "old": f"-DWAGI_TENSORRT_INCLUDE={found}",
        "prefix": f"-DCMAKE_PREFIX_PATH={found.parent}",
        "package": f"-DTensorRT-Enterprise_DIR={package}",
        "none": "-DWAGI_FETCH_TENSORRT=OFF",
    }[case]
    said = run("cmake", "-S", tmp_path, "-B", tmp_path / "build", option, cwd=tmp_path)
    wanted = {
        "old": "is TensorRT 10.16, 11.0 or newer is needed: the TensorRT plugins are skipped",
        "none": "no NvInfer.h found (set WAGI_TENSORRT_INCLUDE",
    }.get(case, "wagi: TensorRT 11.2 headers in")
    assert wanted in said, said


@pytest.mark.parametrize("name", ["haar_pywavelets.txt", "skip_scipy.txt"])
def test_golden_files_are_what_pywavelets_and_scipy_say(root, tmp_path, name):
    """The committed numbers are those of the installed libraries."""
    run(sys.executable, root / "runtime/plugins/tests/make_golden.py", tmp_path, cwd=tmp_path)
    now, committed = ((folder / name).read_text().splitlines() for folder in (tmp_path, root / GOLDEN))
    assert len(now) == len(committed) and now[0] == committed[0]
    for new, old in zip(now[1:], committed[1:], strict=True):
        assert [float(v) for v in old.split()] == pytest.approx([float(v) for v in new.split()], abs=1e-7)
