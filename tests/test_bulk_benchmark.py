"""benchmarks/bulk.py: its memory is the kernel's, its rates leave the start out, its table has them."""

import subprocess
import sys

import pytest

from benchmarks import bulk

SIZE = 60_000_000
CHILD = f"import time; held = bytearray({SIZE}); time.sleep(2)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_a_process_and_those_below_it():
    found = bulk.peaks(subprocess.Popen([sys.executable, "-c", PARENT]))
    assert SIZE / 1e6 < found["total"] < SIZE / 1e6 + 40 and found["workers"] == 0


def test_rates_leave_the_start_out_and_ray_is_the_rest():
    seconds = {
        ("invert", 101): 12.0,
        ("invert", 1): 2.0,
        ("bulk --actors 2", 101): 15.0,
        ("bulk --actors 2", 1): 10.0,
    }
    memory = {key: [{"total": 500.0, "workers": 200.0, "rest": 300.0}] for key in seconds}
    runs = [bulk.entry(name, 101, seconds, memory) for name in ("invert", "bulk --actors 2")]
    assert [one["per_second"] for one in runs] == [10.0, 20.0]
    assert bulk.cost(runs) == {"start_seconds": 8.0, "memory_mb": 300.0}
    report = dict.fromkeys(("model", "machine", "processors", "note", "command"), "")
    report |= {"runs": runs, "ray": bulk.cost(runs), "count": 101}
    line = next(line for line in bulk.text(report).splitlines() if "--actors 2" in line)
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["15", "10", "20", "2", "1.73 million", "500"]


def test_a_wrong_number_of_workers_is_one_line(capsys):
    assert bulk.main(["--actors", "0"]) == 2
    assert capsys.readouterr().err == "error: --actors 0: whole numbers of at least 1, like 1,2,4\n"
