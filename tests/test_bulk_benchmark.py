"""benchmarks/bulk.py and scale.py: memory is the kernel's, rates leave the start out, the page has both."""

import subprocess
import sys

import pytest
from checkout import ROOT

from benchmarks import bulk, scale

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


def test_the_page_shows_what_was_measured():
    reports = scale.committed()
    assert scale.table(reports) in (ROOT / "docs" / "scale.md").read_text(), (
        "run: python benchmarks/scale.py --page docs/scale.md"
    )
    run = next(
        run for run in reports[0]["models"][0]["runs"] if run["backend"] == "onnx" and run["batch"] == 1
    )
    busy = run["cpu_ms"] + sum(reports[0]["models"][0]["stage_ms"].values())
    line = scale.rows(reports[0])[0]
    assert float(line[5]) == pytest.approx(1e6 * busy / 1000 / 3600, rel=0.01)
    assert float(line[6]) == pytest.approx(1e9 * busy / 1000 / 86400 / 30, rel=0.01)
