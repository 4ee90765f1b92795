"""What the runtime remembers saves time and never changes a result; damaged or full, it is done without."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import edit_manifest, write_tiny_bundle

import wagi_rt
from wagi_rt import files, manifest
from wagi_rt.engines import ort_cache
from wagi_rt.errors import UserError

X = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "bundle", external=True)


def invert(bundle) -> np.ndarray:
    with wagi_rt.load(bundle, threads=1) as session:
        return session.restore(X).image


def entries(place: Path) -> list[Path]:
    return sorted((place / "onnx").iterdir()) if (place / "onnx").exists() else []


@pytest.mark.parametrize("embedded", [False, True])
def test_sessions_from_the_cache_give_the_same_bits(bundle, place, monkeypatch, embedded):
    bundle = None if embedded else bundle
    loaded: list[Path] = []

    def images() -> np.ndarray:
        with wagi_rt.load(bundle, threads=1) as session:
            x = np.random.default_rng(1).uniform(-1, 1, (1, 3, session.size, session.size))
            return session.restore(x.astype(np.float32)).image

    monkeypatch.setenv("WAGI_CACHE", os.devnull)
    without = images()
    monkeypatch.setenv("WAGI_CACHE", str(place))
    first = images()
    real = ort_cache._build
    monkeypatch.setattr(ort_cache, "_build", lambda *rest: loaded.append(rest[0]) or real(*rest))
    second = images()
    assert not loaded, "the second start optimised again"
    np.testing.assert_array_equal(first, without)
    np.testing.assert_array_equal(second, without)
    assert not [path for path in entries(place) if path.name.endswith(".tmp")]


@pytest.mark.parametrize("damage", ["truncated", "empty", "weights"])
def test_a_damaged_entry_is_replaced(bundle, place, damage):
    wanted = invert(bundle)
    for entry in entries(place):
        graph = entry / ort_cache.GRAPH
        if damage == "weights":
            (entry / ort_cache.WEIGHTS).unlink(missing_ok=True)
            graph.write_bytes(b"\xff" * 40)
        else:
            graph.write_bytes(graph.read_bytes()[:100] if damage == "truncated" else b"")
    np.testing.assert_array_equal(invert(bundle), wanted)
    np.testing.assert_array_equal(invert(bundle), wanted)
    assert all((entry / ort_cache.GRAPH).stat().st_size > 100 for entry in entries(place))


def test_another_model_version_or_processor_gets_other_entries(bundle, place, tmp_path, monkeypatch):
    invert(bundle)
    count = len(entries(place))
    invert(bundle)
    assert len(entries(place)) == count
    other = write_tiny_bundle(tmp_path / "other", keep=0.25)
    np.testing.assert_array_equal(invert(other), invert(other))
    assert len(entries(place)) > count
    count = len(entries(place))
    monkeypatch.setattr(files, "processor", lambda: "another")
    invert(bundle)
    assert len(entries(place)) > count


@pytest.mark.parametrize("root", ["file", "null"])
def test_a_cache_that_cannot_be_written_is_done_without(bundle, tmp_path, monkeypatch, root):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WAGI_CACHE", os.devnull if root == "null" else str(tmp_path / "file" / "cache"))
    assert np.isfinite(invert(bundle)).all()


def test_a_disk_without_room_is_left_alone(bundle, place, monkeypatch):
    usage = shutil.disk_usage(place.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    invert(bundle)
    assert entries(place) == []


def test_the_entries_used_longest_ago_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "KIND_LIMIT", 250)
    for age, name in enumerate(("newest", "middle", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "graph").write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / "crashed.1.tmp").mkdir()
    os.utime(tmp_path / "crashed.1.tmp", (1e9 + 5, 1e9 + 5))
    files.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "newest"]


def test_a_broken_graph_is_reported_with_a_cache_too(bundle, place):
    (bundle / "naive.onnx").write_bytes(b"not a graph")
    edit_manifest(bundle, graphs=_rehashed(bundle))
    with pytest.raises(UserError, match="naive.onnx: ONNX Runtime cannot load it"):
        invert(bundle)


def _rehashed(bundle) -> dict:
    import json

    graphs = json.loads((bundle / "manifest.json").read_text())["graphs"]
    graphs["naive"]["sha256"] = manifest.file_sha256(bundle / "naive.onnx")
    return graphs


# Hashes of large files


def test_a_large_file_is_read_once_until_it_changes(bundle, monkeypatch):
    monkeypatch.setattr(files, "READ_AGAIN", 1000)
    read = []
    real = files.file_sha256
    monkeypatch.setattr(files, "file_sha256", lambda path: read.append(path.name) or real(path))
    manifest.read(bundle)
    everything = len(read)
    manifest.read(bundle)
    assert len(read) - everything < everything  # only the small ones again
    assert read.count("prefix.onnx") == 1
    manifest.read(bundle, thorough=True)  # what `wagi-rt info` does
    assert read.count("prefix.onnx") == 2
    path = bundle / "prefix.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(UserError, match="sha256 differs"):
            manifest.read(bundle)


def test_a_small_file_is_always_read(bundle, monkeypatch):
    """Also when its time of change was set back."""
    manifest.read(bundle)
    path = bundle / "prefix.onnx"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match="sha256 differs"):
        manifest.read(bundle)
