"""What the engines do to save memory with large models changes no result and gives memory back."""

import mmap
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle
from tolerances import NETWORK

import wagi_rt
from wagi_rt import files
from wagi_rt.engines import host

X = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("separate", [False, True])
def test_a_large_model_gives_the_same_images(tmp_path, monkeypatch, backend, separate):
    """Also with a second session on the same memory, and after a larger batch."""
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    bundle = write_tiny_bundle(tmp_path / "bundle", external=True, pipeline=True, default="pipeline")

    def images() -> list[np.ndarray]:
        with (
            wagi_rt.load(bundle, backend, threads=1, naive=separate) as one,
            wagi_rt.load(bundle, backend, threads=1, naive=separate) as two,
        ):
            return [session.restore(x).image for x in (X[:1], X, X[1:2]) for session in (one, two)]

    expected = images()
    monkeypatch.setattr(files, "SMALL", 1)
    for found, wanted in zip(images(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, **NETWORK)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
def test_a_mapped_file_is_forgotten_and_read_again(tmp_path):
    path = tmp_path / "weights.bin"
    content = np.random.default_rng(1).bytes(4 * host.MEGABYTE)
    path.write_bytes(content)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == content and resident_kb(path) >= 4 * 1024
        host.forget_mapped(path)
        assert resident_kb(path) == 0
        assert mapped[:] == content


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
def test_a_file_mapped_to_write_is_left_alone(tmp_path):
    """Private changes live in these pages only."""
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(host.MEGABYTE))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:4] = b"mine"
        host.forget_mapped(path)
        assert mapped[:4] == b"mine"


def resident_kb(path: Path) -> int:
    """How much of a mapped file is in this process's memory, as the kernel counts it."""
    entry = Path("/proc/self/smaps").read_text().partition(str(path))[2]
    found = re.search(r"^Rss:\s+(\d+) kB", entry, re.MULTILINE)
    assert found
    return int(found[1])
