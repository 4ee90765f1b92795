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


def zeroed(path: Path) -> None:
    """As many bytes as before, all zero: what a power cut can leave of a file that was never flushed."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "empty", "no graph", "zeros", "one bit", "no seal"])
def test_a_damaged_entry_is_replaced(bundle, place, monkeypatch, damage, large):
    """Also where files are too large to be read at every start."""
    if large:
        monkeypatch.setattr(files, "READ_AGAIN", 100)
    wanted = invert(bundle)
    np.testing.assert_array_equal(invert(bundle), wanted)  # what was checked once is remembered
    assert any((entry / ort_cache.WEIGHTS).exists() for entry in entries(place))
    for entry in entries(place):
        graph, weights = entry / ort_cache.GRAPH, entry / ort_cache.WEIGHTS
        target = weights if weights.exists() else graph
        content = target.read_bytes()
        if damage == "no graph":
            weights.unlink(missing_ok=True)
            graph.write_bytes(b"\xff" * 40)
        elif damage == "zeros":
            zeroed(target)
        elif damage == "one bit":
            target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "no seal":
            target.with_name(target.name + ".sha256").unlink()
        else:
            target.write_bytes(content[:100] if damage == "truncated" else b"")
    np.testing.assert_array_equal(invert(bundle), wanted)
    np.testing.assert_array_equal(invert(bundle), wanted)
    assert all(files.is_sealed(entry / ort_cache.GRAPH) for entry in entries(place))


def test_entries_are_on_the_disk_before_they_have_their_name(bundle, monkeypatch):
    """fsync of every file, then the rename of the folder."""
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: order.append("fsync") or fsync(number))

    def renamed(source, target):
        order.append("folder" if os.path.isdir(source) else "file")
        replace(source, target)

    monkeypatch.setattr(os, "replace", renamed)
    invert(bundle)
    each = " ".join(order).split("folder")
    assert len(each) == 6 and all("fsync" in before for before in each[:-1])


@pytest.mark.parametrize("damage", ["zeros", "no seal"])
def test_a_damaged_entry_of_openvino_is_replaced(bundle, place, damage):
    pytest.importorskip("openvino", reason="needs the extra `openvino`")

    def images() -> np.ndarray:
        with wagi_rt.load(bundle, "openvino", threads=1) as session:
            return session.restore(X).image

    wanted = images()
    blobs = sorted((place / "openvino").rglob("*.blob"))
    assert blobs and all(files.is_sealed(path) for path in blobs)
    kept = {path: path.stat().st_mtime_ns for path in blobs}
    np.testing.assert_array_equal(images(), wanted)
    assert {path: path.stat().st_mtime_ns for path in blobs} == kept, "what is whole is used"
    for path in blobs:
        content = bytearray(path.read_bytes())
        if damage == "zeros":  # its middle: OpenVINO itself checks no more than the head
            content[len(content) // 4 :] = bytes(len(content) - len(content) // 4)
            path.write_bytes(content)
        else:
            path.with_name(path.name + ".sha256").unlink()
    np.testing.assert_array_equal(images(), wanted)
    assert all(files.is_sealed(path) for path in blobs)


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


# Places that cannot be used


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("home", ["none", "not a folder", "forbidden"])
def test_no_cache_is_never_a_reason_to_fail(bundle, tmp_path, monkeypatch, capsys, home, backend):
    """No HOME and a user id that the system does not know; HOME of another user."""
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    monkeypatch.delenv("WAGI_CACHE")
    monkeypatch.setattr(files, "READ_AGAIN", 100)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if home == "none":
        monkeypatch.delenv("HOME")

        def unknown(number):
            raise KeyError(f"getpwuid(): uid not found: {number}")

        monkeypatch.setattr("pwd.getpwuid", unknown)
    elif home == "not a folder":
        (tmp_path / "home").write_text("a file")
    else:
        forbid(monkeypatch, tmp_path / "home")
    with wagi_rt.load(bundle, backend, threads=1) as session:
        assert np.isfinite(session.restore(X).image).all()
    assert capsys.readouterr().err.count("\n") <= 1


def forbid(monkeypatch, folder: Path) -> None:
    """FAKE permissions, since root may do everything: whatever asks for a path below `folder` fails."""

    def refusing(name):
        real = getattr(os, name)

        def call(path, *rest, **options):
            if str(path).startswith(str(folder)):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *rest, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("stat", "mkdir", "utime", "open", "scandir", "listdir", "unlink", "rename", "replace"):
        refusing(name)


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
