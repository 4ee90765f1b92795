"""Reading, running and writing overlap in batches, and nothing about order, errors or files changes by it."""

import json
import threading

import numpy as np
import pytest
import skimage.data
from PIL import Image
from tiny_bundle import run_cli, write_tiny_bundle

from wagi_rt.commands import overlap
from wagi_rt.commands.jobs import Job
from wagi_rt.errors import UserError
from wagi_rt.session import Session

PHOTO = Image.fromarray(skimage.data.astronaut()).resize((80, 80))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(7):
        PHOTO.rotate(40 * index).save(folder / f"{index}.png")
    return folder


class Blocking:
    """A session in which each stage waits for what must be able to happen at the same time."""

    def __init__(self):
        self.read, self.wrote = threading.Semaphore(0), threading.Semaphore(0)
        self.threads: dict[str, set[int]] = {"prepare": set(), "run": set(), "finish": set()}

    def prepare(self, item, fit, name):
        self.threads["prepare"].add(threading.get_ident())
        self.read.release()
        return np.zeros((3, 2, 2), np.float32), []

    def restore(self, images):
        self.threads["run"].add(threading.get_ident())
        return images

    def results(self, restored, prepared):
        return [object() for _ in prepared]


def jobs(count: int) -> list[list[Job]]:
    return [[Job(f"{index}", f"{index}.png", ".png")] for index in range(count)]


def test_the_next_batch_is_read_while_one_runs_and_the_last_is_written_while_the_next_runs():
    session = Blocking()
    running: list[int] = []

    def restore(images):
        """Returns only after the next batch was read and the one before was written: deadlock if in turns."""
        running.append(len(running))
        number = len(running)
        assert session.read.acquire(timeout=10)
        if number == 1:
            assert session.read.acquire(timeout=10), "the second batch was not read ahead"
        if number > 1:
            assert session.wrote.acquire(timeout=10), "the batch before was not written meanwhile"
        if number == 4:  # the last has no next one
            session.read.release()
        return images

    def finish(job, result):
        session.threads["finish"].add(threading.get_ident())
        session.wrote.release()
        return {}

    session.restore = restore
    done = list(overlap.run_stages(session, jobs(5), "crop", finish))
    assert [item.job.source for item in done] == list("01234")
    assert threading.get_ident() not in session.threads["prepare"] | session.threads["finish"]
    assert len(session.threads["finish"]) == 1


def test_one_batch_needs_no_threads():
    session = Blocking()
    done = list(overlap.run_stages(session, jobs(1), "crop", lambda job, result: {}))
    assert len(done) == 1
    assert session.threads["prepare"] == {threading.get_ident()}


def test_reading_stays_one_batch_ahead_of_the_model():
    """A folder of a million photos does not end up in memory."""
    session = Blocking()
    ahead: list[int] = []
    read = 0

    def prepare(item, fit, name):
        nonlocal read
        read += 1
        return np.zeros((3, 2, 2), np.float32), []

    session.prepare = prepare
    for number, _ in enumerate(overlap.run_stages(session, jobs(30), "crop", lambda job, result: {}), 1):
        ahead.append(read - number)
    assert max(ahead) <= 3


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_order_and_images_do_not_depend_on_the_batch(bundle, photos, tmp_path, capsys, batch):
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "one", "--batch", 7, "-q") == 0
    arguments = ["-m", bundle, "-o", tmp_path / "out", "--batch", batch, "--json", "--warm"]
    assert run_cli("invert", photos, *arguments) == 0
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [record["input"] for record in records] == [str(photos / f"{i}.png") for i in range(7)]
    assert all(record["ms"] > 0 for record in records)
    progress = [line for line in captured.err.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in progress] == [f"[{i}/7" for i in range(1, 8)]
    for i in range(7):
        one, out = (np.asarray(Image.open(tmp_path / d / f"{i}.png")).astype(int) for d in ("one", "out"))
        assert np.abs(one - out).max() <= 1


@pytest.mark.parametrize("batch", [1, 3])
def test_each_failure_is_reported_in_its_place(bundle, photos, tmp_path, capsys, batch):
    """3.png cannot be read; within a batch the unreadable are reported first."""
    (photos / "3.png").write_bytes(b"broken")
    arguments = ["-m", bundle, "-o", tmp_path / "out", "--batch", batch, "--json"]
    assert run_cli("invert", photos, *arguments) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    order = [record["input"][-5] for record in records]
    assert order == list("0123456") and "error" in records[3]
    assert sorted(path.name[0] for path in (tmp_path / "out").iterdir()) == list("012456")


def test_a_stop_in_the_middle_writes_nothing_more(bundle, photos, tmp_path, monkeypatch):
    """Ctrl-C while image 2 is written: 0 and 1 are whole, nothing after 2 begins."""
    from wagi_rt import pictures

    write = pictures.write_atomic

    def interrupted(path, content):
        if path.name == "2.png":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(pictures, "write_atomic", interrupted)
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out") == 130
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]


def test_a_model_that_fails_in_the_middle_leaves_the_rest(bundle, photos, tmp_path, monkeypatch, capsys):
    restore = Session.restore
    calls = []

    def picky(self, images):
        calls.append(len(images))
        if len(calls) == 2:
            raise UserError("not enough memory")
        return restore(self, images)

    monkeypatch.setattr(Session, "restore", picky)
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out") == 1
    assert sorted(path.name[0] for path in (tmp_path / "out").iterdir()) == list("023456")
    assert "1.png: not enough memory" in capsys.readouterr().err


def test_warm_runs_the_model_before_the_first_image(bundle, photos, tmp_path, monkeypatch):
    batches = []
    restore = Session.restore
    monkeypatch.setattr(Session, "restore", lambda self, x: batches.append(x.copy()) or restore(self, x))
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out", "--batch", 3, "--warm") == 0
    assert [len(x) for x in batches] == [3, 3, 3, 1]
    assert not batches[0].any() and batches[1].any()
