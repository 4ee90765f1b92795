"""Folders in and out: what is found, what is left out, how outputs are called, and how a run goes on."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import error_line, run_cli, write_tiny_bundle

from wagi_rt.session import Session

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 70, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def photos(tmp_path):
    """a.png, IMG.jpg beside IMG.png, hidden files, a HEIC photo, text, and b.png in a sub-folder."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("a.png", "IMG.jpg", "IMG.png", "deep/b.png", ".hidden/c.png", ".d.png"):
        PHOTO.save(folder / name)
    (folder / "._IMG.jpg").write_bytes(b"\0\5\x16\7" + bytes(80))  # AppleDouble
    (folder / "e.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "notes.txt").write_text("not for the model")
    return folder


def tree(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def no_model(monkeypatch):
    """Opening a model is an error."""

    def opened(self, *arguments, **options):
        raise AssertionError("the model was opened")

    monkeypatch.setattr(Session, "__init__", opened)


# What is found


def test_hidden_files_are_passed_over_and_the_rest_is_noted(bundle, photos, tmp_path, capsys):
    assert run_cli("invert", photos, "-m", bundle, "-o", tmp_path / "out") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    left_out = "left out 1 .heic files (convert them to JPEG), 1 sub-folders (searched with --recursive)"
    assert notes == [f"note: {photos}: {left_out}"]
    assert tree(tmp_path / "out") == ["IMG.jpg.png", "IMG.png.png", "a.png"]


def test_recursive_keeps_the_folders(bundle, photos, capsys):
    """Into a folder below the input, twice: the outputs of the first run are not inputs of the second."""
    arguments = ("invert", photos, "-m", bundle, "-o", photos / "out", "--recursive", "--naive", photos / "n")
    assert run_cli(*arguments) == 0
    expected = ["IMG.jpg.png", "IMG.png.png", "a.png", "deep/b.png"]
    assert tree(photos / "out") == tree(photos / "n") == expected
    assert run_cli(*arguments, "--overwrite") == 0
    assert tree(photos / "out") == expected and "sub-folders" not in capsys.readouterr().err


def test_an_empty_folder_stops_no_other(bundle, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run_cli("invert", tmp_path / "empty", photos / "a.png", "-m", bundle, "-o", tmp_path / "out") == 1
    assert "no images in this folder" in error_line(capsys.readouterr().err)
    assert tree(tmp_path / "out") == ["a.png"]


# Before the model


def test_a_mistyped_input_is_said_before_the_model_and_makes_no_folder(no_model, tmp_path, capsys):
    assert run_cli("invert", tmp_path / "fcae.png", "-o", tmp_path / "out", "--json") == 1
    captured = capsys.readouterr()
    assert f"{tmp_path / 'fcae.png'}: no such file" in error_line(captured.err)
    assert set(json.loads(captured.out)) == {"input", "error"}
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_input_stops_no_other(bundle, photos, tmp_path, capsys):
    assert run_cli("invert", tmp_path / "x.png", photos / "a.png", "-m", bundle, "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ") and "on cpu" in lines[1]
    assert tree(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize("name", ["r.gif", "r.TIFF", "r.bmp"])
def test_a_picture_that_is_not_written_is_no_folder(name, no_model, photos, tmp_path, capsys):
    assert run_cli("invert", photos / "a.png", "-o", tmp_path / name) == 2
    assert f"{name}: pictures are written as .png" in error_line(capsys.readouterr().err)
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()  # but a folder may be called so
    assert run_cli("invert", tmp_path / "no.png", "-o", tmp_path / name) == 1


# Without -o


def test_one_picture_without_a_place_lies_beside_its_input(bundle, photos, capsys):
    before = tree(photos)
    assert run_cli("invert", photos / "a.png", "-m", bundle) == 0
    assert tree(photos) == sorted([*before, "a-wagi.png"])
    assert f"a.png -> {photos / 'a-wagi.png'} (" in capsys.readouterr().err
    content = (photos / "a-wagi.png").read_bytes()
    assert run_cli("invert", photos / "a.png", "-m", bundle) == 2  # never over a file
    assert "a-wagi.png: exists already" in error_line(capsys.readouterr().err)
    assert (photos / "a-wagi.png").read_bytes() == content


def test_names_without_a_place(bundle, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli("invert", "photos", "photos/deep/b.png", "-m", bundle, "--format", "jpg") == 0
    assert tree(tmp_path / "photos-wagi") == ["IMG.jpg.jpg", "IMG.png.jpg", "a.jpg"]
    assert (tmp_path / "photos" / "deep" / "b-wagi.jpg").is_file()
    monkeypatch.chdir(photos)
    assert run_cli("invert", "IMG.jpg", "IMG.png", "-m", bundle) == 0
    assert {"IMG.jpg-wagi.png", "IMG.png-wagi.png"} <= set(os.listdir("."))
    capsys.readouterr()
    assert run_cli("invert", ".", "-m", bundle) == 2
    assert "name a folder for its results with -o" in error_line(capsys.readouterr().err)


# Going on


def test_skip_existing_goes_on_where_a_run_was_stopped(bundle, photos, tmp_path, capsys):
    arguments = ("invert", photos, "-m", bundle, "-o", tmp_path / "out", "--naive", tmp_path / "naive")
    assert run_cli(*arguments) == 0
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    (tmp_path / "naive" / "IMG.png.png").unlink()  # stopped between the two files of an image
    capsys.readouterr()
    assert run_cli(*arguments, "--skip-existing") == 0
    captured = capsys.readouterr().err
    assert "2 of 3 have their output already" in captured and "[1/1]" in captured
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    assert tree(tmp_path / "naive") == tree(tmp_path / "out") == ["IMG.jpg.png", "IMG.png.png", "a.png"]


def test_nothing_left_to_do_opens_no_model(bundle, photos, tmp_path, capsys, no_model, monkeypatch):
    (tmp_path / "out").mkdir()
    for name in ("IMG.jpg.png", "IMG.png.png", "a.png"):
        (tmp_path / "out" / name).touch()
    assert run_cli("invert", photos, "-o", tmp_path / "out", "--skip-existing") == 0
    assert "3 of 3 have their output already" in capsys.readouterr().err
