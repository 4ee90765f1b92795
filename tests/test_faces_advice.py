"""A picture that the model does not know says so, and where its face is when something can look for it."""

import json

import numpy as np
import pytest
from PIL import Image
from test_faces_detection import TRUTH, astronaut, needs_models
from tiny_bundle import run_cli

from wagi_rt import naive
from wagi_rt.commands import whereabouts
from wagi_rt.faces import models
from wagi_rt.faces.detection import Face

FAR = "the naive inversion of this picture is far from it"


class Finding:
    """A detector that finds one face, or none."""

    def __init__(self, *faces: Face) -> None:
        self.find = lambda photo: list(faces)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    astronaut().save(path)
    return path


def notes(capsys, *words) -> list[str]:
    assert run_cli(*words, "--threads", 1, "--json", "-q", "--overwrite") == 0
    return json.loads(capsys.readouterr().out).get("notes", [])


@pytest.mark.parametrize(
    ("detector", "line"),
    [
        (None, "is the face aligned? (--fit face)"),
        (Finding(), "no face is found in it"),
        (Finding(Face(TRUTH)), "its face is at (225, 107), 169 px wide; --fit face aligns it"),
    ],
)
@pytest.mark.parametrize("command", (("invert",), ("edit", "--set", "yaw=0")))
def test_a_picture_the_model_does_not_know(photo, tmp_path, capsys, monkeypatch, command, detector, line):
    """Looked for by a stand-in, not at all without the models."""
    monkeypatch.setattr(models, "installed", lambda: detector is not None)
    monkeypatch.setattr(whereabouts, "_detector", lambda threads: detector)
    (note,) = notes(capsys, *command, photo, "-o", tmp_path / "out.png")
    assert note.startswith(FAR) and note.endswith(f": {line}")


def test_an_aligned_face_is_not_sent_to_be_aligned(photo, tmp_path, capsys, monkeypatch):
    corner = np.array([140, 20])
    astronaut().crop((140, 20, 310, 190)).save(tmp_path / "face.png")
    here = Face(TRUTH._replace(eyes=TRUTH.eyes - corner, mouth=TRUTH.mouth - corner))
    monkeypatch.setattr(naive, "_FAR", 1e-3)
    monkeypatch.setattr(models, "installed", lambda: True)
    monkeypatch.setattr(whereabouts, "_detector", lambda threads: Finding(here))
    (note,) = notes(capsys, "invert", tmp_path / "face.png", "-o", tmp_path / "out.png")
    assert note.endswith(": its face is aligned, but the model was not trained on such faces")


def test_of_a_photo_with_faces_each_says_it_for_itself(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(naive, "_FAR", 1e-3)
    quad = {"quad": TRUTH.quad().tolist()}
    (tmp_path / "quads.json").write_text(json.dumps({"astronaut.png": [quad]}))
    words = (photo, "-o", tmp_path / "out.png", "--fit", "face", "--quads", tmp_path / "quads.json")
    (note,) = notes(capsys, "edit", "--set", "skin=0", *words)
    assert note.startswith(f"face 1: {FAR}") and note.endswith(": the model was not trained on such faces")


def test_what_the_model_knows_says_nothing(tmp_path, capsys):
    from rendered_photo import SAMPLES

    assert notes(capsys, "invert", SAMPLES / "portrait-01.png", "-o", tmp_path / "out.png") == []


@needs_models
def test_the_detector_finds_it(photo, tmp_path, capsys):
    (note,) = notes(capsys, "invert", photo, "-o", tmp_path / "out.png")
    assert "--fit face aligns it" in note
    Image.new("RGB", (300, 300), "red").save(tmp_path / "red.png")
    (note,) = notes(capsys, "invert", tmp_path / "red.png", "-o", tmp_path / "out.png")
    assert note.endswith("no face is found in it")
