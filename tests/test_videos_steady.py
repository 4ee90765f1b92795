"""Cuts, tracks and averages over time: exact where a motion is even, else an exponential average both ways.

The flicker of an edit with jittered quads falls by more than a factor of two, against a known truth.
"""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.signal import lfilter
from test_faces_detection import DISTANCE, TRUTH, astronaut, needs_models
from test_runtime_edit import RED
from tiny_bundle import run_cli, write_tiny_bundle

from wagi.experiments.flicker import detected, flicker
from wagi_rt.errors import UserError
from wagi_rt.faces.alignment import Alignment
from wagi_rt.videos import mended
from wagi_rt.videos.quads import ClipQuads
from wagi_rt.videos.steady import cuts, present, smooth, thumbnail, tracks

QUAD = np.array([[10, 10], [10, 50], [50, 50], [50, 10]], float)
WS = np.zeros((2, 3), np.float32)

# ----------------------------------------------------------------------------------------------- averages


def test_an_even_motion_is_not_changed_and_does_not_lag():
    ramp = np.linspace(3, 8, 40)[:, None] * np.ones((1, 2))
    np.testing.assert_allclose(smooth(ramp, 0.2), ramp, atol=1e-9)
    np.testing.assert_array_equal(smooth(ramp, 1), ramp)
    assert smooth(ramp[:1], 0.2).shape == (1, 2)
    np.testing.assert_allclose(smooth(ramp[:2], 0.2), ramp[:2], atol=1e-9)


def test_the_average_is_an_exponential_one_both_ways():
    """scipy's recursive filter gives either half of the answer to an impulse."""
    impulse = np.zeros(161)
    impulse[80] = 1
    half = lfilter([0.2], [1, -0.8], impulse)
    both = half + half[::-1] - 0.2 * impulse
    np.testing.assert_allclose(smooth(impulse, 0.2), both / both.sum(), atol=2e-3)


# ------------------------------------------------------------------------------------------ cuts and tracks


def test_cuts_are_told_from_flashes_and_pans():
    changes = np.full(40, 1.0)
    changes[0] = 0
    changes[10] = 30
    changes[20:22] = 60  # there and back
    changes[30:36] = 15  # a pan
    assert cuts(changes) == [10]
    assert cuts([0.0]) == [] == cuts([0.0, 2.0])
    pictures = [Image.new("RGB", (640, 360), colour) for colour in ("navy", "orange")]
    assert np.abs(thumbnail(pictures[0]) - thumbnail(pictures[1])).mean() > 100


def test_faces_are_followed_and_gaps_are_filled():
    here, there = QUAD, QUAD + [100, 0]
    frames = [[(here + 2 * k, WS + k), (there, WS)] for k in range(10)]
    frames[4] = frames[4][1:]
    frames[5] = frames[5][1:]
    frames[6] = frames[6][::-1]
    first, second = sorted(tracks(frames, []), key=lambda track: track.quads[0, 0, 0])
    assert (first.start, first.stop) == (0, 10) == (second.start, second.stop)
    np.testing.assert_allclose(first.quads, np.stack([here + 2 * k for k in range(10)]))
    np.testing.assert_allclose(first.ws[:, 0, 0], range(10))
    assert present([first, second], 9, 1)[0] in (first, second) and not present([first, second], 10)


def test_tracks_end_where_a_face_is_another_one():
    same = [[(QUAD, WS)]]
    assert len(tracks(same * 6, [])) == 1
    assert [track.start for track in tracks(same * 6, [13], first=10)] == [10, 13]  # a cut
    assert len(tracks(same * 3 + [[(QUAD + [40, 0], WS)]] * 3, [])) == 2  # a jump
    assert len(tracks(same * 3 + [[((QUAD - 30) * 2 + 30, WS)]] * 3, [])) == 2  # a size
    assert len(tracks(same * 3 + [[]] * 6 + same * 3, [])) == 2 > len(tracks(same * 3 + [[]] * 5 + same, []))


