"""Reading, running and writing overlap in batches, and nothing about order, errors or files changes by it."""

import json
import threading

import numpy as np
import pytest
import skimage.data
from PIL import Image
from tiny_bundle import run_cli, write_tiny_bundle

from wagi_rt import files
from wagi_rt.commands.overlap import overlap
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


def test_the_next_batch_is_read_while_one_runs_and_the_last_is_written_while_the_next_runs():
    """`run` waits until the next batch was read and the one before was written: deadlock if in turns."""
    was_read, was_written = threading.Semaphore(0), threading.Semaphore(0)
    threads: dict[str, set[int]] = {"read": set(), "run": set(), "write": set()}
    running: list[int] = []

    def read(batch: int) -> int:
        threads["read"].add(threading.get_ident())
        was_read.release()
        return batch

    def run(batch: int) -> int:
        threads["run"].add(threading.get_ident())
        running.append(batch)
        assert was_read.acquire(timeout=10)
        if len(running) == 1:
            assert was_read.acquire(timeout=10), "the second batch was not read ahead"
        if len(running) > 1:
            assert was_written.acquire(timeout=10), "the batch before was not written meanwhile"
        if len(running) == 4:  # the last has no next one
            was_read.release()
        return batch

    def write(batch: int) -> int:
        threads["write"].add(threading.get_ident())
        was_written.release()
        return 10 * batch

    assert list(overlap(range(5), read, run, write)) == [0, 10, 20, 30, 40]
    assert threads["run"] == {threading.get_ident()}
    assert threading.get_ident() not in threads["read"] | threads["write"]
    assert len(threads["read"]) == len(threads["write"]) == 1


def same(batch: int) -> int:
    return batch


def test_one_batch_needs_no_threads():
    threads = set()
    found = list(overlap(["only"], lambda batch: threads.add(threading.get_ident()), same, same))
    assert len(found) == 1 and threads == {threading.get_ident()}
    assert list(overlap([], same, same, same)) == []


def test_batches_without_end_are_taken_one_ahead_of_the_model():
    """A film or a folder of a million photos does not end up in memory."""
    taken = 0

    def batches():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = overlap(batches(), same, same, same)
    ahead = [taken - next(results) for _ in range(30)]
    results.close()
    assert max(ahead) <= 3


def test_an_exception_ends_it_after_what_had_begun():
    """The second batch cannot be read: the first is written, and the exception reaches the caller."""
    written = []

    def read(batch: int) -> int:
        if batch == 1:
            raise OSError("gone")
        return batch

    with pytest.raises(OSError, match="gone"):
        list(overlap(range(9), read, same, written.append))
    assert written == [0]


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
    """3.png cannot be read."""
    (photos / "3.png").write_bytes(b"broken")
    arguments = ["-m", bundle, "-o", tmp_path / "out", "--batch", batch, "--json"]
    assert run_cli("invert", photos, *arguments) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    order = [record["input"][-5] for record in records]
    assert order == list("0123456") and "error" in records[3]
    assert sorted(path.name[0] for path in (tmp_path / "out").iterdir()) == list("012456")


def test_a_stop_in_the_middle_writes_nothing_more(bundle, photos, tmp_path, monkeypatch):
    """Ctrl-C while image 2 is written: 0 and 1 are whole, nothing after 2 begins."""
    write = files.write_atomic

    def interrupted(path, content):
        if path.name == "2.png":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(files, "write_atomic", interrupted)
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
