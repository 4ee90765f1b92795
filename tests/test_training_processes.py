"""Runs as real processes: killed, interrupted, split over two, and accumulated, they end alike."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.training_helpers import assert_same_bits, run, weights, write_portraits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_portraits(tmp_path_factory.mktemp("data") / "p")


@pytest.fixture(scope="module")
def generator(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("g")
    assert run("generator", data, out, "--steps", "2") == 0
    return out / "checkpoint.pt"


def command(data, out, steps, *options):
    where = [
        "--data",
        str(data),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--steps",
        str(steps),
    ]
    return [sys.executable, "-m", "wagi.train", "generator", "--preset", "smoke", *where, *options]


def environment(root):
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def wait_for_checkpoint(process, out):
    deadline = time.monotonic() + 60
    while not (out / "checkpoint.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)


def test_killed_at_a_random_time(data, root, tmp_path):
    """SIGKILL, twice, whenever: while computing, writing or logging."""
    options = ["--save-every", "1", "--log-every", "1", "--grid-every", "5"]
    assert run("generator", data, tmp_path / "whole", "--steps", "20", *options) == 0
    for _ in range(2):
        process = subprocess.Popen(
            command(data, tmp_path / "killed", 20, *options), env=environment(root), stderr=subprocess.DEVNULL
        )
        wait_for_checkpoint(process, tmp_path / "killed")
        time.sleep(random.uniform(0, 0.5))
        process.kill()
        process.wait()
    assert run("generator", data, tmp_path / "killed", "--steps", "20", *options) == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    assert len(lines[0]) == len(lines[1])


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_say_so(number, status, data, root, tmp_path):
    process = subprocess.Popen(
        command(data, tmp_path / "run", 100000, "--save-every", "3"),
        env=environment(root), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_checkpoint(process, tmp_path / "run")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status and "the same command goes on" in said and "Traceback" not in said
    assert not [p for p in (tmp_path / "run").iterdir() if p.suffix == ".part"]


def close(a, b):
    first, second = weights(a), weights(b)
    for name, value in first.items():
        if name.startswith("/weights/encoder"):
            torch.testing.assert_close(value, second[name], atol=1e-6, rtol=1e-4, msg=name)


LINEAR = ["--set", "optimizer=ranger", "--set", "region_weights=", "--lr", "0.01", "--steps", "3"]


def test_accumulation_equals_the_whole_batch(data, generator, tmp_path):
    """Ranger's first steps are linear in the gradient: equal gradients give equal weights up to rounding."""
    options = [*LINEAR, "--generator", str(generator)]
    assert run("encoder", data, tmp_path / "one", *options) == 0
    assert run("encoder", data, tmp_path / "four", *options, "--accumulate", "4") == 0
    close(tmp_path / "one", tmp_path / "four")


def test_two_processes_equal_one(data, generator, root, tmp_path):
    options = [*LINEAR, "--generator", str(generator)]
    assert run("encoder", data, tmp_path / "one", *options) == 0
    where = ["--preset", "smoke", "--data", str(data), "--out", str(tmp_path / "two"), "--device", "cpu"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*launcher, "-m", "wagi.train", "encoder", *where, *options, "--threads", "1"],
        env=environment(root), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    close(tmp_path / "one", tmp_path / "two")
