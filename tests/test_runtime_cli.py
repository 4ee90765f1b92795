"""The command line: where results go, what is refused before any work, exit statuses, no partial files."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from checkout import ROOT
from PIL import Image
from tiny_bundle import error_line, run_cli, write_tiny_bundle

PHOTO = Image.fromarray(skimage.data.astronaut()).resize((96, 96))
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "wagi_rt"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def photos(tmp_path):
    """A folder with a.png, b.jpg, c.png and a text file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate(("a.png", "b.jpg", "c.png")):
        PHOTO.rotate(90 * index).save(folder / name)
    (folder / "notes.txt").write_text("not for the model")
    return folder


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(source) -> np.ndarray:
    with Image.open(source) as image:
        return np.asarray(image.convert("RGB")).astype(int)


# Results


def test_a_folder_in_batches_equals_one_by_one(bundle, photos, tmp_path):
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "two", "--batch", 2) == 0
    assert (
        run_cli(
            "invert", photos / "a.png", photos / "b.jpg", photos / "c.png", "-m", bundle, "-o", tmp_path / "1"
        )
        == 0
    )
    assert names(tmp_path / "two") == names(tmp_path / "1") == ["a.png", "b.png", "c.png"]
    for name in names(tmp_path / "1"):
        assert np.abs(read(tmp_path / "two" / name) - read(tmp_path / "1" / name)).max() <= 1
    assert np.abs(read(tmp_path / "1" / "a.png") - read(tmp_path / "1" / "c.png")).max() > 50


