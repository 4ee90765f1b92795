"""`wagi-rt tune` measures every engine, whatever one of them does; the first `auto` has that done afterwards.

Times and clock are FAKES, so that nothing here depends on how fast anything runs.
"""

import errno
import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from tiny_bundle import error_line, run_cli, write_tiny_bundle

import wagi_rt
from wagi_rt import backends, files, manifest, measured, tuning
from wagi_rt.cli import build_parser
from wagi_rt.engines.base import EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.measured import Row

FAILED = "--precision bf16: b reaches 38.1 dB against FP32, the limit is 45; use --precision fp32"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tmp_path):
    return manifest.read(write_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


# Measuring


class Fakes:
    """FAKE trials and a clock that only they move: {(backend, kind, precision): ms, or why it fails}."""

    def __init__(self, opening: float = 0.0, waited: float = 0.0, **times: float | str | list) -> None:
        self.now, self.opening, self.waited, self.times = 100.0, opening, waited, times
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def launch(self, choice: EngineChoice) -> "FakeTrial":
        name = f"{choice.backend}_{choice.precision or choice.device.partition(':')[0]}"
        return FakeTrial(self, name, self.times.get(name, "not installed"))


class FakeTrial:
    def __init__(self, fakes: Fakes, name: str, state: float | str | list) -> None:
        self.fakes, self.name, self.state = fakes, name, state
        fakes.log.append(f"start {name}")

    def ready(self, seconds: float) -> None:
        self.fakes.now += self.fakes.opening
        if isinstance(self.state, str):
            raise UserError(self.state)

    def run(self, seconds: float) -> tuple[float, float]:
        self.fakes.log.append(self.name)
        ms = self.state.pop(0) if isinstance(self.state, list) else self.state
        if isinstance(ms, str):
            raise UserError(ms)
        self.fakes.now += ms / 1000
        return ms, self.fakes.waited

    def close(self) -> None:
        self.fakes.log.append(f"end {self.name}")


def measure(bundle, fakes: Fakes, budget: float = 60.0) -> dict[str, Row]:
    rows, fakes.steady = tuning.measure(bundle, 2, budget, fakes.launch, fakes.clock)
    return {f"{row.backend}_{row.precision or row.device}": row for row in rows}


def chosen(rows, precision: str | None = backends.AUTO, **rest) -> str | None:
    found = backends.fastest(EngineChoice(**{"backend": "auto", "precision": precision, **rest}), rows)
    return found and found.title("fp32")


def test_the_fastest_is_chosen_by_its_best_run(bundle):
    """A disturbance that hits some runs of each changes nothing."""
    slow, onnx = [80.0] * 20, [19.0, 80.0, 19.1]
    fakes = Fakes(openvino_cpu=[90.0] * 3 + [14.0] * 20, onnx_cpu=onnx + slow, openvino_bf16=50.0)
    rows = measure(bundle, fakes)
    assert (rows["openvino_cpu"].ms, rows["onnx_cpu"].ms, rows["openvino_bf16"].ms) == (14.0, 19.0, 50.0)
    assert chosen(rows.values()) == "openvino fp32"
    assert rows["trt_cuda"].ms is None and rows["trt_cuda"].error == "not installed"


def test_times_of_a_busy_machine_are_taken_longer_and_then_not_trusted(bundle):
    """The two best runs of each must be alike and not wait; at least 6 turns, or 1 s, and 4 s at most."""
    fakes = Fakes(onnx_cpu=[20.0 * 1.1**turn for turn in range(7)] + [20.5])
    assert measure(bundle, fakes)["onnx_cpu"].ms == 20.0 and fakes.steady
    assert fakes.log.count("onnx_cpu") == 8
    fakes = Fakes(onnx_cpu=[20.0, *range(100, 1000, 10)], openvino_cpu=5.0)
    assert measure(bundle, fakes)["onnx_cpu"].ms == 20.0 and not fakes.steady
    assert 4 <= fakes.now - 100 < 5
    fakes = Fakes(onnx_cpu=20.0, waited=5.0)  # alike, but of 20 ms its threads stood 5 in line
    assert measure(bundle, fakes)["onnx_cpu"].ms == 20.0 and not fakes.steady


def test_engines_of_a_small_model_take_turns_and_all_are_closed(bundle):
    fakes = Fakes(openvino_cpu=10.0, onnx_cpu=10.0)
    measure(bundle, fakes)
    runs = [name for name in fakes.log if not name.startswith(("start", "end"))]
    assert runs == ["openvino_cpu", "onnx_cpu"] * 6
    assert sorted(name[4:] for name in fakes.log if name.startswith("end")) == sorted(
        name[6:] for name in fakes.log if name.startswith("start")
    )


def test_engines_far_apart_need_fewer_turns(bundle):
    """4 where each takes 1.25 times as long as the next faster one; 6 where any two are nearer."""
    for times, turns in (((25.0, 20.0, 32.0), 4), ((25.0, 20.5, 32.0), 6), ((20.0, 32.0, 39.0), 6)):
        onnx, openvino, bf16 = times
        names = ("onnx_cpu", "openvino_cpu", "openvino_bf16")
        fakes = Fakes(onnx_cpu=onnx, openvino_cpu=openvino, openvino_bf16=bf16)
        measure(bundle, fakes)
        assert [fakes.log.count(name) for name in names] == [turns] * 3


def test_a_look_for_a_gpu_holds_up_no_process(bundle):
    """Whether there is a driver takes a tenth of a second to say; the CPU's engines open meanwhile."""
    fakes = Fakes(openvino_cpu=14.0, onnx_cpu=19.0)
    measure(bundle, fakes)
    started = [name.removeprefix("start ") for name in fakes.log if name.startswith("start")]
    assert started == ["openvino_cpu", "onnx_cpu", "openvino_bf16", "trt_cuda", "onnx_cuda"]


def test_what_fails_its_parity_check_or_crashes_is_a_line_and_never_chosen(bundle):
    fakes = Fakes(openvino_bf16=FAILED, openvino_cpu=[5.0, "its process was ended by SIGSEGV"], onnx_cpu=20.0)
    rows = measure(bundle, fakes)
    assert rows["openvino_bf16"].error == FAILED and "SIGSEGV" in rows["openvino_cpu"].error
    assert rows["openvino_cpu"].ms is None and chosen(rows.values()) == "onnx fp32"


def test_large_models_come_one_by_one_and_the_budget_ends_it(bundle, monkeypatch):
    monkeypatch.setattr(files, "SMALL", 0)
    fakes = Fakes(opening=9.0, openvino_cpu=2000.0, openvino_bf16=1000.0, onnx_cpu=2700.0)
    rows = measure(bundle, fakes, budget=45.0)
    # 9 s each for trt and cuda, which fail; 9 + 2 * 2; 9 + 2 * 2.7: 45.4 s, and bf16, the last, is not begun.
    begun = ("trt_cuda", "onnx_cuda", "openvino_cpu", "onnx_cpu")
    wanted = [f"{what} {name}" for name in begun for what in ("start", "end")]
    assert [name for name in fakes.log if " " in name] == wanted
    assert fakes.log.count("openvino_cpu") == 2 and rows["openvino_cpu"].ms == 2000.0
    assert rows["openvino_bf16"].error == "not tried, 45 s were over"
    assert chosen(rows.values()) == "openvino fp32"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("import sys; sys.exit(3)", "ended with status 3"),
        ("raise RuntimeError", "ended with status 1"),
        ("print('{}', flush=True); input(); import os; os.abort()", "ended by SIGABRT"),
        ("import time; time.sleep(60)", "not done in time"),
    ],
)
def test_a_process_that_crashes_or_hangs_is_a_line(monkeypatch, code, words):
    monkeypatch.setattr(tuning, "python", lambda given: [sys.executable, "-S", "-c", code])
    trial = tuning.Process("bundle", EngineChoice())
    with pytest.raises(UserError, match=words):
        trial.ready(0.3 if "sleep" in code else 60)
        trial.run(60)
    trial.close()
    assert trial._process.poll() is not None


