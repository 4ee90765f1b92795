"""Faults of `wagi-rt bulk` cost one line before anything starts: options, clusters, missing libraries."""

import os
import socket
import sys

import pytest
from PIL import Image
from test_runtime_edit import RED
from tiny_bundle import error_line, run_cli, write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("b") / "flow"
    return write_tiny_bundle(folder, schema=3, aligner="flow", directions=(RED,))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """in/a.png, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.new("RGB", (64, 64), "teal").save("in/a.png")


@pytest.mark.parametrize(
    "words, line",
    [
        (["in", "-o", "x.png"], "-o x.png: must be a folder"),
        (["in", "--device", "cuda:1"], "--device cuda:1: each worker has its own GPU"),
        (["in", "--report", "rows.xml"], "--report rows.xml: must end in .jsonl or .parquet"),
        (["in", "--ray", "photos"], "'photos' is no HOST:PORT"),
        (["in", "--set", "rde=1"], "rde"),
        (["-"], "-: bulk reads files"),
        (["in", "--strip"], "--strip: needs --fit face"),
    ],
)
def test_faults_cost_one_line_before_anything_starts(words, line, bundle, photos, capsys):
    assert run_cli("bulk", "-m", bundle, "-o", "out", *words) == 2
    assert line in error_line(capsys.readouterr().err)
    assert not os.path.exists("out")


def test_a_cluster_that_is_not_there_is_said_at_once(bundle, photos, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:99999", "127.0.0.1:x"):
        assert run_cli("bulk", "in", "-m", bundle, "-o", "out", "--ray", address, "-q") == 1
        assert f"--ray {address}: nobody answers there" in error_line(capsys.readouterr().err)


def test_missing_libraries_are_named(bundle, photos, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run_cli("bulk", "in", "-m", bundle, "-o", "out") == 2
    assert error_line(capsys.readouterr().err).endswith("run: pip install 'wagi[ray]'")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run_cli("bulk", "in", "-m", bundle, "-o", "out", "--report", "rows.parquet") == 2
    assert "pip install pyarrow" in error_line(capsys.readouterr().err)
