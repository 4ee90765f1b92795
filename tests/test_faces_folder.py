"""`python -m wagi.align` makes a training folder: faces upright, and a line for what was left out."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage.transform import SimilarityTransform
from test_faces_alignment import quad, smooth
from test_faces_detection import astronaut, needs_models

from wagi.align import main
from wagi.data import ImageFolder


@pytest.fixture
def folder(tmp_path):
    """Three photos of one scene, turned by known angles, one that does not decode, and their quads."""
    scene, quads = smooth(240, 240, 9), {}
    (tmp_path / "photos" / "below").mkdir(parents=True)
    for name, angle in (("a.png", 0), ("below/a.png", 90), ("a.jpg", 180)):
        scene.rotate(-angle).save(tmp_path / "photos" / name, quality=98)
        turn = SimilarityTransform(translation=(-120, -120)) + SimilarityTransform(rotation=np.radians(angle))
        corners = (turn + SimilarityTransform(translation=(120, 120)))(quad((110, 130), 80, 0))
        quads[name] = [{"quad": corners.tolist()}]
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    eyes = [[100, 100], [120, 100]]  # 20 px apart
    quads["a.jpg"].append({"eyes": eyes, "mouth": [[100, 120], [120, 120]]})
    (tmp_path / "quads.json").write_text(json.dumps(quads))
    return tmp_path


def arguments(folder, *more):
    return [str(folder / "photos"), "-o", str(folder / "out"), "--size", "48",
            "--quads", str(folder / "quads.json"), *more]  # fmt: skip


def report(folder):
    lines = (folder / "out" / "report.jsonl").read_text().splitlines()
    return {record["input"]: record for record in map(json.loads, lines)}


@pytest.mark.parametrize("workers", (1, 2))
def test_every_face_becomes_the_same_upright_square(folder, capsys, workers):
    assert main(arguments(folder, "--workers", str(workers))) == 0
    squares = ("a.jpg.png", "a.png.png", "below/a.png")  # by whole names where stems are alike
    found = [np.asarray(Image.open(folder / "out" / name)).astype(int) for name in squares]
    assert found[0].shape == (48, 48, 3) and found[0].std() > 10
    for other in found[1:]:
        assert np.abs(other - found[0]).mean() < 1.5
    records = report(folder)
    assert records["a.jpg"]["left_out"] == ["small, 20 px between the eyes"]
    assert (
        "damaged" in records["broken.png"]["left_out"][0]
        or "not an image" in records["broken.png"]["left_out"][0]
    )
    assert records["below/a.png"]["outputs"] == ["below/a.png"]
    said = capsys.readouterr().err
    assert "3 faces of 4 photos" in said and "1 x small" in said
    assert len(ImageFolder(folder / "out", 48)) == 3  # trains as it is


def test_a_stopped_run_goes_on(folder, capsys):
    """What is there stays untouched; a deleted square and a photo whose line was cut are done again."""
    assert main(arguments(folder)) == 0
    out = folder / "out"
    first = (out / "a.png.png").stat().st_mtime_ns
    (out / "a.jpg.png").unlink()
    lines = (out / "report.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"below/a.png"' not in line.partition('"faces"')[0]]
    (out / "report.jsonl").write_text("".join(kept) + lines[-1][:20])
    assert main(arguments(folder)) == 0
    assert (out / "a.png.png").stat().st_mtime_ns == first and (out / "a.jpg.png").is_file()
    assert len((out / "report.jsonl").read_text().splitlines()) == 4 and len(report(folder)) == 4


def test_other_options_are_refused(folder, capsys):
    assert main(arguments(folder)) == 0
    assert main(arguments(folder, "--keep")) == 2
    assert "made with other options" in capsys.readouterr().err


def test_keep_and_largest(folder):
    assert main(arguments(folder, "--keep", "--faces", "largest")) == 0
    assert len(report(folder)["a.jpg"]["outputs"]) == 1
    assert (
        main([*arguments(folder, "--keep")[:2], str(folder / "all"), *arguments(folder, "--keep")[3:]]) == 0
    )
    assert (folder / "all" / "a.jpg-2.png").is_file()


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (["missing"], 2, "no such folder"),
        (["--quads", "missing.json"], 2, "cannot be read"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, change, status, reason):
    given = (
        arguments(folder, *change) if len(change) == 2 else [str(folder / "none"), "-o", str(folder / "out")]
    )
    assert main(given) == status
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1


@needs_models
def test_faces_are_found_and_upright(tmp_path):
    (tmp_path / "photos").mkdir()
    astronaut().rotate(-90, expand=True).save(tmp_path / "photos" / "turned.png")
    astronaut().save(tmp_path / "photos" / "upright.png")
    assert main([str(tmp_path / "photos"), "-o", str(tmp_path / "out"), "--size", "64"]) == 0
    turned, upright = (
        np.asarray(Image.open(tmp_path / "out" / name)).astype(int) for name in ("turned.png", "upright.png")
    )
    assert np.abs(turned - upright).mean() < 3 and upright.std() > 30
