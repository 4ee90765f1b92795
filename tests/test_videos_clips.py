"""A clip is edited and stays the clip it was: length, times, sound, size; damage costs a note.

What is in a file is read by PyAV; frames and sound are made here.
"""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from small_clips import av, held, write_clip
from test_runtime_edit import RED
from tiny_bundle import run_cli, write_tiny_bundle

WIDE, HIGH, LEFT, TOP, SIDE = 96, 64, 30, 10, 40
QUAD = [[LEFT, TOP], [LEFT, TOP + SIDE], [LEFT + SIDE, TOP + SIDE], [LEFT + SIDE, TOP]]
INSIDE = np.s_[:, TOP + 8 : TOP + SIDE - 8, LEFT + 8 : LEFT + SIDE - 8]
BESIDE = np.s_[:, :, : LEFT - 6]
CODEC, SHIFT = 3, 0.8  # levels by which encoding again may change pixels, and their mean


def scene(count: int, shade: float = 0, speed: float = 0.5) -> np.ndarray:  # => [n, H, W, 3] uint8
    """Smooth waves that move a little."""
    y, x = np.mgrid[:HIGH, :WIDE]
    t = speed * np.arange(count)[:, None, None]
    waves = np.sin((x + t) / 9 + shade), np.sin((y - t) / 7), np.cos((x + y + t) / 11)
    return np.rint(100 + shade * 30 + 40 * np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "b", schema=3, directions=(RED,))


@pytest.fixture
def edit(bundle, tmp_path, capsys):
    """`edit(clip, output, ...)` => the record that --json prints."""

    def run(clip, output, *arguments, strength=1, status=0, quads=None):
        faces = [{"quad": QUAD}] if quads is None else quads
        (tmp_path / "quads.json").write_text(json.dumps({clip.name: faces}))
        arguments = ["--quads", tmp_path / "quads.json", "--set", f"red={strength}", "--json", *arguments]
        assert run_cli("edit", clip, "-o", output, "-m", bundle, "--fit", "face", *arguments) == status
        return json.loads(capsys.readouterr().out)

    return run


