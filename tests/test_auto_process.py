"""The first `auto` measures in the background, and a later one goes by the times, with real processes."""

import os
import subprocess
import sys
import time

import pytest
from PIL import Image
from tiny_bundle import write_tiny_bundle

from wagi_rt import manifest, measured


@pytest.mark.slow
def test_whole_runs(tmp_path, monkeypatch):
    """Processes and engines as they are; the background keeps nothing of a busy machine, `tune` does."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    bundle, photo = manifest.read(write_tiny_bundle(tmp_path / "bundle")), tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "teal").save(photo)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}

    def run(*words: object) -> str:
        command = [sys.executable, "-m", "wagi_rt", *words, "-m", bundle.folder, "--threads", "1"]
        done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stderr

    words = ("invert", photo, "--backend", "auto", "--overwrite", "-o", tmp_path / "o.png")
    assert "in the background" in run(*words)
    deadline = time.monotonic() + 60
    while measured.tried(bundle, 1) == float("inf"):
        assert time.monotonic() < deadline, "nothing began"
        time.sleep(0.1)
    with measured.turn(bundle, 1, wait=True):
        pass
    run("tune")
    known = measured.read(bundle, 1)
    assert known and "onnx" in {row.backend for row in known.rows if row.ms}
    assert "note: auto chose " in run(*words)
