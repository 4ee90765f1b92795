"""A library that is not installed costs a command one line that names the extra to install."""

import subprocess
import sys

import pytest
from checkout import ROOT

BASE = ("torch", "onnx", "onnxscript", "safetensors", "tqdm", "sklearn", "matplotlib", "torchmetrics")
TRAIN, EXPORT = "pip install 'wagi[train]'", "pip install 'wagi[export]'"
COMMANDS = [
    ("wagi.train", ["generator", "--preset", "smoke", "--data", "d", "--out", "o"], TRAIN),
    ("wagi.evaluate", ["--model", "m.pt", "--data", "portraits:1:1", "--protocol", "portraits"], TRAIN),
    ("wagi.evaluate", ["table2", "--help"], TRAIN),
    ("wagi.convert", ["a.pt", "-o", "b.pt"], TRAIN),
    ("wagi.standins", ["attributes", "--data", "d", "--out", "o"], TRAIN),
    ("export/to_onnx.py", ["--checkpoint", "m.pt", "-o", "b"], EXPORT),
    ("export/check_parity.py", ["b", "--checkpoint", "m.pt"], EXPORT),
]


def start(name: str, *words: str, without: tuple[str, ...] = BASE, cwd=ROOT) -> subprocess.CompletedProcess:
    runner, name = ("path", str(ROOT / name)) if name.endswith(".py") else ("module", name)
    code = f"""
import runpy, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "runtime")!r}]
sys.modules.update(dict.fromkeys({without!r}))
sys.argv[1:] = {list(words)!r}
runpy.run_{runner}({name!r}, run_name="__main__")
"""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name, words, remedy", COMMANDS, ids=[" ".join((c[0], *c[1][:1])) for c in COMMANDS])
def test_one_line_names_the_extra(name, words, remedy, tmp_path):
    done = start(name, *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1 and "is not installed" in done.stderr and remedy in done.stderr
    assert not list(tmp_path.iterdir())


def test_portraits_without_their_bar_leave_nothing(tmp_path):
    words = ("--out", "p", "--count", "1", "--size", "16")
    done = start("wagi.portraits", *words, without=("tqdm",), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"error: tqdm is not installed; run: {TRAIN}\n")
    assert not (tmp_path / "p").exists()
    assert start("wagi.portraits", *words, without=(), cwd=tmp_path).returncode == 0


def test_our_own_missing_modules_are_no_missing_library():
    from wagi.errors import run_command

    def broken() -> None:
        raise ModuleNotFoundError("no module", name="wagi.gone")

    with pytest.raises(ModuleNotFoundError):
        run_command(broken, "")
