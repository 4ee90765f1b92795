"""benchmarks/gpu_check.py without a GPU: the dry run goes through every section and says that it was one."""

import json
import os
import subprocess
import sys
import time

import pytest
from checkout import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu_check.py"
sys.path.insert(0, str(ROOT))

from benchmarks import gpu_check  # noqa: E402
from benchmarks.gpu.common import Machine, Skip, attempt  # noqa: E402


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """The report of one dry run in a process of its own, and that process."""
    out = tmp_path_factory.mktemp("gpu") / "dry.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--cpu-dry-run", "--out", out, "--machine", "test"],
        capture_output=True, text=True, env=environment, cwd=out.parent, timeout=300,
    )  # fmt: skip
    return json.loads(out.read_text()), done


def test_a_dry_run_goes_through_every_section(dry_run):
    report, done = dry_run
    assert done.returncode == 0, done.stderr
    assert report["cpu_dry_run"] is True and report["gpu"] is None and report["machine"] == "test"
    assert list(report["sections"]) == list(gpu_check.SECTIONS)
    for name, found in report["sections"].items():
        assert found["status"] in ("ok", "skipped"), (name, found)
        assert found["status"] == "ok" or found["reason"]
    assert report["versions"]["torch"]


def test_the_kernels_arithmetic_was_compared_with_torch(dry_run):
    """All paths of haar_kernels.cu in their g++ build: both directions, three storages, aligned and not."""
    found = dry_run[0]["sections"]["haar"]
    if found["status"] == "skipped":
        pytest.skip(found["reason"])
    cases = found["results"]["parity"]
    assert len(cases) == 2 * 3 * 5 * 2 and all(case["passed"] for case in cases.values())


def test_the_skip_kernel_was_compared_with_torch(dry_run):
    found = dry_run[0]["sections"]["skip"]
    if found["status"] == "skipped":
        pytest.skip(found["reason"])
    parity, (latency,) = found["results"]["parity"], found["results"]["latency"].values()
    assert len(parity) == 3 * 2 and all(0 < case["max_abs"] <= case["limit"] for case in parity.values())
    assert set(latency) == {"folded", "wavelet", "kernel", "kernel fp16", "bytes"}


def test_the_half_formulation_was_compared_with_single(dry_run):
    forms = dry_run[0]["sections"]["torch"]["results"]["smoke"]
    for up in ("transposed", "single", "polyphase", "skip wavelet"):
        assert forms[up]["finite"] and forms[up]["psnr_db"] > 50
        assert "need a GPU" in forms[up]["cuda graph"]["skipped"]


def test_without_a_gpu_it_says_so():
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, timeout=120,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("error: no CUDA GPU that torch can use")
    assert len(done.stderr.splitlines()) == 1


# One failure does not lose the others


def results(monkeypatch, tmp_path, **functions):
    """(exit status, report) of a run with other section functions."""
    monkeypatch.setattr(gpu_check, "section", functions.__getitem__)
    monkeypatch.setattr(gpu_check, "SECTIONS", tuple(functions))
    out = tmp_path / "out.json"
    status = gpu_check.main(["--cpu-dry-run", "--out", str(out)])
    return status, json.loads(out.read_text())["sections"]


def test_a_failing_section_is_reported_and_the_next_one_runs(monkeypatch, tmp_path):
    def fail(machine):
        raise RuntimeError("two\nlines")

    def skip(machine):
        raise Skip("not here")

    status, sections = results(monkeypatch, tmp_path, one=fail, two=skip, three=lambda machine: {"x": 1})
    assert status == 1
    assert sections["one"]["status"] == "failed" and sections["one"]["reason"] == "RuntimeError: two lines"
    assert sections["two"]["status"] == "skipped" and sections["two"]["reason"] == "not here"
    assert sections["three"]["status"] == "ok" and sections["three"]["results"] == {"x": 1}


def test_a_failing_part_fails_its_section_and_keeps_the_results(monkeypatch, tmp_path):
    def partly(machine):
        return {"good": 1, "deep": {"bad": attempt(lambda: 1 / 0)}, "absent": attempt(lambda: skip())}

    def skip():
        raise Skip("not here")

    status, sections = results(monkeypatch, tmp_path, one=partly)
    assert status == 1 and sections["one"]["reason"] == "failed: /deep/bad"
    assert sections["one"]["results"]["good"] == 1
    assert sections["one"]["results"]["absent"] == {"skipped": "not here"}


def test_the_report_is_written_after_each_section(monkeypatch, tmp_path):
    seen = []

    def look(machine):
        path = tmp_path / "out.json"
        seen.append(list(json.loads(path.read_text())["sections"]) if path.exists() else [])
        return {}

    results(monkeypatch, tmp_path, one=look, two=look, three=look)
    assert seen == [[], ["one"], ["one", "two"]]


def test_wrong_kernels_fail_with_what_was_measured(monkeypatch, tmp_path):
    from benchmarks.gpu import haar

    good = (True, False, "linear", (1, 1, 2, 2), True)
    monkeypatch.setattr(haar, "cases", lambda: [("case", good)])
    monkeypatch.setattr(haar.Kernels, "__init__", lambda self, path, machine: None)
    monkeypatch.setattr(haar.Kernels, "parity", lambda self, *case: {"max_abs": 1.0, "passed": False})
    monkeypatch.setattr(haar, "timed", lambda machine: [])
    monkeypatch.setattr(haar, "compile_host", lambda target: target)
    status, sections = results(monkeypatch, tmp_path, haar=haar.run)
    assert status == 1 and sections["haar"]["reason"] == "WrongKernels: wrong results: case"
    assert sections["haar"]["results"]["parity"]["case"]["max_abs"] == 1.0


def test_time_that_is_up_skips(tmp_path):
    machine = Machine(False, tmp_path, None, time.monotonic() + 5)
    with pytest.raises(Skip, match="building: .* s left, 240 s wanted"):
        machine.require(240, "building")


@pytest.mark.parametrize("options", [["--sections", "haar,nothing"], ["--out", "no/such/folder/x.json"]])
def test_usage(options, capsys):
    assert gpu_check.main(["--cpu-dry-run", *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
