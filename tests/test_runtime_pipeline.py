"""One fused graph or five separate ones: equal images, and the manifest's default decides which runs."""

import numpy as np
import pytest
import skimage.data
from PIL import Image
from tiny_bundle import edit_manifest, run_cli, write_tiny_bundle
from tolerances import TOL

import wagi_rt

PHOTO = Image.fromarray(skimage.data.astronaut())


@pytest.fixture(scope="module", params=[(64, 64), (128, 64)], ids=str)
def bundle(request, tmp_path_factory):
    size, resolution = request.param
    folder = tmp_path_factory.mktemp("bundle")
    return write_tiny_bundle(folder, size, resolution, pipeline=True, default="pipeline")


def ran(session, monkeypatch) -> list[str]:
    """Names of the graphs that run from now on."""
    names: list[str] = []
    real = session.engine._run

    def record(graph, *rest):
        names.append(graph)
        return real(graph, *rest)

    monkeypatch.setattr(session.engine, "_run", record)
    return names


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_the_pipeline_equals_the_separate_graphs(bundle, backend):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="needs the extra `openvino`")
    with wagi_rt.load(bundle, backend, threads=1) as session:
        x = np.random.default_rng(0).uniform(-1, 1, (2, 3, session.size, session.size)).astype(np.float32)
        fused, separate = session.restore(x), session.run(x)
    with wagi_rt.load(bundle, backend, threads=1, naive=True) as session:
        both = session.restore(x)
    for found in (fused, both):
        np.testing.assert_allclose(found.ws, separate.ws, **TOL[np.float32])
        np.testing.assert_allclose(found.image, separate.image, **TOL[np.float32])
    np.testing.assert_allclose(fused.naive_r, both.naive_r, **TOL[np.float32])
    assert fused.naive is None
    np.testing.assert_allclose(both.naive, separate.naive, **TOL[np.float32])


def test_the_default_of_the_manifest_runs(bundle, monkeypatch):
    with wagi_rt.load(bundle, threads=1) as session:
        graphs = ran(session, monkeypatch)
        session.invert(PHOTO)
        assert graphs == ["pipeline"]
    with wagi_rt.load(bundle, threads=1, naive=True) as session:
        graphs = ran(session, monkeypatch)
        (result,) = session.invert(PHOTO)
        assert graphs == ["encoder", "prefix", "naive", "align", "decode"]
        assert result.naive.shape == (session.size, session.size, 3)


@pytest.mark.parametrize("default", ["graphs", None])
def test_a_bundle_that_says_otherwise_runs_its_separate_graphs(tmp_path, monkeypatch, default):
    folder = write_tiny_bundle(tmp_path, pipeline=True)
    edit_manifest(folder, default=default)
    with wagi_rt.load(folder, threads=1) as session:
        graphs = ran(session, monkeypatch)
        session.invert(PHOTO)
    assert graphs == ["encoder", "prefix", "naive", "align", "decode"]


def test_the_command_writes_the_same_image_either_way(bundle, tmp_path):
    """--compare needs the whole naive image and so the separate graphs."""
    PHOTO.save(tmp_path / "in.png")
    assert run_cli("invert", tmp_path / "in.png", "-m", bundle, "-o", tmp_path / "a.png") == 0
    sheet = ["--compare", tmp_path / "sheet.png", "--naive", tmp_path / "naive"]
    assert run_cli("invert", tmp_path / "in.png", "-m", bundle, "-o", tmp_path / "b.png", *sheet) == 0
    a, b = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("a.png", "b.png"))
    assert np.abs(a - b).max() <= 1
    assert (tmp_path / "sheet.png").exists() and (tmp_path / "naive" / "b.png").exists()


def test_broken_arithmetic_in_the_pipeline_is_an_error(tmp_path):
    folder = write_tiny_bundle(tmp_path, keep=float("nan"), pipeline=True, default="pipeline")
    with wagi_rt.load(folder, threads=1) as session:
        with pytest.raises(wagi_rt.session.UserError, match="not numbers"):
            session.invert(PHOTO)