def test_damaged_frames_are_the_last_good_one():
    assert list(mended([None, None, "a", None, "b", None])) == [
        ("a", False), ("a", False), ("a", True), ("a", False), ("b", True), ("b", False),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------- quads of a file


def face(shift: float) -> dict:
    return {"quad": (QUAD + shift).tolist()}


def test_three_ways_to_name_quads(tmp_path):
    def quads(faces):
        (tmp_path / "q.json").write_text(json.dumps({"some/clip.mp4": faces}))
        return ClipQuads(str(tmp_path / "q.json"), "clip.mp4")

    assert [one[0, 0] for one in quads([face(0), face(5)]).at(77)] == [10, 15]
    assert [len(quads([[face(0)], [], [face(2), face(3)]]).at(k)) for k in (0, 1, 2, 9)] == [1, 0, 2, 2]
    keyed = quads({"10": [face(0)], "20": [face(10)], "30": []})
    assert [round(float(keyed.at(k)[0][0, 0]), 6) for k in (0, 10, 13, 20, 25)] == [10, 10, 13, 20, 20]
    assert keyed.at(30) == []
    eyes = {"eyes": [[20, 20], [40, 20]], "mouth": [[22, 40], [38, 40]]}
    assert quads([eyes]).at(0)[0].shape == (4, 2)
    for wrong in ({"a": []}, {"-1": []}, [{"quad": [[0, 0]]}], {}, 7):
        with pytest.raises(UserError, match="not of the form|quad"):
            quads(wrong)


# ------------------------------------------------------------------------------- numbered pictures, flicker


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "b", schema=3, directions=(RED,))


def edit(bundle, source, target, quads, *arguments, strength=1, status=0):
    target.parent.mkdir(exist_ok=True)
    path = target.parents[1] / "quads.json"
    path.write_text(json.dumps({source.name: quads}))
    assert run_cli("edit", source, "-o", target, "-m", bundle, "--fit", "face", "--quads", path,
                   "--set", f"red={strength}", *arguments) == status  # fmt: skip


def moving(count: int, side: int = 96) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    t = 0.3 * np.arange(count)[:, None, None]
    waves = [np.sin((x + t) / 8) * np.cos((y - t) / 6), np.sin((x - y + t) / 9), np.cos((y + t) / 5 + x / 30)]
    return np.rint(110 + 50 * np.stack(waves, -1)).astype(np.uint8)


def test_smoothing_halves_the_flicker_at_least(bundle, tmp_path):
    """The truth is the same edit with the quads that the jittered ones come from.

    A strong one: results have 8 bits, and rounding flickers, too.
    """
    frames, rng = moving(24, 64), np.random.default_rng(3)
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "in" / f"{number}.png")
    exact = [{"quad": [[0, 0], [0, 64], [64, 64], [64, 0]]}]
    jittered, found = detected(len(frames), 64, rng), {}
    for name, quads, smoothing in (
        ("truth", exact, 1),
        ("by frame", jittered, 1),
        ("smoothed", jittered, 0.2),
    ):
        out = tmp_path / name
        edit(bundle, tmp_path / "in" / "%d.png", out / "%d.png", quads, "--smoothing", smoothing, "-q",
             "--batch", 8, strength=4)  # fmt: skip
        found[name] = np.stack([np.asarray(Image.open(out / f"{k}.png")) for k in range(len(frames))])
    by_frame, smoothed = (flicker(found[name], found["truth"]) for name in ("by frame", "smoothed"))
    assert by_frame > 1 and smoothed < by_frame / 2, (by_frame, smoothed)


