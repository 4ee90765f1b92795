"""wagi-rt --help, --version, info and bench."""

import json
import os
import subprocess
import sys

import pytest
from checkout import ROOT
from tiny_bundle import error_line, run_cli, write_tiny_bundle

import wagi_rt

ENV = {**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["invert", "--help"], ["info", "-h"], ["bench", "-h"]]
)
def test_help_and_version_do_not_import_numpy(arguments):
    code = (
        "import sys; from wagi_rt.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'numpy', 'PIL', 'onnxruntime', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "wagi-rt" in done.stdout


def test_version(capsys):
    assert run_cli("--version") == 0
    assert capsys.readouterr().out == f"wagi-rt {wagi_rt.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, f"wagi-rt {wagi_rt.__version__}\n"),
        (["info", "--json"], 0, "}\n"),
        (["frobnicate"], 2, ""),
        (["info", "-m", "no-such-bundle"], 1, ""),
    ],
)
def test_the_process_ends_with_its_status_and_all_it_said(arguments, status, said):
    """It leaves without the interpreter's own end, which would write out what is still buffered."""
    buffered = {**ENV, "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-m", "wagi_rt", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=buffered, timeout=60)
    assert done.returncode == status and done.stdout.endswith(said)
    if status:
        error_line(done.stderr)
    elif os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered, timeout=60
            )
        assert done.returncode == 1 and "stdout" in error_line(done.stderr)


def test_info(bundle, capsys):
    assert run_cli("info", "-m", bundle) == 0
    text = capsys.readouterr().out
    assert "tiny: 64 px images, fp32" in text and "all files verified" in text and "decode.onnx" in text
    assert run_cli("info", "-m", bundle, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["size"] == 64 and "cpu" in report["engines"]["onnx"]["devices"]


BENCH_KEYS = (
    "schema model sha256 backend device gpu precision batch input_shape threads warmup iterations latency_ms "
    "throughput_ips stage_ms cold_start_ms peak_rss_mb versions timestamp"
).split()


@pytest.mark.parametrize("amount", [["--iterations", "3"], ["--duration", "0.05"]])
def test_bench_prints_one_json_object(amount, bundle, capsys):
    assert run_cli("bench", "-m", bundle, "--batch", 2, "--warmup", 1, "--threads", 1, *amount) == 0
    report = json.loads(capsys.readouterr().out)
    assert sorted(report) == sorted(BENCH_KEYS)
    assert list(report["latency_ms"]) == ["mean", "std", "min", "p50", "p90", "p95", "p99", "max"]
    assert list(report["stage_ms"]) == ["prepare", "infer", "post", "encode"]
    assert sum(report["stage_ms"].values()) == pytest.approx(report["latency_ms"]["mean"], rel=0.01)
    assert report["input_shape"] == [2, 3, 64, 64] and report["threads"] == 1
    if amount[0] == "--iterations":
        assert report["iterations"] == 3


def test_bench_with_a_missing_picture(bundle, capsys):
    assert run_cli("bench", "-m", bundle, "--image", "nowhere.png") == 1
    assert "--image nowhere.png" in error_line(capsys.readouterr().err)