def test_the_output_shows_the_input(bundle, photos, tmp_path):
    run_cli("invert", photos / "a.png", "-m", bundle, "-o", tmp_path / "out.png")
    expected = np.asarray(PHOTO.resize((64, 64), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(read(tmp_path / "out.png") - expected).mean() < 15


def test_stdin_to_stdout(bundle, photos):
    done = subprocess.run(
        [*COMMAND, "invert", "-", "-o", "-", "-m", bundle, "--format", "jpg"],
        input=(photos / "b.jpg").read_bytes(), capture_output=True, env=ENV, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))
    assert b"stdin" in done.stderr


def test_json_has_one_object_per_image_and_nothing_else_on_stdout(bundle, photos, tmp_path, capsys):
    (photos / "bad.png").write_bytes(b"")
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out", "--json") == 1
    records = {os.path.basename(r["input"]): r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    assert sorted(records) == ["a.png", "b.jpg", "bad.png", "c.png"]
    assert set(records["bad.png"]) == {"input", "error"}
    record = records["a.png"]
    assert record["output"] == str(tmp_path / "out" / "a.png") and record["ms"] > 0
    assert set(record["metrics"]) == {"naive", "wagi"}
    assert all(set(values) == {"l2", "psnr", "ssim", "l_wave"} for values in record["metrics"].values())
    assert record["metrics"]["wagi"]["l2"] < record["metrics"]["naive"]["l2"]


def test_json_metrics_are_those_of_the_written_file(bundle, tmp_path, capsys):
    source = tmp_path / "in.png"
    PHOTO.resize((64, 64)).save(source)
    run_cli("invert", source, "-m", bundle, "-o", tmp_path / "out.png", "--json")
    record = json.loads(capsys.readouterr().out)
    difference = (read(source) - read(tmp_path / "out.png")) / 127.5
    assert record["metrics"]["wagi"]["l2"] == pytest.approx(np.square(difference).mean(), rel=1e-4)


def test_comparison_sheet(bundle, photos, tmp_path, capsys):
    sheet = tmp_path / "sheets" / "sheet.png"
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out", "--compare", sheet) == 0
    pixels = read(sheet)
    assert pixels.shape[0] > 3 * 192 and pixels.shape[1] > 3 * 192
    # The first row's first cell is the input, enlarged: find it anywhere in the sheet.
    cell = np.asarray(
        PHOTO.resize((64, 64), Image.Resampling.LANCZOS).resize((192, 192), Image.Resampling.BICUBIC)
    )
    found = min(
        np.abs(pixels[top : top + 192, left : left + 192] - cell).mean()
        for top in range(20, 45)
        for left in range(12)
    )
    assert found < 1
    assert "sheet.png" in capsys.readouterr().err


def test_progress_is_on_stderr_and_names_device_and_precision(bundle, photos, tmp_path, capsys):
    run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "on cpu, fp32" in captured.err and "[3/3]" in captured.err


def test_quiet_prints_nothing(bundle, photos, tmp_path, capsys):
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["-o", "x.jpg"], ["-o", "folder", "--format", "webp"]])
def test_output_formats(arguments, bundle, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli("invert", photos / "a.png", "-m", bundle, *arguments) == 0
    written = next(p for p in tmp_path.rglob("*") if p.suffix in (".jpg", ".webp") and p.parent != photos)
    with Image.open(written) as image:
        assert image.format == {".jpg": "JPEG", ".webp": "WEBP"}[written.suffix]


# Refused before any work


def refused(capsys, *arguments: object, status: int = 2) -> str:
    assert run_cli("invert", *arguments) == status
    return error_line(capsys.readouterr().err)


def test_existing_outputs_are_refused_before_any_work(bundle, photos, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "c.png").write_bytes(b"mine")
    assert "--overwrite" in refused(capsys, photos, "-m", bundle, "-o", out)
    assert names(out) == ["c.png"] and (out / "c.png").read_bytes() == b"mine"
    assert run_cli("invert", photos, "-m", bundle, "-o", out, "--overwrite") == 0
    assert read(out / "c.png").shape == (64, 64, 3)


def test_an_existing_sheet_is_refused(bundle, photos, tmp_path, capsys):
    (tmp_path / "sheet.png").touch()
    line = refused(capsys, photos, "-m", bundle, "-o", tmp_path / "out", "--compare", tmp_path / "sheet.png")
    assert "sheet.png: exists already" in line and not (tmp_path / "out").exists()


def test_two_inputs_with_one_output(bundle, photos, tmp_path, capsys):
    deep = tmp_path / "deep"
    deep.mkdir()
    PHOTO.save(deep / "a.png")
    line = refused(capsys, photos / "a.png", deep / "a.png", "-m", bundle, "-o", tmp_path / "out")
    assert line.count("a.png") == 3 and not (tmp_path / "out").exists()


def test_an_output_that_is_an_input(bundle, photos, capsys):
    before = (photos / "a.png").read_bytes()
    assert "is also an input" in refused(capsys, photos, "-m", bundle, "-o", photos, "--overwrite")
    assert (photos / "a.png").read_bytes() == before


@pytest.mark.parametrize("below", ["file/out", "file/deeper/out.png"])
def test_a_place_that_cannot_be_written(below, bundle, photos, tmp_path, capsys):
    """A path below a regular file: not even root can write there."""
    (tmp_path / "file").write_text("in the way")
    line = refused(capsys, photos / "a.png", "-m", bundle, "-o", tmp_path / below)
    assert "cannot write there" in line
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a.png", "b.jpg", "-o", "x.png"], "is one file for 2 images"),
        (["a.png", "b.jpg", "-o", "-"], "stdout takes one image"),
        (["-", "-", "-o", "out"], "stdin can be given only once"),
        (["a.png", "-o", "-", "--json"], "both want stdout"),
        (["a.png", "-o", "x.png", "--format", "jpg"], "does not fit --format"),
        (["a.png", "-o", "x.png", "--compare", "sheet.txt"], "must end in"),
        (["a.png", "-o", "x.png", "--compare", "x.png"], "both would become"),
        ([".", "-o", "x"], "no images in this folder"),
        (["a.png", "-o", "x.gif"], "are written as .png"),
        (["a.png", "-o", "x.png", "--threads", "100000"], "--threads 100000"),
        (["a.png", "-o", "x.png", "--max-pixels", "0"], "--max-pixels"),
        (["a.png", "-o", "x.png", "--overwrite", "--skip-existing"], "not allowed with"),
        ([], "INPUT"),
        (["a.png", "-o", "x.png", "--batch", "0"], "--batch"),
        (["a.png", "-o", "x.png", "--threads", "many"], "--threads"),
        (["a.png", "-o", "x.png", "--fit", "zoom"], "--fit"),
        (["a.png", "-o", "x.png", "--backend", "tflite"], "--backend"),
        (["a.png", "-o", "x.png", "--backend", "trt", "--device", "cpu"], "runs on cuda only"),
        (["a.png", "-o", "x.png", "--backend", "openvino", "--device", "cuda"], "runs on cpu only"),
        (["a.png", "-o", "x.png", "--precision", "bf16"], "use --backend openvino"),
        (["a.png", "-o", "x.png", "--precision", "int8"], "--precision"),
        (["a.png", "-o", "x.png", "--device", "cuda"], "has no CUDA"),
        (["a.png", "-o", "x.png", "--device", "tpu"], "--device tpu"),
        (["a.png", "-o", "x.png", "--device", "cuda:x"], "--device cuda:x"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, reason, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if arguments[:1] != ["."]:
        PHOTO.save("a.png")
        PHOTO.save("b.jpg")
    before = names(tmp_path)
    line = refused(capsys, *arguments, "-m", bundle)
    assert reason in line
    assert names(tmp_path) == before


def test_a_backend_that_this_version_lacks_names_those_it_has(bundle, photos, tmp_path, capsys):
    line = refused(capsys, photos, "-m", bundle, "-o", tmp_path / "out", "--backend", "tflite")
    assert "this version has no 'tflite'; it has: onnx, openvino, trt, auto" in line


@pytest.mark.parametrize("option", ["--fp16", "--half"])
def test_fp16_wants_an_fp16_bundle(option, bundle, photos, tmp_path, capsys):
    stored = write_tiny_bundle(tmp_path / "stored", precision="fp16-weights")
    for folder, words in ((bundle, "is fp32"), (stored, "is fp16-weights (half weights, FP32 arithmetic)")):
        line = refused(capsys, photos, "-m", folder, "-o", tmp_path / "out", option)
        assert words in line and "export/to_onnx.py" in line and "--fp16" in line
    half = write_tiny_bundle(tmp_path / "half", precision="fp16")
    assert run_cli("invert", photos, "-m", half, "-o", tmp_path / "out", option) == 0
    assert "on cpu, fp16\n" in capsys.readouterr().err


# Failures in the middle


@pytest.mark.parametrize(
    ("failure", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)]
)
def test_a_failed_write_leaves_no_partial_file(
    failure, status, bundle, photos, tmp_path, capsys, monkeypatch
):
    replace, calls = os.replace, []

    def fail_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise failure
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_second)
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out") == status
    error_line(capsys.readouterr().err)
    assert names(tmp_path / "out") == (["a.png"] if status == 130 else ["a.png", "c.png"])


def test_an_image_that_breaks_the_model_does_not_spoil_its_batch(
    bundle, photos, tmp_path, capsys, monkeypatch
):
    """One black image makes the fake engine fail; the others of its batch are run again without it."""
    from wagi_rt.errors import UserError
    from wagi_rt.session import Session

    restore = Session.restore

    def picky(self, images):
        if (images.reshape(len(images), -1).max(axis=1) == -1).any():
            raise UserError("values that are not numbers")
        return restore(self, images)

    monkeypatch.setattr(Session, "restore", picky)
    Image.new("RGB", (64, 64)).save(photos / "black.png")
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out", "--batch", 4) == 1
    assert "black.png" in error_line(capsys.readouterr().err)
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]
