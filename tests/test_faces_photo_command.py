"""`wagi-rt invert --fit face`: every face of a photo is inverted and put back; nothing else changes.

The photo has three portraits at 0, 25 and -40 degrees.
"""

import json

import numpy as np
import pytest
from PIL import Image
from rendered_photo import alignments, box, within, write_folder
from skimage import data
from test_faces_alignment import quad
from test_faces_detection import astronaut, needs_models
from tiny_bundle import run_cli, write_tiny_bundle

from wagi_rt.session import Session

WIDTH = 2000  # of the large photo; it has 1500 rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("large"), WIDTH)


def error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean square, in levels of 255. Pasting may add 2 to it: rounding and resampling on the way back."""
    return float(np.mean((a.astype(float) - b) ** 2))


def invert(folder, *arguments, status=0):
    assert run_cli("invert", folder / "party.png", "--fit", "face", "--quads", folder / "quads.json",
                   *arguments) == status  # fmt: skip


def test_only_the_faces_change_and_they_are_the_inversions(large, tmp_path, capsys):
    """Outside, every bit stays. Inside, the PSNR is the inversions' own: of squares against the photo at the
    squares' resolution, of differences against the photo itself."""
    invert(large, "-o", tmp_path / "out.png", "--json", "--faces-out", tmp_path / "squares")
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    invert(large, "-o", tmp_path / "added.png", "--paste", "difference")
    paths = large / "party.png", tmp_path / "out.png", tmp_path / "added.png"
    before, after, added = (np.asarray(Image.open(path)) for path in paths)
    assert after.shape == before.shape
    untouched = np.ones(before.shape[:2], bool)
    assert len(record["faces"]) == 3
    with Session() as session:
        for face, alignment in zip(record["faces"], alignments(WIDTH, session.size), strict=True):
            np.testing.assert_allclose(face["quad"], alignment.quad, atol=1e-3)
            untouched &= ~within(alignment, WIDTH)
            square = np.asarray(alignment.cut(Image.fromarray(before)))
            (result,) = session.invert(square)
            assert (np.asarray(Image.open(face["output"])) == result.image).all()
            core = within(alignment, WIDTH, 0.12)
            inner = slice(15, -15)
            own = error(result.image[inner, inner], square[inner, inner])
            coarse = alignment.put(square.astype(np.float32), box(WIDTH))
            assert own < 410 and error(after[core], coarse[core]) < own + 2
            assert error(added[core], before[core]) < own + 2
    assert untouched.mean() > 0.5 and (after[untouched] == before[untouched]).all()
    assert (added[untouched] == before[untouched]).all()


def test_differences_are_finer_than_squares(folder, tmp_path):
    """What the model cannot hold of the photo's detail stays, where only the difference is put back."""
    errors = []
    for paste in ("replace", "difference"):
        invert(folder, "-o", tmp_path / f"{paste}.png", "--paste", paste, "--faces", "largest")
        errors.append(np.asarray(Image.open(tmp_path / f"{paste}.png")).astype(int))
    photo = np.asarray(Image.open(folder / "party.png"))
    assert np.abs(errors[1] - photo).mean() < np.abs(errors[0] - photo).mean()
    changed = (errors[0] != photo).any(-1)
    assert changed.any() and not changed[~within(alignments(600, 1)[0], 600)].any()


def test_a_photo_without_faces_fails_alone(folder, tmp_path, capsys):
    arguments = ["--fit", "face", "--quads", folder / "quads.json", "--json"]
    assert run_cli("invert", folder / "wall.png", folder / "party.png", "-o", tmp_path, *arguments) == 1
    captured = capsys.readouterr()
    wall, party = map(json.loads, captured.out.splitlines())
    assert "no face found" in wall["error"] and len(party["faces"]) == 3
    assert (tmp_path / "party.png").is_file() and not (tmp_path / "wall.png").exists()
    assert "no face found" in captured.err and "1 of 2 images failed" in captured.err


def test_what_json_prints_can_be_given_back(folder, tmp_path, capsys):
    invert(folder, "-o", tmp_path / "a.png", "--json")
    (tmp_path / "lines.jsonl").write_text(capsys.readouterr().out)
    assert run_cli("invert", folder / "party.png", "-o", tmp_path / "b.png", "--fit", "face",
                   "--quads", tmp_path / "lines.jsonl") == 0  # fmt: skip
    a, b = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("a.png", "b.png"))
    assert np.abs(a - b).max() <= 3 and np.abs(a - b).mean() < 0.05  # the corners have three digits


def test_a_photo_keeps_its_format_and_batches_do_not_matter(folder, tmp_path):
    Image.open(folder / "party.png").save(tmp_path / "party.jpeg", quality=90)
    quads = {"party.jpeg": json.loads((folder / "quads.json").read_text())["party.png"]}
    (tmp_path / "quads.json").write_text(json.dumps(quads))
    for batch in (1, 4):
        assert run_cli("invert", tmp_path / "party.jpeg", "-o", tmp_path / f"out{batch}", "--fit", "face",
                       "--quads", tmp_path / "quads.json", "--batch", batch) == 0  # fmt: skip
    one, four = (np.asarray(Image.open(tmp_path / f"out{n}" / "party.jpeg")).astype(int) for n in (1, 4))
    assert Image.open(tmp_path / "out1" / "party.jpeg").format == "JPEG" and np.abs(one - four).max() <= 6


