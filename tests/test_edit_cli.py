"""`wagi-rt edit`: directions by name or file, sweeps, sheets, kept pictures; faults are one line, exit 2."""

import json
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence
from test_runtime_edit import EVEN, RED
from tiny_bundle import edit_manifest, error_line, run_cli, write_tiny_bundle

import wagi_rt
from wagi_rt import directions


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("b")
    return write_tiny_bundle(folder / "flow", schema=3, aligner="flow", directions=(RED, EVEN))


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(60, 200, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.fixture
def face(bundle, photo):
    with wagi_rt.load(bundle, threads=1) as session:
        yield session.open(photo)


def edit(bundle, *words) -> int:
    return run_cli("edit", "-m", bundle, "--threads", 1, *words)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_several_attributes_at_once(bundle, photo, face, tmp_path, capsys):
    out = tmp_path / "out.png"
    assert edit(bundle, photo, "-o", out, "--set", "red=+1", "--set", "even=-3.5", "--json") == 0
    assert np.array_equal(pixels(out), face.edit(red=1, even=-3.5).image)
    record = json.loads(capsys.readouterr().out)
    assert record["output"] == str(out) and "notes" not in record


def test_a_direction_from_a_file_is_the_same(bundle, photo, tmp_path):
    directions.write(tmp_path / "red.safetensors", RED)
    assert (
        edit(bundle, photo, "-o", tmp_path / "a.png", "--direction", f"{tmp_path}/red.safetensors=0.5") == 0
    )
    assert edit(bundle, photo, "-o", tmp_path / "b.png", "--set", "red=0.5") == 0
    assert np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_a_sweep_is_a_strip_or_an_animation(bundle, photo, face, tmp_path):
    steps = [-1.0, 0.0, 1.0]
    assert edit(bundle, photo, "-o", tmp_path / "s.png", "--sweep", "red=-1:1:3", "--set", "even=1") == 0
    wanted = [face.edit(red=step, even=1).image for step in steps]
    assert np.array_equal(pixels(tmp_path / "s.png"), np.concatenate(wanted, axis=1))
    assert edit(bundle, photo, "-o", tmp_path / "s.gif", "--sweep", "red=-1:1:3") == 0
    frames = [
        np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(Image.open(tmp_path / "s.gif"))
    ]
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 4
    reds = [frame[..., 0].mean() for frame in frames]
    assert reds[0] + 10 < reds[1] < reds[2] - 10 and abs(reds[1] - reds[3]) < 1


def test_the_sheet_shows_input_naive_edit_and_edit(bundle, photo, tmp_path):
    words = ("-o", tmp_path / "o.png", "--set", "red=1", "--compare", tmp_path / "sheet.png")
    assert edit(bundle, photo, *words, "--naive", tmp_path / "naive") == 0
    assert pixels(tmp_path / "sheet.png").shape[1] > 3 * 192
    assert pixels(tmp_path / "naive" / "o.png").shape == (64, 64, 3)


def test_kept_pictures_are_edited_without_the_encoder(bundle, photo, tmp_path):
    kept = tmp_path / "kept" / "in.npz"
    invert = ("invert", "-m", bundle, photo, "-o", tmp_path / "i.png", "--latents")
    assert run_cli(*invert, kept) == 0
    assert run_cli(*invert, tmp_path / "all", "--overwrite") == 0 and (tmp_path / "all" / "i.npz").is_file()
    assert edit(bundle, "--from", kept, "-o", tmp_path / "a.png", "--set", "red=1") == 0
    assert edit(bundle, "--from", tmp_path / "kept", "-o", tmp_path / "b", "--set", "red=1") == 0
    assert edit(bundle, photo, "-o", tmp_path / "c.png", "--set", "red=1") == 0
    first, second, third = (pixels(tmp_path / name) for name in ("a.png", "b/in.png", "c.png"))
    assert np.array_equal(first, third) and np.array_equal(second, third)


def test_latents_of_another_model_are_refused(bundle, photo, tmp_path, capsys):
    other = write_tiny_bundle(tmp_path / "other", schema=3, aligner="flow", directions=())
    edit_manifest(other, generator="d" * 64)
    assert (
        run_cli("invert", "-m", other, photo, "-o", tmp_path / "i.png", "--latents", tmp_path / "k.npz") == 0
    )
    capsys.readouterr()
    assert edit(bundle, "--from", tmp_path / "k.npz", "-o", tmp_path / "a.png", "--set", "red=1") != 0
    assert "latents are of another model" in error_line(capsys.readouterr().err)


def test_the_list_says_what_was_measured(bundle, capsys):
    assert edit(bundle, "--list") == 0
    even, red = capsys.readouterr().out.splitlines()
    assert red.startswith("red") and "unit quarters, -1 to 1, effect 0.90" in red
    assert even == "even             unit unknown"


def test_a_strength_outside_the_range_is_a_note(bundle, photo, tmp_path, capsys):
    assert edit(bundle, photo, "-o", tmp_path / "o.png", "--set", "red=1.5") == 0
    assert "note: " in (text := capsys.readouterr().err) and "outside -1 to 1" in text


@pytest.mark.parametrize(
    "words, said",
    [
        (("--set", "rad=1"), "direction 'rad' is unknown; did you mean red?"),
        (("--set", "red"), "--set red: must be like smile=+1"),
        (("--set", "red=much"), "--set red=much: the strength must be a number"),
        (("--set", "red=inf"), "must be a number"),
        (("--direction", "none.safetensors=1"), "none.safetensors: no such file"),
        (("--sweep", "red=1:2"), "--sweep red=1:2: must be like yaw=-0.4:0.4:9"),
        (("--sweep", "red=0:1:1000000"), "2 to 64 steps"),
        (("--set", "red=1", "--format", "gif"), "--format gif: is an animation"),
        (("--set", "red=1", "--format", "mp4"), "--format mp4: is an animation"),
        (("--sweep", "red=-1:1:3", "--format", "mp4", "-o", "-"), "--format mp4: is written to a file only"),
        (("--sweep", "red=-1:1:3", "-v"), "--verbose: measures single pictures"),
        ((), "nothing to edit"),
        (("--set", "red=1", "--from", "x.npz"), "--from: takes the place of INPUT"),
    ],
)
def test_what_is_wrong_is_one_line(bundle, photo, tmp_path, capsys, words, said):
    assert edit(bundle, photo, "-o", tmp_path / "o", *words) == 2
    assert said in error_line(capsys.readouterr().err) and not (tmp_path / "o").exists()


def test_one_bad_picture_spoils_no_other(bundle, photo, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert edit(bundle, tmp_path / "bad.png", photo, "-o", out, "--set", "red=1", "--batch", 2) == 1
    assert [path.name for path in out.iterdir()] == ["in.png"]
    assert "bad.png" in error_line(capsys.readouterr().err)


def test_an_animation_is_one_file(tmp_path):
    from wagi_rt.commands.animations import write_animation

    frames = [np.full((8, 8, 3), 40 * k, np.uint8) for k in range(5)]
    write_animation(str(tmp_path / "a.gif"), frames)
    assert Image.open(tmp_path / "a.gif").n_frames == 8


def test_a_sweep_as_a_clip(bundle, photo, face, tmp_path):
    """There and back, frame by frame what the GIF shows, as H.264 leaves it."""
    av = pytest.importorskip("av", reason="needs PyAV (the extra `video`)")
    out = tmp_path / "s.mp4"
    assert edit(bundle, photo, "-o", out, "--sweep", "red=-1:1:3", "--set", "even=1") == 0
    with av.open(str(out)) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert abs(float(clip.streams.video[0].average_rate) - 1000 / 120) < 0.01
    wanted = [face.edit(red=step, even=1).image.astype(int) for step in (-1.0, 0.0, 1.0, 0.0)]
    assert len(frames) == 4
    for frame, pixels in zip(frames, wanted, strict=True):
        assert abs(frame.mean((0, 1)) - pixels.mean((0, 1))).max() < 3


def test_without_pyav_a_clip_is_refused_before_any_work(bundle, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert edit(bundle, photo, "-o", tmp_path / "s.mp4", "--sweep", "red=-1:1:3") == 2
    assert "pip install 'wagi[video]'" in error_line(capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_verbose_measures_the_edit_against_its_input(bundle, photo, face, tmp_path, capsys):
    """L2 of the result and of the naive edit at the residual's resolution, in the line and in JSON."""
    words = (photo, "--set", "red=1", "--warm", "-v", "--overwrite")
    assert edit(bundle, *words, "-o", tmp_path / "o.png") == 0
    line = capsys.readouterr().err.splitlines()[-1]
    assert edit(bundle, *words, "-o", tmp_path / "o.png", "--json") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    shown = (np.square((face.edit(red=1).image.astype(float) - pixels(photo)) / 127.5)).mean()
    assert metrics["wagi"]["l2"] == pytest.approx(shown, rel=1e-3)
    assert f"l2 {metrics['wagi']['l2']:.4f} (naive {metrics['naive']['l2']:.4f})" in line