def test_ten_seconds_with_sound_stay_ten_seconds_with_the_same_sound(edit, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", scene(100), rate=10, seconds=10)
    record = edit(clip, tmp_path / "out.mp4", "--batch", 25)
    before, after = held(clip), held(tmp_path / "out.mp4")
    assert len(before.sound) > 400 and after.sound == before.sound
    assert after.seconds == before.seconds and len(after.frames) == 100 == record["frames"]
    assert (after.length, after.rate) == (before.length, before.rate) == (10, 10)
    change = after.frames.astype(float) - before.frames
    assert change[INSIDE][..., 0].mean() > 10 > change[INSIDE][..., 1].mean()
    assert np.abs(change[BESIDE]).mean() < CODEC and np.abs(change[BESIDE].mean((0, 1, 2))).max() < SHIFT
    assert not record["cuts"] and not record["damaged"]


@pytest.mark.parametrize("colours", [1, 5])
def test_an_edit_of_strength_0_only_encodes_again(edit, tmp_path, colours):
    """Colours keep their mean, whichever way they are stored."""
    clip = write_clip(tmp_path / "in.mp4", scene(12), colours=colours)
    edit(clip, tmp_path / "out.mp4", strength=0)
    change = held(tmp_path / "out.mp4").frames.astype(float) - held(clip).frames
    assert np.abs(change).mean() < CODEC and np.abs(change.mean((0, 1, 2))).max() < SHIFT


def damage(path, number):
    """Overwrite the packet of one frame, but for the length that stands before its bytes."""
    with av.open(str(path)) as clip:
        packets = sorted((p for p in clip.demux(video=0) if p.size), key=lambda packet: packet.pts)
        position, size = packets[number].pos, packets[number].size
    content = bytearray(path.read_bytes())
    content[position + 4 : position + size] = bytes([0x1F]) * (size - 4)
    path.write_bytes(content)


@pytest.mark.parametrize("number", [0, 13])
def test_a_damaged_frame_costs_a_note_and_no_time(edit, tmp_path, number):
    clip = write_clip(tmp_path / "in.mp4", scene(30, speed=2), every=1, seconds=1.2)
    whole = held(clip)
    damage(clip, number)
    record = edit(clip, tmp_path / "out.mp4")
    after = held(tmp_path / "out.mp4")
    assert record["damaged"] == [number] and f"1 frame ({number}) cannot be decoded" in " ".join(
        record["notes"]
    )
    assert after.seconds == whole.seconds and after.length == whole.length and after.sound == whole.sound
    kept = np.abs(after.frames[number].astype(float) - after.frames[max(number - 1, 1)]).mean()
    assert kept < 1 < np.abs(whole.frames[number].astype(float) - whole.frames[max(number - 1, 1)]).mean()


def test_a_cut_is_found_and_faces_do_not_drag_across_it(edit, tmp_path):
    frames = np.concatenate([scene(20), scene(20, shade=2)])
    clip = write_clip(tmp_path / "in.mp4", frames)
    quads = [[{"quad": QUAD}]] * 20 + [[{"quad": (np.array(QUAD) + [8, 6]).tolist()}]] * 20
    record = edit(clip, tmp_path / "out.mp4", quads=quads)
    assert record["cuts"] == [20]
    np.testing.assert_allclose(record["faces"]["19"][0]["quad"], QUAD, atol=1e-3)
    np.testing.assert_allclose(record["faces"]["20"][0]["quad"], np.array(QUAD) + [8, 6], atol=1e-3)


def test_a_part_of_a_clip_brings_its_part_of_the_sound(edit, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", scene(50), seconds=2)
    edit(clip, tmp_path / "out.mp4", "--frames", "20:40")
    before, after = held(clip), held(tmp_path / "out.mp4")
    assert len(after.frames) == 20 and after.length == 0.8 and after.seconds[0] == 0
    first = before.sound.index(after.sound[0])
    assert after.sound == before.sound[first : first + len(after.sound)] and 35 <= len(after.sound) <= 39
    assert np.abs(after.frames[BESIDE] - before.frames[20:40][BESIDE].astype(float)).mean() < CODEC


def test_uneven_times_stay(edit, tmp_path):
    times = [0, 1, 2, 5, 6, 9, 10, 11, 20, 21]
    clip = write_clip(tmp_path / "in.mp4", scene(10), times=times)
    edit(clip, tmp_path / "out.mp4")
    assert held(tmp_path / "out.mp4").seconds == held(clip).seconds == [time / 25 for time in times]


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_clip_is_edited_as_it_is_seen(edit, tmp_path, rotation):
    """Turned by its metadata: the faces, and what is written, are upright."""
    shown = scene(6)
    clip = write_clip(tmp_path / "in.mp4", np.rot90(shown, -rotation // 90, axes=(1, 2)), rotation=rotation)
    edit(clip, tmp_path / "out.mp4")
    after = held(tmp_path / "out.mp4").frames
    assert after.shape == shown.shape
    change = after.astype(float) - shown
    assert np.abs(change[BESIDE]).mean() < CODEC and change[INSIDE][..., 0].mean() > 10


def test_a_clip_becomes_pictures_and_pictures_a_clip(edit, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", scene(6))
    edit(clip, tmp_path / "pictures", "--frames", "2:")
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"frame_{number:05d}.png" for number in (2, 3, 4, 5)]
    edit(tmp_path / "pictures", tmp_path / "again.mp4", "--fps", "10", strength=0)
    pictures = np.stack([np.asarray(Image.open(tmp_path / "pictures" / name)) for name in names])
    again = held(tmp_path / "again.mp4")
    assert again.rate == 10 and np.abs(again.frames - pictures.astype(float)).mean() < CODEC


# ---------------------------------------------------------------------------------------------- one line each


def fails(bundle, capsys, words, *arguments, status=2):
    assert run_cli("edit", *arguments, "-m", bundle, "--set", "red=1") == status
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ") and words in lines[-1], lines
    assert "Traceback" not in " ".join(lines)


def test_mistakes_cost_one_line(bundle, tmp_path, capsys, monkeypatch):
    clip, quads = write_clip(tmp_path / "in.mp4", scene(3)), tmp_path / "quads.json"
    quads.write_text(json.dumps({"in.mp4": [{"quad": QUAD}]}))
    (tmp_path / "text.mp4").write_text("no clip")
    with av.open(str(tmp_path / "sound.m4v"), "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=48000, layout="mono")
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        part.sample_rate = 48000
        output.mux(sound.encode(part))
        output.mux(sound.encode(None))
    face = ("--fit", "face", "--quads", quads, "-o", tmp_path / "out.mp4")
    fails(bundle, capsys, "needs --fit face", clip)
    fails(bundle, capsys, "name one INPUT", clip, clip, *face)
    fails(bundle, capsys, "not a video that can be read", tmp_path / "text.mp4", *face, status=1)
    fails(bundle, capsys, "has no video stream", tmp_path / "sound.m4v", *face, status=1)
    fails(bundle, capsys, "no such file", tmp_path / "none.mp4", *face, status=1)
    fails(bundle, capsys, "must end in .mp4", clip, *face[:-1], tmp_path / "out.avi")
    fails(bundle, capsys, "is also an input", clip, *face[:-1], clip)
    fails(bundle, capsys, "--frames 5:9: holds none of the 3 frames", clip, *face, "--frames", "5:9")
    fails(bundle, capsys, "--frames x: must be like", clip, *face, "--frames", "x")
    fails(bundle, capsys, "--strip: goes with pictures", clip, *face, "--strip")
    fails(bundle, capsys, "--preview", clip, *face, "--preview", tmp_path / "strip.txt")
    quads.write_text(json.dumps({"in.mp4": {"x": []}}))
    fails(bundle, capsys, "not of the form", clip, *face)
    quads.write_text(json.dumps({"in.mp4": []}))
    fails(bundle, capsys, "no face found", clip, *face, status=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.mp4",
        "quads.json",
        "sound.m4v",
        "text.mp4",
    ]
    monkeypatch.setitem(sys.modules, "av", None)
    fails(bundle, capsys, "pip install 'wagi[video]'", clip, *face)


def test_nothing_half_written_stays(bundle, tmp_path, capsys, monkeypatch):
    from wagi_rt.commands import passes

    clip, quads = write_clip(tmp_path / "in.mp4", scene(8)), tmp_path / "quads.json"
    quads.write_text(json.dumps({"in.mp4": [{"quad": QUAD}]}))
    pasted = passes.paste

    def stop(pixels, *parts):
        if (tmp_path / "stop").exists():
            raise KeyboardInterrupt
        (tmp_path / "stop").touch()
        pasted(pixels, *parts)

    monkeypatch.setattr(passes, "paste", stop)
    out = tmp_path / "out.mp4"
    assert (
        run_cli("edit", clip, "-o", out, "-m", bundle, "--fit", "face", "--quads", quads, "--set", "red=1")
        == 130
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "quads.json", "stop"]
