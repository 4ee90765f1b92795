"""The TensorRT backend around FAKES of CUDA and TensorRT (fake_gpu.py): what it computes, and how it ends.

No line here says that a real GPU works; benchmarks/gpu_check.py does that where there is one.
"""

import numpy as np
import pytest
from fake_gpu import NO_DEVICE, VERSION, FakeCuda, fake_tensorrt, install
from tiny_bundle import write_tiny_bundle
from tolerances import TOL
from trt_helpers import MOST, RESOLUTION, SIZE, build, failure, invert, pictures

import wagi_rt
from wagi_rt import manifest as manifests
from wagi_rt.engines.trt import TrtEngine
from wagi_rt.errors import UserError


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WAGI_PLUGINS", raising=False)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(
        tmp_path_factory.mktemp("b"), SIZE, RESOLUTION, pipeline=True, default="pipeline"
    )


@pytest.fixture(scope="module")
def graphs_bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("g"), SIZE, RESOLUTION, external=True)


@pytest.fixture
def gpu(monkeypatch):
    """(fake CUDA, fake TensorRT), in place of the real modules."""
    cuda = FakeCuda()
    tensorrt = fake_tensorrt(cuda)
    install(monkeypatch, cuda, tensorrt)
    return cuda, tensorrt


# What it computes: ONNX Runtime through the runtime's own session is the authority


@pytest.mark.parametrize("way", ["bundle", "graphs_bundle"])
def test_the_whole_inversion_equals_the_session(way, gpu, tmp_path, request):
    """One engine or eight in a chain, every batch size, the first run and the replayed graph."""
    cuda, _ = gpu
    folder = request.getfixturevalue(way)
    build(folder, tmp_path)
    with wagi_rt.load(folder, threads=1) as session, TrtEngine(session.manifest) as backend:
        for batch in (1, 3, 2):
            for turn in range(3):
                images = pictures(batch, seed=turn)
                image_r = images.reshape(batch, 3, RESOLUTION, 2, RESOLUTION, 2).mean((3, 5))
                ws = session.engine.run("encoder", {"image_r": image_r})["ws"]
                below = session.engine.run("prefix", {"ws": ws})
                naive = session.engine.run("naive", {"ws": ws, **below})["image"].clip(-1, 1)
                naive_r = naive.reshape(image_r.shape[:3] + (2, RESOLUTION, 2)).mean((3, 5))
                pair = {"residual": image_r - naive_r, "naive_r": naive_r}
                aligned = session.engine.run("align", pair)
                result = session.engine.run("decode", {"ws": ws, **below, **aligned})["image"]
                found = invert(backend, images)
                np.testing.assert_allclose(found["ws"], ws, **TOL[np.float32])
                np.testing.assert_allclose(found["naive_r"], naive_r, **TOL[np.float32])
                np.testing.assert_allclose(found["result"], result, **TOL[np.float32])
        assert cuda.calls["cudaGraphInstantiate"] == 3, "one CUDA graph per batch size"
        assert cuda.calls["cudaGraphLaunch"] == 6, "all but the first run of each size replay it"


@pytest.mark.parametrize(("way", "naive"), [("bundle", False), ("bundle", True), ("graphs_bundle", False)])
def test_the_session_runs_it_by_name(way, naive, gpu, tmp_path, request):
    """`--backend trt` through the runtime's table of backends, with and without the full-size naive image."""
    folder = request.getfixturevalue(way)
    build(folder, tmp_path)
    with (
        wagi_rt.load(folder, threads=1, naive=naive) as onnx,
        wagi_rt.load(folder, "trt", naive=naive) as session,
    ):
        assert session.description.endswith(f"with TensorRT {VERSION} on cuda:0, fp32")
        found, wanted = session.restore(pictures(2)), onnx.restore(pictures(2))
        for name, value in wanted._asdict().items():
            if value is not None:
                np.testing.assert_allclose(getattr(found, name), value, **TOL[np.float32])


def test_nothing_comes_back_to_the_host_in_between(gpu, graphs_bundle, tmp_path):
    cuda, _ = gpu
    build(graphs_bundle, tmp_path)
    with TrtEngine(manifests.read(graphs_bundle)) as backend:
        allocated = cuda.calls["cudaMalloc"]
        invert(backend, pictures(1))
        # One upload (the image), three downloads; enqueued once to run and once to be captured.
        assert cuda.calls["cudaMemcpyAsync"] == 2 * 4
        assert cuda.calls["cudaStreamSynchronize"] == 1
        invert(backend, pictures(2))
        assert cuda.calls["cudaMalloc"] == allocated, "buffers are allocated once"


def test_single_graphs_are_bound_by_name(gpu, bundle, tmp_path):
    """The fake engine lists its tensors backwards."""
    build(bundle, tmp_path)
    x = pictures(2)[:, :, :RESOLUTION, :RESOLUTION]
    with TrtEngine(manifests.read(bundle)) as backend:
        for _ in range(2):
            aligned = backend.run("align", {"naive_r": 0 * x, "residual": x})["aligned"]
            np.testing.assert_array_equal(aligned, x)
        with pytest.raises(UserError, match="takes .*residual.*, not naive_r"):
            backend.run("align", {"naive_r": x})
        with pytest.raises(UserError, match=r"'naive_r' must be \[2, 3, 32, 32\], this is \[2, 3, 64, 64\]"):
            backend.run("align", {"residual": x, "naive_r": pictures(2)})


def test_results_survive_the_next_run(gpu, bundle, tmp_path):
    build(bundle, tmp_path)
    with TrtEngine(manifests.read(bundle)) as backend:
        first = invert(backend, pictures(1, seed=1))
        kept = first["result"].copy()
        invert(backend, pictures(1, seed=2))
        np.testing.assert_array_equal(first["result"], kept)


