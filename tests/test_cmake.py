"""CMake builds the host part of the Haar arithmetic with nothing but a C++ compiler, and its tests pass."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
GOLDEN = Path("runtime/plugins/tests/data/haar_pywavelets.txt")


def run(*command: object, cwd: Path) -> str:
    """Run one command of the build; its output, or a failure that shows it."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, "PATH": PATH},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("options, message", [
    ([], "wagi: "),
    (["-DWAGI_CUDA=OFF"], "device code is skipped"),
])
def test_configure_build_and_ctest(root, tmp_path, options, message):
    """The three documented commands; whatever nvcc there is, and without one."""
    for tool in ("cmake", "ctest"):
        if not shutil.which(tool, path=PATH):
            pytest.skip(f"{tool} not found (pip install cmake)")
    if not any(shutil.which(compiler, path=PATH) for compiler in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler found")
    assert message in run("cmake", "-S", root, "-B", tmp_path, *options, cwd=tmp_path)
    run("cmake", "--build", tmp_path, cwd=tmp_path)
    report = run("ctest", "--test-dir", tmp_path, "--output-on-failure", cwd=tmp_path)
    passed = set(re.findall(r"Test +#\d+: haar_math_(\w+) \.+ +Passed", report))
    assert {"matrix", "strides", "roundtrip", "golden"} <= passed, report


def test_golden_file_is_what_pywavelets_says(root, tmp_path):
    """The committed numbers are those of the installed PyWavelets."""
    fresh = tmp_path / "golden.txt"
    run(sys.executable, root / "runtime/plugins/tests/make_golden.py", fresh, cwd=tmp_path)
    now, committed = fresh.read_text().splitlines(), (root / GOLDEN).read_text().splitlines()
    assert len(now) == len(committed) and now[0] == committed[0]
    for new, old in zip(now[1:], committed[1:], strict=True):
        assert [float(v) for v in old.split()] == pytest.approx([float(v) for v in new.split()], abs=1e-7)
