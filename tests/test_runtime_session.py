"""The library: wagi_rt.load(bundle).invert(images), and the device that was named is the one that runs."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_bundle import BLUR, N_LATENT, STYLE_DIM, write_tiny_bundle
from tolerances import TOL

import wagi_rt
from wagi_rt.chain import area_resize
from wagi_rt.engines.base import EngineChoice, parse_device
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError
from wagi_rt.pictures import to_float

PHOTO = Image.fromarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def session(bundle):
    with wagi_rt.load(bundle, threads=1) as opened:
        yield opened


def test_every_kind_of_image_gives_the_same_result(session, tmp_path):
    PHOTO.save(tmp_path / "photo.png")
    small = np.asarray(PHOTO.resize((64, 64), Image.Resampling.LANCZOS))
    kinds = [
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        (tmp_path / "photo.png").read_bytes(),
        PHOTO,
        np.asarray(PHOTO),
        to_float(small[None])[0],
    ]
    results = session.invert(kinds)
    for kind, result in zip(kinds, results, strict=True):
        np.testing.assert_array_equal(result.input, small)
        np.testing.assert_allclose(result.image.astype(int), results[0].image.astype(int), atol=1)
        np.testing.assert_allclose(
            session.invert(kind)[0].image.astype(int), result.image.astype(int), atol=1
        )


def test_the_result_is_complete(session):
    (result,) = session.invert(PHOTO)
    for pixels in (result.image, result.naive_r, result.input):
        assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    assert result.naive is None
    assert result.ws.shape == (N_LATENT, STYLE_DIM) and result.ws.dtype == np.float32


@pytest.mark.parametrize("batch", [None, 1, 2, 5])
def test_batches_do_not_mix_images(session, batch):
    images = np.random.default_rng(0).uniform(-1, 1, (5, 3, 64, 64)).astype(np.float32)
    images *= np.linspace(0.2, 1, 5, dtype=np.float32).reshape(5, 1, 1, 1)
    results = session.invert(images, batch=batch)
    for image, result in zip(images, results, strict=True):
        (alone,) = session.invert(image)
        np.testing.assert_allclose(result.ws, alone.ws, **TOL[np.float32])
        np.testing.assert_allclose(result.image.astype(int), alone.image.astype(int), atol=1)


@pytest.mark.parametrize(("size", "resolution"), [(64, 64), (128, 64)])
def test_the_pipeline_is_the_papers(tmp_path, size, resolution):
    """naive + keep * residual, the residual at the lower resolution: what the tiny graphs amount to."""
    keep = 0.5
    bundle = write_tiny_bundle(tmp_path, size=size, resolution=resolution, keep=keep)
    x = np.random.default_rng(1).uniform(-1, 1, (2, 3, size, size)).astype(np.float32)
    with wagi_rt.load(bundle, threads=1) as opened:
        inversion = opened.run(x)
    small = F.interpolate(torch.from_numpy(x), size=resolution, mode="area")
    blur = F.interpolate(small, size=8, mode="area")
    naive = torch.from_numpy(inversion.naive)
    tint = (naive - F.interpolate(blur, size=size, mode="nearest")).flatten(1)
    assert (tint.amax(1) - tint.amin(1)).max() < 1e-4  # one colour, made of feature and skip
    residual = small - F.interpolate(naive.clamp(-1, 1), size=resolution, mode="area")
    image = naive + keep * F.interpolate(residual, size=size, mode="nearest")
    np.testing.assert_allclose(
        inversion.ws.reshape(2, -1)[:, :BLUR], blur.flatten(1).numpy(), **TOL[np.float32]
    )
    np.testing.assert_allclose(inversion.residual, residual.numpy(), **TOL[np.float32])
    np.testing.assert_allclose(inversion.aligned, inversion.residual, **TOL[np.float32])
    np.testing.assert_allclose(inversion.image, image.numpy(), **TOL[np.float32])


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_area_resize_equals_torch(factor):
    x = np.random.default_rng(0).normal(size=(2, 3, 16 * factor, 16 * factor)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(x), size=16, mode="area").numpy()
    np.testing.assert_allclose(area_resize(x, 16), expected, **TOL[np.float32])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (np.zeros((3, 32, 32), np.float32), r"must be \[3, 64, 64\]"),
        (np.full((3, 64, 64), 255.0), r"must be in \[-1, 1\]"),
        (np.full((3, 64, 64), np.nan), r"must be in \[-1, 1\]"),
        (np.zeros((64, 64), np.uint8), "must be uint8"),
        (np.zeros((64, 64, 3), np.int32), "must be uint8"),
        (np.zeros((0, 64, 3), np.uint8), "must be uint8"),
        ("nowhere.png", "no such file"),
        (b"", "empty"),
    ],
)
def test_images_that_cannot_be_used(session, item, reason):
    with pytest.raises(UserError, match=reason):
        session.invert(item)


def test_no_images_is_no_result(session):
    assert session.invert([]) == []


def test_a_model_that_yields_nan_is_an_error(tmp_path):
    with wagi_rt.load(write_tiny_bundle(tmp_path, keep=float("nan")), threads=1) as opened:
        with pytest.raises(UserError, match="not numbers"):
            opened.invert(PHOTO)


# Devices and engines


@pytest.mark.parametrize(
    ("text", "device"), [("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:3", ("cuda", 3))]
)
def test_device_names(text, device):
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["gpu", "cpu:1", "cuda:", "cuda:-1", "cuda:a", ""])
def test_unknown_devices(text):
    with pytest.raises(UserError, match="cpu, cuda or cuda:N") as caught:
        parse_device(text)
    assert caught.value.status == 2


def fake_onnxruntime(monkeypatch, providers: list[str], started: list[str]) -> None:
    """An ONNX Runtime that offers `providers`, and whose sessions run on `started` whatever is asked."""
    import onnxruntime

    fake = SimpleNamespace(
        __version__="fake",
        SessionOptions=onnxruntime.SessionOptions,
        InferenceSession=lambda *args, **kwargs: SimpleNamespace(get_providers=lambda: started),
        get_available_providers=lambda: providers,
        set_default_logger_severity=lambda level: None,
        preload_dlls=lambda: print("Failed to load libcublas.so"),
        __file__="/nowhere/onnxruntime/__init__.py",
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_cuda_is_refused_when_the_provider_is_not_there(bundle, monkeypatch):
    fake_onnxruntime(monkeypatch, [CPU], [CPU])
    with pytest.raises(UserError, match="has no CUDA; use --device cpu") as caught:
        wagi_rt.load(bundle, device="cuda:1")
    assert caught.value.status == 2


def test_cuda_that_falls_back_to_the_cpu_is_an_error(bundle, monkeypatch):
    """ONNX Runtime only warns when CUDA's libraries are missing, and goes on with the CPU."""
    fake_onnxruntime(monkeypatch, [CUDA, CPU], [CPU])
    with pytest.raises(UserError, match="CUDA could not be started"):
        wagi_rt.load(bundle, device="cuda")