def test_a_trial_imports_nothing_from_the_working_folder(tmp_path, monkeypatch):
    """As the installed command: a photo's folder may hold a json.py of somebody else."""
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(tuning.python("import json; print(json.__name__)"), capture_output=True, text=True)
    assert done.stdout == "json\n", done.stderr


# The command


@pytest.fixture
def fakes(monkeypatch):
    """Trials of `wagi-rt tune` are FAKES."""
    found = Fakes(openvino_cpu=14.25, onnx_cpu=19.8, openvino_bf16=FAILED)
    monkeypatch.setattr(tuning, "Process", lambda bundle, choice: found.launch(choice))
    monkeypatch.setattr(tuning, "be_gentle", lambda: None)
    monkeypatch.setattr(files, "may_have_bf16", lambda: True)
    return found


def test_tune_says_what_it_measured_and_auto_goes_by_it(bundle, photo, fakes, monkeypatch, capsys):
    assert run_cli("tune", "-m", bundle.folder, "--threads", 1) == 0
    done = capsys.readouterr()
    assert done.out.splitlines()[:2] == ["openvino fp32         14.2 ms", "onnx fp32             19.8 ms"]
    assert f"openvino bf16         not: {FAILED}" in done.out
    assert "--backend auto: openvino fp32\n--backend auto --precision auto: openvino fp32\n" in done.out
    kept = done.err.removeprefix("kept for --backend auto: ").strip()
    assert json.loads(open(kept).read())["bundle"] == "tiny"
    monkeypatch.setattr(subprocess, "Popen", None)  # what is known is not measured again
    words = ("-m", bundle.folder, "--backend", "auto", "--threads", 1, "-o", photo.parent / "o.png")
    assert run_cli("invert", photo, *words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("note: auto chose ") and "14.2" in line and "19.8" in line for line in lines)
    assert run_cli("info", "-m", bundle.folder) == 0
    assert "auto       1 threads: openvino fp32 14.2 ms, onnx fp32 19.8 ms (" in capsys.readouterr().out