def test_pictures_in_and_out_keep_their_pixels(bundle, tmp_path, capsys):
    """Of a folder, a part, with a picture that cannot be read; unedited pixels keep their bits."""
    frames = moving(6)
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(tmp_path / "in" / f"shot{number}.png")
    (tmp_path / "in" / "shot4.png").write_bytes(b"no picture")
    out, quad = tmp_path / "out", [{"quad": (QUAD / 2 + 20).tolist()}]
    edit(bundle, tmp_path / "in" / "shot%d.png", out / "shot_%02d.png", quad, "--frames", "1:5", "--json",
         "--preview", tmp_path / "strip.png")  # fmt: skip
    record = json.loads(capsys.readouterr().out)
    assert record["damaged"] == [3] and record["frames"] == 4
    assert sorted(path.name for path in out.iterdir()) == [f"shot_{k:02d}.png" for k in (1, 2, 3, 4)]
    for number, shown in ((1, 1), (2, 2), (3, 2), (4, 4)):
        after = np.asarray(Image.open(out / f"shot_{number:02d}.png"))
        assert (after[:20] == frames[shown][:20]).all() and (after != frames[shown]).any()
    assert Image.open(tmp_path / "strip.png").size == (4 * 180 + 3 * 4, 2 * 180 + 4)
    (record,) = [record["faces"]["2"]]
    np.testing.assert_allclose(record[0]["quad"], QUAD / 2 + 20, atol=1e-3)
    capsys.readouterr()
    edit(bundle, tmp_path / "in" / "shot%d.png", out / "shot_%02d.png", quad, "--frames", "1:5", status=2)
    assert "exists already" in capsys.readouterr().err
    edit(bundle, tmp_path / "in" / "none%d.png", out / "x%d.png", quad, status=1)
    assert "no pictures of this name" in capsys.readouterr().err


def test_several_faces_and_the_largest(bundle, tmp_path, capsys):
    frames = moving(4)
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "in" / f"{number}.png")
    large, small = QUAD - 5, QUAD / 2 + 60
    quads = [[{"quad": one.tolist()} for one in (small, large)]] * 4
    for most, changed in (("all", (True, True)), ("largest", (True, False))):
        out = tmp_path / most / "%d.png"
        edit(bundle, tmp_path / "in" / "%d.png", out, quads, "--faces", most, "--batch", 3, "-q")
        after = np.asarray(Image.open(tmp_path / most / "2.png")).astype(int)
        for quad, expected in zip((large, small), changed, strict=True):
            left, top, right, bottom = Alignment(quad, 64).box(96, 96)
            part = np.s_[top:bottom, left:right]
            assert (after[part] != frames[2][part]).any() == expected


def test_the_paste_is_that_of_photos(bundle, tmp_path):
    """One frame of a clip is the photo edited alone: the same squares, put back by the same function."""
    frame = moving(1)[0]
    (tmp_path / "in").mkdir()
    Image.fromarray(frame).save(tmp_path / "in" / "0.png")
    edit(bundle, tmp_path / "in" / "%d.png", tmp_path / "clip" / "%d.png", [{"quad": QUAD.tolist()}], "-q")
    edit(bundle, tmp_path / "in" / "0.png", tmp_path / "photo" / "0.png", [{"quad": QUAD.tolist()}], "-q")
    found = [np.asarray(Image.open(tmp_path / name / "0.png")).astype(int) for name in ("clip", "photo")]
    assert np.abs(found[0] - found[1]).max() <= 1 and (found[0] != frame).any()


@needs_models
def test_faces_are_found_in_every_frame(bundle, tmp_path, capsys):
    """The astronaut moves by a pixel and a half a frame: so does the quad, steadily."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        moved = astronaut().transform((400, 300), Image.Transform.AFFINE, (1, 0, 60 - 1.5 * number, 0, 1, 0))
        moved.save(tmp_path / "in" / f"{number}.png")
    target = tmp_path / "out" / "%d.png"
    assert run_cli("edit", tmp_path / "in" / "%d.png", "-o", target, "-m", bundle, "--fit", "face", "--set",
                   "red=1", "--json", "-q") == 0  # fmt: skip
    faces = json.loads(capsys.readouterr().out)["faces"]
    middles = np.array([np.mean(faces[str(k)][0]["quad"], 0) for k in range(6)])
    wanted = TRUTH.quad().mean(0) - [60, 0] + 1.5 * np.arange(6)[:, None] * [1, 0]
    assert all(len(one) == 1 for one in faces.values())
    assert np.abs(middles - wanted).max() < 0.1 * DISTANCE
    assert np.abs(np.diff(middles, 2, axis=0)).max() < 1