def test_sheet_and_naive(folder, tmp_path):
    """A row for each face; the naive inversions in place of the faces."""
    invert(
        folder, "-o", tmp_path / "a.png", "--compare", tmp_path / "sheet.png", "--naive", tmp_path / "naive"
    )
    naive, photo = (
        np.asarray(Image.open(path)) for path in (tmp_path / "naive" / "a.png", folder / "party.png")
    )
    assert naive.shape == photo.shape and (naive != photo).any()
    assert (naive[430:] == photo[430:]).all()
    assert Image.open(tmp_path / "sheet.png").height > 3 * 100


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--quads", "missing.json", "--fit", "face"], "--quads missing.json: cannot be read"),
        (["--paste", "replace"], "--paste: needs --fit face"),
        (["--faces-out", "x"], "--faces-out: needs --fit face"),
        (["--strip"], "--strip: needs --fit face"),
        (["--fit", "face", "--faces", "few"], "--faces: must be all, largest or a number"),
        (["--fit", "face"], "--fit face: the face models are not installed; run: wagi-rt faces install"),
    ],
)
def test_wrong_usage(folder, tmp_path, capsys, monkeypatch, options, line):
    monkeypatch.setenv("WAGI_DATA", str(tmp_path))
    try:
        status = run_cli("invert", folder / "party.png", "-o", tmp_path / "out.png", *options)
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status == 2 and line in said and said.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_a_quad_outside_of_the_photo_names_its_face(folder, tmp_path, capsys):
    (tmp_path / "quads.json").write_text(
        json.dumps({"party.png": [{"quad": (quad((9000, 0), 50, 0)).tolist()}]})
    )
    assert run_cli("invert", folder / "party.png", "-o", tmp_path / "out.png", "--fit", "face",
                   "--quads", tmp_path / "quads.json") == 1  # fmt: skip
    assert "party.png: face 1: a quad lies outside of the photo" in capsys.readouterr().err


@needs_models
def test_detected_faces_are_put_back(tmp_path, capsys):
    """A real face, lying on its side in a JPEG of orientation 6, that says what it found."""
    exif = Image.Exif()
    exif[0x0112] = 6
    bundle = write_tiny_bundle(tmp_path / "bundle")
    astronaut().rotate(90).save(tmp_path / "a.jpg", exif=exif.tobytes(), quality=95)
    arguments = ["--fit", "face", "-m", bundle, "--json"]
    assert run_cli("invert", tmp_path / "a.jpg", "-o", tmp_path / "out", *arguments) == 0
    (face,) = json.loads(capsys.readouterr().out)["faces"]
    corners = np.array(face["quad"])
    np.testing.assert_allclose(corners.mean(0), (225, 107), atol=5)
    assert np.hypot(*(corners[3] - corners[0])) == pytest.approx(168.7, rel=0.08)
    result = Image.open(tmp_path / "out" / "a.jpg")
    assert result.getexif()[0x0112] == 6 and result.size == (512, 512)
    changed = np.abs(np.asarray(result).astype(int) - np.asarray(Image.open(tmp_path / "a.jpg"))).max(-1) > 12
    rows, columns = np.nonzero(changed)  # stored turned by 90 degrees: x is y, y is 512 - x
    assert columns.mean() == pytest.approx(107, abs=25) and rows.mean() == pytest.approx(512 - 225, abs=25)


@needs_models
def test_each_photo_says_what_is_with_its_faces(tmp_path, capsys):
    """Two faces, a small one, one that the border cuts; a cat has none, which costs its own line only."""
    photos = tmp_path / "photos"
    photos.mkdir()
    both = Image.new("RGB", (1024, 512), "grey")
    both.paste(astronaut(), (0, 0))
    both.paste(astronaut(), (512, 0))
    both.save(photos / "both.png")
    astronaut().resize((200, 200)).save(photos / "small.png")
    astronaut().crop((205, 0, 512, 512)).save(photos / "cut.png")
    Image.fromarray(data.chelsea()).save(photos / "cat.png")
    bundle = write_tiny_bundle(tmp_path / "bundle")
    arguments = ["--fit", "face", "-m", bundle, "--json", "-q"]
    assert run_cli("invert", photos, "-o", tmp_path / "out", *arguments) == 1
    said = capsys.readouterr()
    lines = {line["input"].rpartition("/")[2]: line for line in map(json.loads, said.out.splitlines())}
    assert len(lines["both.png"]["faces"]) == 2 and "notes" not in lines["both.png"]
    assert lines["small.png"]["notes"] == ["face 1: small, 17 px between the eyes"]
    assert lines["cut.png"]["notes"] == ["face 1: cut off by the photo's border"]
    cat = f"{photos}/cat.png: no face found; name its quads with --quads, or leave it out"
    assert lines["cat.png"]["error"] == cat and f"error: {cat}\n" in said.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"both.png", "small.png", "cut.png"}