def test_a_cuda_library_that_is_missing_is_named(bundle, monkeypatch, capsys):
    """As the system's loader says it of ONNX Runtime's CUDA part (FAKE: this machine has none)."""
    fake_onnxruntime(monkeypatch, [CUDA, CPU], [CPU])

    def loader(path):
        assert path == "/nowhere/onnxruntime/capi/libonnxruntime_providers_cuda.so"
        raise OSError("libcublasLt.so.13: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("ctypes.CDLL", loader)
    with pytest.raises(UserError, match=r"libcublasLt.so.13 is missing; run: pip install 'wagi\[gpu\]'"):
        wagi_rt.load(bundle, device="cuda")
    assert capsys.readouterr().out == "", "stdout is for results"


def test_the_gpu_extra_brings_cuda(root):
    import tomllib

    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["gpu"] == ["onnxruntime-gpu[cuda,cudnn]>=1.31"]


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.zeros(3, 64, 64, dtype=torch.bfloat16), "this is Tensor"),
        (torch.zeros(3, 64, 64, requires_grad=True), "this is Tensor"),
        (torch.zeros(64, 64, 3, dtype=torch.int64), "must be uint8"),
        (None, "this is NoneType"), (3, "this is int"), ([3], "this is int"), (3.5, "this is float"),
    ],
)  # fmt: skip
def test_things_that_are_no_images(session, tensor, reason):
    with pytest.raises(UserError, match=reason):
        session.invert(tensor)


def test_a_tensor_on_the_cpu_is_an_array(session):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)
    for found, wanted in zip(session.invert(torch.from_numpy(x)), session.invert(x), strict=True):
        np.testing.assert_array_equal(found.image, wanted.image)


def test_missing_onnxruntime_names_the_extra(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'wagi\[cpu\]'") as caught:
        wagi_rt.load(bundle)
    assert caught.value.status == 2


@pytest.mark.parametrize("backend", ["tensorrt", "ov", ""])
def test_backends_that_this_version_lacks(bundle, backend):
    with pytest.raises(UserError, match="it has: onnx, openvino, trt, auto"):
        wagi_rt.load(bundle, backend=backend)


def test_the_backend_binds_by_name(session, bundle):
    x = np.zeros((1, 3, 64, 64), np.float32)
    with OrtEngine(session.manifest, EngineChoice(threads=1)) as backend:
        aligned = backend.run("align", {"naive_r": x, "residual": x + 1})["aligned"]
        np.testing.assert_array_equal(aligned, x + 1)
        with pytest.raises(UserError, match="takes residual, naive_r, not residual"):
            backend.run("align", {"residual": x})