def test_tune_and_info_as_json(bundle, fakes, capsys):
    assert run_cli("info", "-m", bundle.folder) == 0
    assert "auto       not measured here" in capsys.readouterr().out
    assert run_cli("tune", "-m", bundle.folder, "--threads", 1, "--json", "-q") == 0
    done = capsys.readouterr()
    report = json.loads(done.out)
    assert done.err == "" and report["threads"] == "1" and len(report["rows"]) == 5
    assert report["chosen"]["--backend auto"] == "openvino fp32"
    assert run_cli("info", "-m", bundle.folder, "--json") == 0
    (known,) = json.loads(capsys.readouterr().out)["auto"]
    assert known["threads"] == "1" and known["rows"] == report["rows"]


def test_nothing_that_runs_is_one_line_and_nothing_is_kept(bundle, fakes, capsys):
    fakes.times.clear()
    assert run_cli("tune", "-m", bundle.folder) == 1
    assert "no engine here can run it" in error_line(capsys.readouterr().err)
    assert measured.read_all(bundle) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_cache_that_cannot_be_written(bundle, photo, fakes, monkeypatch, capsys, read_only):
    """`tune` says so, after what it measured; an inversion does not care, and starts nothing."""
    if read_only:

        write = files.write_beside

        def refuse(path, *rest) -> None:
            if path.is_relative_to(files.root()):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            write(path, *rest)

        monkeypatch.setattr(files, "write_beside", refuse)
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    else:
        monkeypatch.setenv("WAGI_CACHE", os.devnull)
    assert run_cli("tune", "-m", bundle.folder) == 1
    done = capsys.readouterr()
    assert "openvino fp32         14.2 ms" in done.out and "cannot be written" in error_line(done.err)
    monkeypatch.setattr(subprocess, "Popen", None)
    words = ("-m", bundle.folder, "--backend", "auto", "-o", photo.parent / "o.png")
    assert run_cli("invert", photo, *words) == 0
    assert "in the background" not in capsys.readouterr().err


def test_gently_leaves_it_to_others(bundle, fakes, capsys):
    with measured.turn(bundle, 2, wait=True):
        assert run_cli("tune", "--gently", "-m", bundle.folder, "--threads", 2) == 0
    assert not fakes.log and not measured.read(bundle, 2)
    assert run_cli("tune", "--gently", "-m", bundle.folder, "--threads", 2) == 0
    times = len(fakes.log)
    assert times and measured.read(bundle, 2)
    assert run_cli("tune", "--gently", "-m", bundle.folder, "--threads", 2) == 0
    assert len(fakes.log) == times
    assert run_cli("tune", "-m", bundle.folder, "--threads", 2) == 0
    assert len(fakes.log) == 2 * times


# The first use


@pytest.mark.parametrize("choice", ["auto", "auto --precision auto", "openvino --precision auto"])
def test_the_first_use_measures_afterwards_and_says_so(bundle, photo, monkeypatch, capsys, choice):
    if "openvino" in choice:
        pytest.importorskip("openvino", reason="needs the extra `openvino`")
    started: list[tuple] = []  # FAKE processes: what would have been started, and how
    monkeypatch.setattr(tuning.subprocess, "Popen", lambda words, **how: started.append((words, how)))
    target = photo.parent / "o.png"
    words = ("-m", bundle.folder, "--threads", 2, "-o", target, "--backend", *choice.split())
    assert run_cli("invert", photo, *words) == 0
    assert "note: auto measures the engines now, in the background" in capsys.readouterr().err
    (((_, _, code, *rest), how),) = started
    assert how["start_new_session"] and how["stdin"] == how["stdout"] == how["stderr"] == subprocess.DEVNULL
    assert "wagi_rt.__main__" in code and target.exists()
    args = build_parser().parse_args(rest)
    assert args.command == "tune" and args.gently and args.quiet
    assert (args.model, args.threads) == (str(bundle.folder), 2)


def test_nothing_is_started_where_it_would_be_of_no_use(bundle, monkeypatch):
    monkeypatch.setattr(tuning.subprocess, "Popen", None)
    auto = EngineChoice("auto", threads=2, precision="auto")
    assert tuning.afterwards(bundle, EngineChoice("onnx", precision="auto")) == ""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "frozen", True, raising=False)
        assert tuning.afterwards(bundle, auto) == ""
    with measured.turn(bundle, 2, wait=False):
        pass
    assert tuning.afterwards(bundle, auto) == ""  # tried a moment ago, on a busy machine
    monkeypatch.setattr(files, "SMALL", 0)  # a large model: a minute and gigabytes are for the user to spend
    line = tuning.afterwards(bundle, auto)
    assert line.endswith(f"once: wagi-rt tune -m {bundle.folder} --threads 2")


def test_a_library_or_a_named_engine_starts_nothing(bundle, photo, monkeypatch):
    monkeypatch.setattr(tuning, "afterwards", None)
    wagi_rt.load(bundle.folder, "auto", "cpu").close()
    out = photo.parent / "o.png"
    assert run_cli("invert", photo, "-m", bundle.folder, "-o", out, "--backend", "onnx") == 0
