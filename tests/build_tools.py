"""Commands of the C++ and CUDA builds, for the tests of CMake and of the plugin library."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def run(*command: object, cwd: Path | None = None) -> str:
    """The output of one command, or a failure that shows it."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, "PATH": PATH},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def need(*tools: str) -> None:
    for tool in tools:
        if not shutil.which(tool, path=PATH):
            pytest.skip(f"{tool} not found")