@pytest.mark.parametrize("batch", [0, MOST + 1])
def test_a_batch_outside_the_profile(gpu, bundle, tmp_path, batch):
    build(bundle, tmp_path)
    with TrtEngine(manifests.read(bundle)) as backend:
        assert backend.max_batch == MOST
        with pytest.raises(UserError, match=f"batches of 1 to {MOST}, not {batch}; change --batch"):
            invert(backend, pictures(batch))


def test_an_engine_that_cannot_be_captured_still_runs(gpu, bundle, tmp_path, capsys):
    cuda, _ = gpu
    cuda.refuse_capture = True
    build(bundle, tmp_path)
    with TrtEngine(manifests.read(bundle)) as backend:
        first, second = (invert(backend, pictures(1))["result"] for _ in range(2))
        np.testing.assert_array_equal(first, second)
    assert capsys.readouterr().err.count("without a CUDA graph") == 1
    assert cuda.calls["cudaGraphLaunch"] == 0


def test_closing_gives_everything_back(gpu, graphs_bundle, tmp_path):
    cuda, _ = gpu
    build(graphs_bundle, tmp_path)
    with TrtEngine(manifests.read(graphs_bundle)) as backend:
        invert(backend, pictures(1))
        backend.run("encoder", {"image_r": pictures(1)[:, :, ::2, ::2]})
        assert cuda.blocks
    assert not cuda.blocks
    assert cuda.calls["cudaGraphExecDestroy"] == cuda.calls["cudaGraphInstantiate"] == 2


# Machines that cannot run it


@pytest.mark.parametrize(
    ("cuda", "line"),
    [
        (FakeCuda(status=35, driver=0), "no NVIDIA driver on this machine; install r580 or newer"),
        (FakeCuda(status=35, driver=12040), r"driver is too old \(CUDA 12.4\); CUDA 13 needs driver r580"),
        (FakeCuda(status=NO_DEVICE), "no NVIDIA GPU"),
        (FakeCuda(count=0), "no NVIDIA GPU"),
        (FakeCuda(status=802), r"CUDA does not start \(cudaErrorFake802\)"),
    ],
)
def test_no_driver_or_gpu(monkeypatch, bundle, cuda, line):
    tensorrt = fake_tensorrt(cuda)
    tensorrt.Runtime = lambda log: pytest.fail("TensorRT was touched")
    install(monkeypatch, cuda, tensorrt)
    error = failure(bundle)
    assert error.status == 1
    with pytest.raises(UserError, match=line):
        raise error
    usable, reason = TrtEngine.available()
    assert not usable and reason == str(error).removeprefix("TensorRT: ")


def test_available_names_what_is_there(gpu):
    assert TrtEngine.available() == (True, f"tensorrt_lean {VERSION}, 1 GPU")


def test_missing_packages_name_the_extra(monkeypatch, bundle):
    install(monkeypatch, FakeCuda())
    error = failure(bundle)
    assert "is not installed; run: pip install 'wagi[trt]'" in str(error) and error.status == 2
    install(monkeypatch, None)
    error = failure(bundle)
    assert "cuda-bindings is not installed; run: pip install 'wagi[trt]'" in str(error) and error.status == 2


@pytest.mark.parametrize("name", ["tensorrt_lean", "tensorrt_lean_bindings", "tensorrt"])
def test_any_of_the_three_packages_serves(monkeypatch, bundle, tmp_path, name):
    cuda = FakeCuda()
    install(monkeypatch, cuda, fake_tensorrt(cuda, name))
    build(bundle, tmp_path)
    with TrtEngine(manifests.read(bundle)) as backend:
        assert backend.version == VERSION
        assert np.isfinite(invert(backend, pictures(1))["result"]).all()


def test_the_named_gpu_or_none(gpu, bundle):
    assert "there is no such GPU, the last one is cuda:0" in str(failure(bundle, device="cuda:1"))
    assert failure(bundle, device="cpu").status == 2
    assert failure(bundle, device="gpu").status == 2


@pytest.mark.parametrize("memory", [0, 10_000, 200_000])
def test_out_of_gpu_memory(gpu, graphs_bundle, tmp_path, memory):
    cuda, _ = gpu
    build(graphs_bundle, tmp_path)
    cuda.memory = memory
    assert "cuda:0: not enough GPU memory; use a smaller --batch" in str(failure(graphs_bundle))
    assert not cuda.blocks, "what was allocated is given back"


def test_out_of_gpu_memory_inside_tensorrt(gpu, bundle, tmp_path):
    _, tensorrt = gpu
    build(bundle, tmp_path)
    with TrtEngine(manifests.read(bundle)) as backend:
        tensorrt.no_context_memory = True
        with pytest.raises(UserError, match="not enough GPU memory"):
            invert(backend, pictures(1))
        tensorrt.no_context_memory = False
        assert np.isfinite(invert(backend, pictures(1))["result"]).all(), "usable afterwards"


def test_a_cuda_failure_in_between_is_one_line(gpu, bundle, tmp_path, monkeypatch):
    cuda, _ = gpu
    build(bundle, tmp_path)
    with TrtEngine(manifests.read(bundle)) as backend:
        invert(backend, pictures(1))
        monkeypatch.setattr(cuda, "cudaStreamSynchronize", lambda stream: (700,))
        with pytest.raises(UserError, match=r"CUDA failed \(cudaErrorFake700 in cudaStreamSynchronize\)"):
            invert(backend, pictures(1))
