"""Each extra installs on its own in a fresh environment, and none of them is imported where it is not needed.

Slow, and in need of a package index: the environments are made with pip, at the versions of constraints.txt.
"""

import shutil
import subprocess
import sys
import venv

import pytest
import tomllib
from checkout import ROOT, copy_to

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# NVIDIA's libraries are gigabytes; `build` is on NVIDIA's own index.
ONLY_RESOLVED, ELSEWHERE = {"gpu"}, {"build"}
TORCH = "torch==2.13.0"  # as in the Makefile
# Commands of the base install; imports of theirs outside the standard library, but for numpy, Pillow and us.
FOREIGN = """
import io, sys
from contextlib import redirect_stdout, suppress
before = set(sys.modules)
from wagi_rt.cli import build_parser, main
commands = build_parser()._subparsers._group_actions[0].choices
assert {"invert", "edit", "bulk", "info"} <= set(commands)
for words in (["--version"], ["--help"], *([name, "--help"] for name in commands)):
    with suppress(SystemExit), redirect_stdout(io.StringIO()):
        main(words)
import wagi_rt.bulk.command, wagi_rt.session
names = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(name for name in names - {"numpy", "PIL", "wagi_rt"} if not name.startswith("_")))
"""

pytestmark = pytest.mark.slow


def pip(python, *words) -> subprocess.CompletedProcess:
    return subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *words], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The project as a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    if pip(sys.executable, "download", "-q", "--no-deps", "-d", folder / "index", "tqdm").returncode:
        pytest.skip("no package index is within reach")
    done = pip(sys.executable, "wheel", "-q", "--no-deps", "-w", folder, copy_to(folder / "checkout"))
    assert done.returncode == 0, done.stderr
    return next(folder.glob("wagi-*.whl"))


@pytest.fixture
def python(tmp_path):
    """The interpreter of a fresh environment, which is removed again."""
    venv.create(tmp_path / "env", with_pip=True)
    yield tmp_path / "env" / "bin" / "python"
    shutil.rmtree(tmp_path / "env")


@pytest.mark.parametrize("extra", sorted({"", *EXTRAS} - ELSEWHERE))
def test_an_extra_stands_alone(extra, wheel, python):
    options = ["--dry-run"] if extra in ONLY_RESOLVED else []
    if any(line.startswith("torch>") for line in EXTRAS.get(extra, [])):
        options.append(TORCH)
    wanted = f"wagi[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    done = pip(python, "install", "-q", "-c", ROOT / "constraints.txt", *options, wanted)
    assert done.returncode == 0, done.stderr[-2000:]
    if extra in ONLY_RESOLVED:
        return
    checked = pip(python, "check")
    assert checked.returncode == 0, checked.stdout
    done = subprocess.run([python, "-c", FOREIGN], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stdout + done.stderr[-2000:]
