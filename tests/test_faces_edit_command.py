"""`wagi-rt edit --fit face`: every face of a photo is edited in it, and nothing else changes a bit.

The photo has three portraits at 0, 25 and -40 degrees.
"""

import json

import numpy as np
import pytest
from PIL import Image
from rendered_photo import alignments, box, within, write_folder
from test_runtime_colours import P3, icc
from tiny_bundle import error_line, run_cli

import wagi_rt

WIDTH = 2000  # of the large photo; it has 1500 rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("large"), WIDTH)


def edit(folder, *arguments, photos=("party.png",), status=0):
    sources = [folder / photo for photo in photos]
    assert run_cli("edit", *sources, "--fit", "face", "--quads", folder / "quads.json", "--threads", 1,
                   *arguments) == status  # fmt: skip


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_strength_of_zero_gives_the_photo_back(large, tmp_path):
    edit(large, "-o", tmp_path / "same.png", "--set", "yaw=0")
    assert (pixels(tmp_path / "same.png") == pixels(large / "party.png")).all()


def test_the_difference_of_each_edit_is_added_to_the_photo(large, tmp_path, capsys):
    """In the middle of a square the photo gains what the edited square has more than the inverted one."""
    edit(large, "-o", tmp_path / "out.png", "--set", "skin=1", "--faces-out", tmp_path / "squares", "--json")
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    before, after = pixels(large / "party.png").astype(int), pixels(tmp_path / "out.png").astype(int)
    untouched = np.ones(before.shape[:2], bool)
    with wagi_rt.load(threads=1) as session:
        for face, alignment in zip(record["faces"], alignments(WIDTH, session.size), strict=True):
            np.testing.assert_allclose(face["quad"], alignment.quad, atol=1e-3)
            opened = session.open(np.asarray(alignment.cut(Image.fromarray(before.astype(np.uint8)))))
            edited = opened.edit(skin=1).image
            assert (pixels(face["output"]) == edited).all()
            change = alignment.put(edited.astype(np.float32) - opened.image, box(WIDTH))
            core = within(alignment, WIDTH, 0.1)
            expected = (before + change).clip(0, 255)[core]
            assert np.abs(change[core]).mean() > 3  # the edit is seen
            assert np.abs(after[core] - expected).max() <= 1
            untouched &= ~within(alignment, WIDTH)
    assert untouched.mean() > 0.5 and (after[untouched] == before[untouched]).all()


def test_replaced_faces_are_the_edits_themselves(folder, tmp_path):
    """An edit that changes nothing, put back whole, is what `invert` puts back."""
    edit(folder, "-o", tmp_path / "edit.png", "--set", "yaw=0", "--paste", "replace")
    assert run_cli("invert", folder / "party.png", "--fit", "face", "--quads", folder / "quads.json", "-o",
                   tmp_path / "invert.png") == 0  # fmt: skip
    edited, inverted = (pixels(tmp_path / f"{name}.png").astype(int) for name in ("edit", "invert"))
    assert np.abs(edited - inverted).max() <= 2
    assert np.abs(edited - pixels(folder / "party.png")).max() > 20


def test_naive_edits_and_the_sheet(folder, tmp_path):
    """Naive edits are differences too; the sheet has a row for each face."""
    edit(folder, "-o", tmp_path / "a.png", "--set", "skin=1", "--faces", "2", "--naive", tmp_path / "naive",
         "--compare", tmp_path / "sheet.png")  # fmt: skip
    naive, photo = pixels(tmp_path / "naive" / "a.png"), pixels(folder / "party.png")
    changed, (first, second, third) = (naive != photo).any(-1), alignments(600, 1)
    assert changed[within(first, 600)].any() and changed[within(second, 600)].any()
    assert not changed[within(third, 600)].any()
    assert 2 * 100 < pixels(tmp_path / "sheet.png").shape[0]


def test_a_note_on_the_edit_is_said_once(folder, tmp_path, capsys):
    edit(folder, "-o", tmp_path / "a.png", "--set", "skin=9")
    assert capsys.readouterr().err.count("skin=9: outside") == 1


def test_a_photo_without_faces_fails_alone(folder, tmp_path, capsys):
    edit(folder, "-o", tmp_path, "--set", "skin=1", photos=("wall.png", "party.png"), status=1)
    assert "wall.png: no face found" in capsys.readouterr().err
    assert (tmp_path / "party.png").is_file() and not (tmp_path / "wall.png").exists()


def test_a_phones_photo_is_edited_as_it_is_stored(folder, tmp_path):
    """Turned by EXIF, in P3, half transparent: away from the faces every stored value stays."""
    photo = Image.open(folder / "party.png")
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    stored, turned = tmp_path / "party.png", photo.transpose(Image.Transpose.ROTATE_90)
    turned.save(stored, exif=exif.tobytes(), icc_profile=icc(P3))
    for strength in (0, 1):
        out = tmp_path / f"{strength}.png"
        edit(folder, "-o", out, "--set", f"skin={strength}", photos=(stored,))
        edited = Image.open(out)
        assert edited.getexif()[0x0112] == 6 and edited.info["icc_profile"] == icc(P3)
        faces = np.any([within(one, 600) for one in alignments(600, 1)], axis=0)
        changed = (np.asarray(edited) != np.asarray(turned)).any(-1)
        assert not changed[~np.rot90(faces)].any() and changed.any() == (strength == 1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--strip", "--set", "yaw=1"], "--strip: needs --fit face"),
        (["--fit", "face", "--sweep", "yaw=-1:1:3"], "--sweep: goes with one square of a photo"),
        (["--fit", "face", "--from", "kept.npz", "--set", "yaw=1"], "--from: goes with one square"),
        (["--fit", "face", "--set", "yaw=1"], "--fit face: the face models are not installed"),
    ],
)
def test_wrong_usage(folder, tmp_path, capsys, monkeypatch, options, line):
    monkeypatch.setenv("WAGI_DATA", str(tmp_path))
    source = [] if "--from" in options else [folder / "party.png"]
    assert run_cli("edit", *source, "-o", tmp_path / "out.png", *options) == 2
    assert line in error_line(capsys.readouterr().err)
