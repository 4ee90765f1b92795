"""A session serves several threads, each with the results of its own images; not a forked child."""

import os
import sys
import threading

import numpy as np
import pytest
from fake_gpu import FakeCuda, fake_tensorrt, install
from tiny_bundle import write_tiny_bundle
from trt_helpers import build

import wagi_rt
from wagi_rt.errors import UserError

THREADS, TURNS = 4, 20


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["onnx", "openvino", "trt"])
def session(request, tmp_path, monkeypatch):
    """One per backend; TensorRT is a FAKE, whose buffers really are shared."""
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="needs the extra `openvino`")
    folder = write_tiny_bundle(tmp_path / "bundle", 64, 32, pipeline=True, default="pipeline")
    if request.param == "trt":
        cuda = FakeCuda()
        install(monkeypatch, cuda, fake_tensorrt(cuda))
        build(folder, tmp_path)
    with wagi_rt.load(folder, request.param, threads=None if request.param == "trt" else 2) as opened:
        yield opened


def test_every_thread_gets_its_own_pictures(session):
    """Four threads, twenty times each, through graphs that are first opened on the way."""
    images = [np.full((1, 3, 64, 64), level, np.float32) for level in np.linspace(-0.9, 0.9, THREADS)]
    wanted = [session.restore(image).image for image in images]
    together, wrong = threading.Barrier(THREADS), []

    def work(number: int) -> None:
        together.wait()
        for turn in range(TURNS):
            run = session.run if turn % 5 == 4 and session.backend_name != "trt" else session.restore
            try:
                found = run(images[number]).image
                if not np.allclose(found, wanted[number], atol=1e-4):
                    wrong.append(f"thread {number}, turn {turn}: another picture")
            except Exception as error:
                wrong.append(f"thread {number}, turn {turn}: {error!r}")

    threads = [threading.Thread(target=work, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, f"{len(wrong)} of {THREADS * TURNS}: {wrong[:3]}"


def test_a_closed_session_says_so(session):
    session.close()
    with pytest.raises(UserError, match="the session is closed; open another one"):
        session.invert(np.zeros((3, 64, 64), np.float32))
    session.close()


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="needs fork")
def test_a_forked_child_is_told_to_open_its_own(session):
    """Also where a thread of the parent was in a call: nobody waits for a lock that nobody holds any more."""
    image = np.zeros((1, 3, 64, 64), np.float32)
    session.restore(image)
    with session.engine._lock:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                session.restore(image)
                said = "no error"
            except UserError as error:
                said = str(error)
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "the session was opened before this process was forked; open another one"
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_is_at_least_one(session, batch):
    with pytest.raises(UserError, match=f"batch {batch}: must be at least 1"):
        session.invert(np.zeros((3, 64, 64), np.float32), batch=batch)
