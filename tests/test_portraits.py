"""The portraits: known parameters, true counterfactuals, data sets that resume."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from wagi.portraits import NUM_PARAMETERS, attributes, edit, render, render_regions, sample, vector
from wagi.portraits import dataset as dataset_module
from wagi.portraits.__main__ import main
from wagi.portraits.dataset import Settings, generate, portrait
from wagi.portraits.parameters import CONTINUOUS
from wagi.portraits.scene import LABELS, render_both

BACKGROUND, CLOTHES, FACE, EYES, MOUTH, HAIR, HAT, LETTERS, ACCESSORY = range(len(LABELS))

RECORDED = np.array(
    [[[140.3, 113.5, 132.4], [145.0, 112.0, 145.1]], [[130.8, 109.0, 108.9], [131.1, 105.4, 130.5]]]
)


@pytest.fixture(scope="module")
def population():
    return [portrait(5, index) for index in range(500)]


def plain(seed, **changes):
    """A frontal portrait without anything that covers or tints the rest."""
    base = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "glasses": "none", "accessory": "none", "hat": "none"}
    return edit(sample(seed), **(base | changes))


def test_equal_seeds_give_equal_pixels_and_other_seeds_do_not():
    first, again, other = sample(11), sample(11), sample(12)
    assert first == again and first != other
    assert np.array_equal(render(first, 48), render(again, 48))
    assert not np.array_equal(render(first, 48), render(other, 48))


def test_picture_has_the_asked_size_and_a_sensible_content():
    for size in (16, 50, 128):
        image, regions = render_both(sample(3), size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert regions.shape == (size, size) and regions.dtype == np.uint8
        assert image.std() > 15 and {BACKGROUND, CLOTHES, FACE} <= set(np.unique(regions))
    with pytest.raises(ValueError, match="at least 16"):
        render(sample(3), 8)


def test_pictures_of_this_version_look_as_recorded():
    """VERSION must be raised when this changes: training runs on pictures rendered earlier."""
    grid = render(sample(2024), 64).reshape(2, 32, 2, 32, 3).mean(axis=(1, 3))
    assert dataset_module.VERSION == 1
    np.testing.assert_allclose(grid, RECORDED, atol=2.0)


def test_changing_letters_changes_the_hat_only():
    before = plain(21, hat="cap", letters="CAT")
    after = edit(before, letters="WOW")
    (old, old_regions), (new, new_regions) = (render_both(p, 96, supersample=1) for p in (before, after))
    on_hat = np.isin(old_regions, (HAT, LETTERS)) & np.isin(new_regions, (HAT, LETTERS))
    assert np.array_equal(old[~on_hat], new[~on_hat])
    assert (old[on_hat] != new[on_hat]).any(axis=-1).mean() > 0.1
    assert np.array_equal(np.isin(old_regions, (HAT, LETTERS)), np.isin(new_regions, (HAT, LETTERS)))


def test_turning_the_head_keeps_the_background():
    before = plain(22, hat="sunhat", background="leaves")
    (old, old_regions), (new, new_regions) = (
        render_both(edit(before, yaw=yaw), 96, supersample=1) for yaw in (-0.4, 0.5)
    )
    still = (old_regions == BACKGROUND) & (new_regions == BACKGROUND)
    assert still.mean() > 0.2
    assert np.array_equal(old[still], new[still])
    assert (old[~still] != new[~still]).any(axis=-1).mean() > 0.5


def test_smile_keeps_everything_but_the_face():
    before = plain(23, hat="cap", hair_style="long", beard="none", yaw=0.2)
    (old, regions), (new, _) = (
        render_both(edit(before, smile=smile), 96, supersample=1) for smile in (-0.2, 1.0)
    )
    elsewhere = np.isin(regions, (BACKGROUND, HAT, LETTERS))
    assert np.array_equal(old[elsewhere], new[elsewhere])
    mouth = regions == MOUTH
    assert (old[mouth] != new[mouth]).any(axis=-1).mean() > 0.5


@pytest.mark.parametrize(
    "change",
    [{"background_colour": (0.9, 0.1, 0.1)}, {"clothes": "plaid"}, {"hair_colour": (0.1, 0.8, 0.1)}],
    ids=str,
)
def test_one_colour_or_pattern_moves_no_region(change):
    before = plain(24, hair_style="curly", clothes="plain", background="dots", beard="none")
    after = edit(before, **change)
    assert np.array_equal(render_regions(before, 64), render_regions(after, 64))
    assert not np.array_equal(render(before, 64), render(after, 64))


def test_yaw_gives_parallax_and_its_sign():
    """The eyes move with the yaw, and more than the head as a whole: a turn, not a shift."""
    columns = np.arange(96)[None, :]

    def centre(regions, labels):
        chosen = np.isin(regions, labels)
        return (columns * chosen).sum() / chosen.sum()

    base = plain(25, hair_style="bald", beard="none")
    left, right = (render_regions(edit(base, yaw=yaw), 96) for yaw in (-0.4, 0.4))
    eyes = centre(right, (EYES,)) - centre(left, (EYES,))
    head = centre(right, (FACE, EYES, MOUTH, HAIR)) - centre(left, (FACE, EYES, MOUTH, HAIR))
    assert eyes > head + 5


def test_regions_lie_where_they_belong():
    regions = render_regions(plain(26, hat="cap", letters="ZEN", earrings="hoop", smile=0.8), 128)
    rows = {label: np.nonzero(regions == label)[0].mean() for label in np.unique(regions)}
    assert rows[HAT] < rows[EYES] < rows[MOUTH] < rows[CLOTHES]
    assert {LETTERS, ACCESSORY} <= set(rows)


def test_letters_are_large_and_can_be_told_from_the_hat(population):
    hatted = [p for p in population if p.hat != "none" and p.letters and abs(p.yaw) < 0.2][:8]
    for one in hatted:
        # A beanie: the visor of a cap has the colour of its letters.
        image, regions = render_both(edit(one, accessory="none", hat="beanie"), 64)
        luminance = image @ np.array([0.299, 0.587, 0.114])
        ink, cloth = luminance[regions == LETTERS], luminance[regions == HAT]
        assert len(ink) > 40
        assert abs(np.median(ink) - np.median(cloth)) > 50, one.letters


@pytest.mark.parametrize("yaw", [-0.7, -0.4, 0.0, 0.4, 0.7])
def test_short_hair_shows_below_a_hat_at_every_yaw(yaw):
    one = plain(27, hat="cap", hair_style="short", beard="none", yaw=yaw)
    assert (render_regions(one, 96) == HAIR).sum() > 30


def test_no_strands_across_the_far_cheek():
    for yaw in (-0.7, 0.7):
        bare = plain(28, hair_style="bald", beard="none", fringe=0.0, yaw=yaw)
        long = edit(bare, hair_style="long")
        face = np.isin(render_regions(bare, 96), (FACE, EYES, MOUTH))
        covered = (render_regions(long, 96) == HAIR) & face
        half = np.nonzero(face)[1].mean()
        far = np.arange(96)[None, :] > half if yaw > 0 else np.arange(96)[None, :] < half
        low = np.arange(96)[:, None] > 50
        assert covered[far & low & face].mean() < 0.12


def test_vector_is_standardised_and_knows_every_edit(population):
    vectors = np.stack([vector(p) for p in population])
    assert vectors.shape == (len(population), NUM_PARAMETERS) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all() and np.abs(vectors).max() <= 4
    regular = [k for k, name in enumerate(CONTINUOUS) if name not in ("lipstick", "eyeshadow")]
    np.testing.assert_allclose(vectors[:, regular].mean(0), 0, atol=0.2)
    np.testing.assert_allclose(vectors[:, regular].std(0), 1, atol=0.2)
    base = plain(29, hat="cap", letters="CAT")
    for change in ({"yaw": 0.5}, {"letters": "COT"}, {"hat": "beanie"}, {"iris_colour": (0.9, 0.1, 0.2)}):
        assert not np.array_equal(vector(base), vector(edit(base, **change)))


def test_shares_of_the_accessories(population):
    def share(name):
        return np.mean([getattr(p, name) != "none" for p in population])

    assert share("hat") == pytest.approx(0.45, abs=0.07)
    assert share("glasses") == pytest.approx(0.35, abs=0.07)
    assert share("earrings") == pytest.approx(0.4, abs=0.07)
    assert 0.05 < share("accessory") < 0.25


def test_every_option_renders():
    from wagi.portraits.parameters import CATEGORIES, options

    for category in CATEGORIES:
        for option in options(category):
            assert render(edit(sample(30), **{category: option}), 24).shape == (24, 24, 3)


def test_attributes_are_json_and_bad_edits_say_what_is_wrong():
    one = sample(31)
    known = json.loads(json.dumps(attributes(one)))
    assert known["hat"] == one.hat and known["yaw"] == one.yaw and known["seed"] == 31
    for change, message in (
        ({"nose": 1.0}, "not a portrait parameter"),
        ({"hat": "crown"}, "choose one of"),
        ({"letters": "LETTERS"}, "at most four"),
        ({"seed": 3}, "not a portrait parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            edit(one, **change)


def test_portraits_do_not_depend_on_the_number_or_the_workers(tmp_path):
    generate(tmp_path / "few", Settings(3, 32, 7, memmap=True), progress=False)
    generate(tmp_path / "more", Settings(6, 32, 7, memmap=True), workers=2, progress=False)
    for name in ("images", "regions", "parameters"):
        few, more = (np.load(tmp_path / folder / f"{name}.npy") for folder in ("few", "more"))
        assert np.array_equal(few, more[:3])
    assert np.array_equal(few, np.stack([vector(portrait(7, index)) for index in range(3)]))
    lines = (tmp_path / "more" / "attributes.jsonl").read_text().splitlines()
    assert json.loads(lines[5])["letters"] == portrait(7, 5).letters


def test_folder_of_pictures(tmp_path, capsys):
    from PIL import Image

    out = tmp_path / "folder"
    assert main(["--out", str(out), "--count", "5", "--size", "32", "--seed", "9", "--quiet"]) == 0
    assert "contact_sheet.png" in capsys.readouterr().out
    names = sorted(path.name for path in (out / "images").iterdir())
    assert names == [f"{index:06d}.png" for index in range(5)]
    assert np.array_equal(np.asarray(Image.open(out / "images/000004.png")), render(portrait(9, 4), 32))
    assert np.load(out / "parameters.npy").shape == (5, NUM_PARAMETERS)
    assert Image.open(out / "contact_sheet.png").size == (5 * 32, 32)
    before = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert main(["--out", str(out), "--count", "5", "--size", "32", "--seed", "9", "--quiet"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}


@pytest.mark.parametrize("memmap", [[], ["--memmap"]], ids=["folder", "memmap"])
def test_a_killed_run_goes_on_by_the_same_command(tmp_path, memmap, root):
    out = tmp_path / "run"
    command = ["--out", str(out), "--count", "44", "--size", "16", "--seed", "4", "--quiet", *memmap]
    process = subprocess.Popen(
        [sys.executable, "-m", "wagi.portraits", *command],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "meta.json").exists() and json.loads((out / "meta.json").read_text())["done"]:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = json.loads((out / "meta.json").read_text())["done"]
    assert 0 < done < 44
    assert main(command) == 0
    assert json.loads((out / "meta.json").read_text())["done"] == 44
    if memmap:
        images = np.load(out / "images.npy")
        for index in (0, done - 1, done, 43):
            assert np.array_equal(images[index], render(portrait(4, index), 16))
    else:
        assert len(list((out / "images").glob("*.png"))) == 44
    assert not list(out.rglob("*.part*"))


def refused(capsys, *command):
    """Exit status and the one line on stderr."""
    status = main([str(part) for part in command])
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    return status, error


def test_refusals_are_one_line_with_the_right_status(tmp_path, capsys):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"x")
    status, error = refused(capsys, "--out", foreign, "--count", 2)
    assert status == 2 and "not empty" in error and (foreign / "holiday.jpg").exists()
    run = tmp_path / "run"
    assert main(["--out", str(run), "--count", "2", "--size", "16", "--quiet"]) == 0
    status, error = refused(capsys, "--out", run, "--count", 2, "--size", 32)
    assert status == 2 and "size 16 there, 32 asked" in error
    (run / "meta.json").write_text("{broken")
    assert refused(capsys, "--out", run, "--count", 2, "--size", 16)[0] == 2
    assert refused(capsys, "--out", foreign / "holiday.jpg")[0] == 2
    assert refused(capsys, "--out", foreign / "holiday.jpg" / "below")[0] == 1
    for option in ("--count", "--size", "--workers"):
        status, error = refused(capsys, "--out", tmp_path / "new", option, 0)
        assert status == 2 and option in error
    assert not (tmp_path / "new").exists()


def test_a_damaged_memmap_is_reported(tmp_path, capsys):
    run = tmp_path / "run"
    command = ["--out", str(run), "--count", "2", "--size", "16", "--memmap", "--quiet"]
    assert main(command) == 0
    (run / "images.npy").write_bytes(b"not an array")
    status, error = refused(capsys, *command)
    assert status == 1 and "images.npy" in error
