"""`wagi-rt bulk` with a real Ray: a worker and the whole command are killed, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from checkout import ROOT
from PIL import Image

from wagi.portraits import render
from wagi.portraits.dataset import portrait

pytest.importorskip("ray", reason="needs the extra `ray`")
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds processes in /proc")
COMMAND = "import wagi_rt.cli as c; c.command()"


def portraits(folder: Path, count: int) -> None:
    """So many portraits, and a file that is none."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(render(portrait(1, number), 64, supersample=1)).save(folder / f"{number:04}.png")
    (folder / "broken.png").write_bytes(b"no picture")


class Run:
    """`wagi-rt bulk` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.report = folder / "out" / "report.jsonl"
        words = [sys.executable, "-c", COMMAND, "bulk", "in", "-o", "out", "--ray", "--actors", "2"]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(words, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)

    def rows(self) -> list[dict]:
        text = self.report.read_text() if self.report.exists() else ""
        lines = text.rpartition("\n")[0].splitlines()  # the last one may be on its way
        return [row for row in map(json.loads, lines) if "begun" not in row]

    def wait_for(self, count: int) -> None:
        """Until the report has so many rows."""
        while len(self.rows()) < count:
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.05)

    def workers(self, doing: str = "") -> list[int]:
        """The processes below it that Ray says are workers, or those that run one of a worker's methods."""
        title = f"ray::Worker{doing}"
        return sorted(pid for pid, name in self.family().items() if name.startswith(title))

    def kill_one_at_work(self) -> None:
        """One that has images: another may still open its model, which loses none."""
        while not (found := self.workers(".work")):
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.01)
        os.kill(found[0], signal.SIGKILL)

    def family(self) -> dict[int, str]:
        """It and the processes below it: number -> how it calls itself."""
        parents, names = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid = int(path.parent.name)
                parents[pid] = int(path.read_text().rpartition(")")[2].split()[1])
                names[pid] = (path.parent / "cmdline").read_text().replace("\0", " ")
            except (OSError, IndexError):
                continue
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: names[pid] for pid in found}


LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def open_to_others(pids: set[int]) -> list[str]:
    """Sockets of these processes that do not stay on this machine, as lines of /proc/net."""
    held = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                held.add(os.readlink(path))
    lines = [
        line for kind in ("tcp", "tcp6", "udp", "udp6") for line in open(f"/proc/net/{kind}").readlines()[1:]
    ]
    ours = [line for line in lines if f"socket:[{line.split()[9]}]" in held]
    assert ours, "no socket at all is found"
    return [line for line in ours if not line.split()[1].startswith(LOOPBACK)]


def gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def survives(folder: Path, count: int) -> str:
    """Both kills, and the same command again; what it said last."""
    portraits(folder / "in", count)
    first = Run(folder)
    first.wait_for(count // 8)
    assert not open_to_others(set(first.family()))
    first.kill_one_at_work()
    first.wait_for(count // 2)
    orphans = first.workers()
    first.process.kill()
    assert "worker killed or crashed: its " in first.process.communicate()[1]
    assert len(first.rows()) < count
    deadline = time.monotonic() + 30
    while not all(map(gone, orphans)):
        assert time.monotonic() < deadline, "workers outlive the command"
        time.sleep(0.1)
    second = Run(folder)
    said = second.process.communicate()[1]
    assert second.process.returncode == 1 and "Traceback" not in said, said  # one input is no picture
    rows = second.rows()
    names = [f"{number:04}.png" for number in range(count)]
    assert sorted(row["input"] for row in rows) == sorted(f"in/{name}" for name in [*names, "broken.png"])
    assert [row["input"] for row in rows if row["error"]] == ["in/broken.png"]
    metrics = [row["metrics"] for row in rows if not row["error"]]
    assert all(one["wagi"]["l2"] < one["naive"]["l2"] for one in metrics)
    assert sorted(os.listdir(folder / "out")) == [*names, "report.jsonl"]
    for name in names:
        with Image.open(folder / "out" / name) as picture:
            picture.load()
            assert picture.size == (128, 128)
    return said.splitlines()[-1]


def test_a_killed_worker_and_a_killed_command_lose_nothing(tmp_path):
    assert "by earlier runs, 1 failed" in survives(tmp_path, 40)


@pytest.mark.slow
def test_two_thousand_portraits(tmp_path):
    print(survives(tmp_path, 2000))
