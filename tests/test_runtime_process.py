"""`wagi-rt` as a process: closed streams, signals, pipes, and what a terminal is given to show."""

import os
import signal
import subprocess
import sys
import time

import pytest
from checkout import ROOT
from PIL import Image
from tiny_bundle import edit_manifest, error_line, run_cli, write_tiny_bundle

from wagi_rt.errors import printable

ENV = {**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "wagi_rt"]
PHOTO = Image.linear_gradient("L").convert("RGB")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        PHOTO.save(folder / name)
    return folder


def shell(line: str, folder, **options: object) -> subprocess.CompletedProcess:
    """A line of bash in which $W is `wagi-rt`."""
    env = {**ENV, "W": f"{sys.executable} -m wagi_rt"}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=60, **options
    )


# Signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_without_traceback_or_files(number, status, bundle, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "invert", "-", "-o", out / "x.png", "-m", bundle],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, text=True,
        # A shell ignores Ctrl-C in what it starts in the background, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert "on cpu" in process.stderr.readline()  # the model is open, now it waits for stdin
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status and "Traceback" not in errors
    assert not out.exists() or list(out.iterdir()) == []


def test_a_reader_that_goes_away_is_no_traceback(bundle, photos, tmp_path):
    done = subprocess.run(
        f"'{sys.executable}' -m wagi_rt invert '{photos}' -m '{bundle}' -o '{tmp_path}/out' --json | true",
        shell=True, capture_output=True, text=True, env=ENV, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_names_that_are_not_unicode(bundle, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    PHOTO.save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", name)
    done = subprocess.run(
        [*map(os.fsencode, [*COMMAND, "invert", name, "-o", tmp_path / "out", "-m", bundle])],
        capture_output=True, env={**ENV, "PYTHONIOENCODING": "ascii"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"caf\xe9.png"]


EARLY = """
import os, runpy, signal, sys
def hook(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.kill(os.getpid(), signal.{name})
sys.addaudithook(hook)
sys.argv[1:] = {arguments!r}
runpy.run_module("wagi_rt", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("module", ["wagi_rt.cli", "argparse", "numpy", "PIL.Image", "onnxruntime"])
def test_a_signal_while_it_starts_prints_no_page(module, name, bundle, photos, tmp_path):
    arguments = ["invert", str(photos), "-m", str(bundle), "-o", str(tmp_path / "out")]
    code = EARLY.format(module=module, name=name, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENV, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.returncode not in (0, 1, 2) and len(done.stderr.splitlines()) <= 1, done.stderr
    assert not (tmp_path / "out").exists()


# Streams


@pytest.mark.parametrize("arguments", ["--help", "info -m bundle", "invert a.png -m bundle -o - -q"])
def test_a_closed_stdout_is_one_line(arguments, bundle, photos):
    os.symlink(bundle, photos / "bundle")
    done = shell(f"$W {arguments} >&-", photos)
    assert done.returncode == 1 and "stdout: " in error_line(done.stderr)


def test_a_closed_stderr_stops_nothing(bundle, photos):
    done = shell(f"$W invert a.png nowhere.png -m {bundle} -o out 2>&-", photos)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert [path.name for path in (photos / "out").iterdir()] == ["a.png"]
    with Image.open(photos / "out" / "a.png") as image:
        image.load()


def test_a_closed_stdin_is_one_line_and_others_are_done(bundle, photos):
    done = shell(f"$W invert - a.png -m {bundle} -o out <&-", photos)
    assert done.returncode == 1 and "stdin: cannot be read" in error_line(done.stderr)
    assert [path.name for path in (photos / "out").iterdir()] == ["a.png"]


def test_pipes_are_inputs_like_others(bundle, photos):
    """A pipe with text costs one line, one with a picture is inverted; the file between is done."""
    done = shell(f"$W invert <(echo hi) a.png <(cat b.jpg) -m {bundle} -o out", photos)
    assert done.returncode == 1 and "not an image" in error_line(done.stderr)
    assert len(list((photos / "out").iterdir())) == 2


def test_a_pipe_without_end_is_refused(bundle, photos):
    done = shell(
        f"yes | $W invert - a.png -m {bundle} -o out; $W invert /dev/zero -m {bundle} -o z", photos
    )
    assert "Traceback" not in done.stderr
    assert "error: stdin: more than 256 MB" in done.stderr and "error: /dev/zero: not an image" in done.stderr
    assert [path.name for path in (photos / "out").iterdir()] == ["a.png"]


def test_a_working_directory_that_is_gone(bundle, photos, tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell(f"rmdir ../gone; $W invert {photos}/a.png -m {bundle} -o out.png", tmp_path / "gone")
    assert done.returncode in (1, 2) and "stdout" not in error_line(done.stderr)


# Text from outside

EVIL = "\x1b]0;owned\x07\x1b[2J\u202egnp.\x9b1m\n[1 of 1] fine"


@pytest.mark.skipif(sys.platform == "win32", reason="such names exist on POSIX only")
def test_names_cannot_steer_the_terminal(bundle, tmp_path, capsys):
    (tmp_path / f"{EVIL}.png").write_bytes(b"no picture")
    PHOTO.save(tmp_path / f"good{EVIL}.png", "PNG")
    assert run_cli("invert", tmp_path, "-m", bundle, "-o", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 4  # the model, a failure, an image, the sum
    assert printable(error.replace("\n", " ")) == error.replace("\n", " ")
    assert r"\x1b]0;owned\x07" in error and r"\u202e" in error


def test_a_manifest_cannot_steer_the_terminal(tmp_path, capsys):
    bundle = write_tiny_bundle(tmp_path / "bundle", name="tiny")
    edit_manifest(bundle, created=f"2026{EVIL}", source={f"key{EVIL}": f"value{EVIL}"})
    assert run_cli("info", "-m", bundle) == 0
    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.splitlines())
    assert r"value\x1b]0;owned" in shown


def test_what_is_printable_stays():
    assert printable("Zürich 写真 é.png") == "Zürich 写真 é.png"
    assert printable("a\tb\x7f\u2028\udce9") == r"a\tb\x7f\u2028\udce9"
