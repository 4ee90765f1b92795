"""`wagi-rt bulk` but for Ray: rows, outputs, going on, workers that die, and files of others.

Workers run in this process, behind the interface that wagi_rt.bulk.cluster gives to Ray.
"""

import json
import os
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from test_runtime_edit import EVEN, RED
from tiny_bundle import error_line, run_cli, write_tiny_bundle

import wagi_rt
from wagi_rt.bulk import command
from wagi_rt.bulk.cluster import Died, Raised
from wagi_rt.bulk.ledger import Ledger


class Local:
    """A cluster in this process. `fate(method, arguments)` may raise what befalls a call before it runs."""

    cpus, gpus, asked = 1, 0, "1 CPU"

    def __init__(self, fate=lambda method, arguments: None):
        self.fate, self.calls, self.hired, self.dismissed = fate, {}, 0, 0
        self.work: list[list[str]] = []

    @contextmanager
    def started(self, *arguments):
        yield self

    def room(self):
        return 2

    def hire(self, kind):
        self.hired += 1
        return kind()

    def dismiss(self, worker):
        self.dismissed += 1

    def call(self, worker, method, *arguments):
        if method == "work":
            self.work.append([os.path.basename(job.source) for job in arguments[0]])
        self.calls[number := len(self.calls)] = worker, method, arguments
        return number

    def wait(self, calls):
        return calls[:1]

    def result(self, call):
        worker, method, arguments = self.calls[call]
        self.fate(method, arguments)
        return getattr(worker, method)(*arguments)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(
        tmp_path_factory.mktemp("b") / "flow", schema=3, aligner="flow", directions=(RED, EVEN)
    )


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """in/00.png to in/19.png, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(20):
        Image.fromarray(rng.integers(60, 200, (64, 64, 3), np.uint8)).save(f"in/{number:02}.png")
    return tmp_path


@pytest.fixture
def run(bundle, photos, monkeypatch):
    """`wagi-rt bulk WORDS -o out` on a cluster => its exit status."""

    def bulk(cluster: Local, *words, out="out") -> int:
        monkeypatch.setattr(command, "started", cluster.started)
        return run_cli("bulk", "-m", bundle, "-o", out, *words)

    return bulk


def rows(path="out/report.jsonl") -> list[dict]:
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


# What comes out


def test_every_image_gets_its_picture_and_a_row(bundle, run, capsys):
    with open("in/bad.png", "wb") as stream:
        stream.write(b"no picture")
    assert run(Local(), "in", "none.png", "--batch", 3) == 1
    found = {row["input"]: row for row in rows()}
    assert len(found) == 22 == len(rows())
    assert {name for name, row in found.items() if row["error"]} == {"in/bad.png", "none.png"}
    assert "not an image" in found["in/bad.png"]["error"] and "no such file" in found["none.png"]["error"]
    with wagi_rt.load(bundle, threads=1) as session:
        (wanted,) = session.invert("in/07.png")
    assert found["in/07.png"]["output"] == "out/07.png"
    assert np.array_equal(pixels("out/07.png"), wanted.image)
    error = np.square((wanted.image.astype(float) - wanted.input) / 127.5).mean()
    assert found["in/07.png"]["metrics"]["wagi"]["l2"] == pytest.approx(error, rel=1e-5)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("20 of 22 images done, 2 failed, ") and last.endswith("report: out/report.jsonl")


def test_a_table_edits_each_picture_in_its_own_way(bundle, run):
    with open("table.csv", "w") as stream:
        stream.write("path,red,set,name\nin/00.png,1,even=-3.5,\nin/00.png,-0.5,,deep/less\nin/01.png,,,\n")
    assert run(Local(), "table.csv", "--set", "even=1", "--batch", 3) == 0
    with wagi_rt.load(bundle, threads=1) as session:
        first, second = session.open("in/00.png"), session.open("in/01.png")
        assert np.array_equal(pixels("out/in/00.png"), first.edit(red=1, even=-2.5).image)
        assert np.array_equal(pixels("out/deep/less.png"), first.edit(red=-0.5, even=1).image)
        assert np.array_equal(pixels("out/in/01.png"), second.edit(even=1).image)
    assert [row["edits"] for row in rows()] == ["red=1 even=-3.5", "red=-0.5", ""]


def test_chunks_are_whole_batches_and_shrink_towards_the_end(run):
    cluster = Local()
    assert run(cluster, "in", "--batch", 2, "--actors", 1) == 0
    assert [len(chunk) for chunk in cluster.work] == [4, 4] + 6 * [2] and cluster.hired == 1


# Going on


def test_the_same_command_does_what_is_missing(run, capsys):
    assert run(Local(), "in") == 0
    before = rows()
    os.unlink("out/05.png")
    cluster = Local()
    assert run(cluster, "in") == 0
    assert cluster.work == [["05.png"]]
    assert [row["output"] for row in rows()] == [row["output"] for row in before]
    assert "20 of 20 images done, 19 of them by earlier runs" in capsys.readouterr().err
    cluster = Local()
    assert run(cluster, "in") == 0 and cluster.hired == 0


def test_a_run_that_was_killed_goes_on(run, capsys):
    """With files that it left without a row, half a line, and a piece of a picture."""

    def killed(method, arguments):
        if method == "work" and len(cluster.work) > 3:
            raise KeyboardInterrupt

    cluster = Local(killed)
    assert run(cluster, "in") == 130
    assert "4 of 20 images done" in capsys.readouterr().err
    *kept, unfinished = rows()
    done = {row["input"] for row in kept}
    assert 0 < len(done) < 20 and {f"out/{name}" for name in cluster.work[-1]} <= set(unfinished["begun"])
    begun = cluster.work[-1][0]
    with open("out/report.jsonl", "a") as stream:
        stream.write('{"input": "in/')
    with open(f"out/{begun}", "wb") as stream:
        stream.write(b"written, but no row says so")
    with open(f"out/.{begun}.123.tmp", "wb") as stream:
        stream.write(b"half")
    cluster = Local()
    assert run(cluster, "in") == 0
    assert {f"in/{name}" for chunk in cluster.work for name in chunk} == {
        f"in/{n:02}.png" for n in range(20)
    } - done
    assert sorted(row["input"] for row in rows()) == [f"in/{number:02}.png" for number in range(20)]
    assert sorted(os.listdir("out")) == [*(f"{number:02}.png" for number in range(20)), "report.jsonl"]
    assert pixels(f"out/{begun}").shape == (64, 64, 3)


def test_what_failed_is_tried_again_and_has_one_row(run):
    os.rename("in/03.png", "kept.png")
    with open("in/03.png", "wb") as stream:
        stream.write(b"")
    assert run(Local(), "in") == 1
    os.replace("kept.png", "in/03.png")
    cluster = Local()
    assert run(cluster, "in") == 0 and cluster.work == [["03.png"]]
    assert len(rows()) == 20 and not any(row["error"] for row in rows())


# Workers that die


def test_a_picture_that_kills_its_worker_is_a_row_and_stops_no_other(run, capsys):
    def fate(method, arguments):
        if method == "work" and any(job.source == "in/04.png" for job in arguments[0]):
            with open("out/.04.png.123.tmp", "wb") as stream:
                stream.write(b"half")
            raise Died("worker killed or crashed")

    cluster = Local(fate)
    assert run(cluster, "in", "--batch", 2) == 1
    bad = [row for row in rows() if row["error"]]
    assert [row["input"] for row in bad] == ["in/04.png"] and len(rows()) == 20
    assert bad[0]["error"] == "in/04.png: failed 3 times (worker killed or crashed)"
    assert cluster.work.count(["04.png"]) == 2 and cluster.dismissed == 3
    (beside,) = [row for row in rows() if row["notes"]]
    assert (beside["input"], beside["notes"]) == (
        "in/05.png",
        ["tried again after: worker killed or crashed"],
    )
    assert len(os.listdir("out")) == 20
    assert "3 workers died and had to be replaced" in capsys.readouterr().err


def test_an_unforeseen_exception_keeps_its_worker(run):
    def fate(method, arguments):
        if method == "work" and any(job.source == "in/04.png" for job in arguments[0]):
            raise Raised("ZeroDivisionError: division by zero")

    cluster = Local(fate)
    assert run(cluster, "in") == 1 and cluster.dismissed == 0
    assert [row["error"] for row in rows() if row["error"]] == [
        "in/04.png: failed 3 times (ZeroDivisionError: division by zero)"
    ]


def test_models_that_do_not_open_end_the_run(run, capsys):
    def fate(method, arguments):
        raise Died("worker out of memory")

    cluster = Local(fate)
    assert run(cluster, "in") == 1 and cluster.hired < 8
    line = error_line(capsys.readouterr().err)
    assert "workers do not open the model (worker out of memory)" in line
    assert run(Local(), "in", "--backend", "trt") == 1
    assert "TensorRT" in error_line(capsys.readouterr().err)
    assert os.listdir("out") == []


# Files of others


def test_files_of_others_and_of_other_settings_are_refused(run, capsys):
    os.mkdir("out")
    with open("out/11.png", "wb") as stream:
        stream.write(b"mine")
    assert run(Local(), "in") == 2
    assert "out/11.png: exists already" in error_line(capsys.readouterr().err)
    assert os.listdir("out") == ["11.png"]
    assert run(Local(), "in", "--overwrite") == 0
    capsys.readouterr()
    assert run(Local(), "in", "--fit", "pad") == 2
    assert "20 of these images were made with another model or other options" in capsys.readouterr().err
    assert run(Local(), "in", "--fit", "pad", "--overwrite") == 0 and len(rows()) == 20


def test_two_runs_at_once_are_refused(run, capsys):
    ledger = Ledger(command.Path("out/report.jsonl"))
    assert run(Local(), "in") == 1
    assert "another run is writing it" in error_line(capsys.readouterr().err)
    ledger.close()
    assert run(Local(), "in") == 0


def test_another_file_is_no_report(run, capsys):
    for text in ("my notes\n", '{"mine": 1}\n', "[1]\n"):
        with open("notes.jsonl", "w") as stream:
            stream.write(text)
        assert run(Local(), "in", "--report", "notes.jsonl") == 2
        assert "notes.jsonl: is no report of bulk" in error_line(capsys.readouterr().err)
        assert open("notes.jsonl").read() == text


# The report as a table


def test_a_parquet_report_has_the_rows(run, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    with open("in/bad.png", "wb") as stream:
        stream.write(b"no picture")
    assert run(Local(), "in", "none.png", "--report", "rows.parquet") == 1
    table = parquet.read_table("rows.parquet").to_pylist()
    assert [row["input"] for row in table] == [row["input"] for row in rows("rows.jsonl")]
    assert table[5]["metrics"] == rows("rows.jsonl")[5]["metrics"]
