"""`wagi-rt bulk` edits by text as `wagi-rt edit --text` does, for all pictures or for each row of a table."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_bulk import Local, pixels, rows
from tiny_bundle import GENERATOR, STYLE_DIM, error_line, run_cli, write_tiny_bundle

from wagi_rt import files, manifest
from wagi_rt.bulk import command
from wagi_rt.directions import Direction

SMILING, SERIOUS, HAT = "a smiling face", "a serious face", "a man with a hat"


@pytest.fixture(autouse=True)
def portraits(tmp_path, monkeypatch):
    """in/0.png to in/3.png, in the working directory: samples of the embedded model."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number, path in enumerate(sorted((manifest.embedded() / "samples").glob("*.png"))[:4]):
        Path(f"in/{number}.png").write_bytes(path.read_bytes())


@pytest.fixture
def run(monkeypatch):
    """`wagi-rt bulk WORDS -o out` in this process => (its exit status, the pictures that were worked on)."""

    def bulk(*words):
        cluster = Local()
        monkeypatch.setattr(command, "started", cluster.started)
        return run_cli("bulk", "-o", "out", "-q", *words), sorted(sum(cluster.work, []))

    return bulk


def table(*lines: str) -> str:
    Path("t.csv").write_text("\n".join(lines))
    return "t.csv"


def edited(number: int, *words) -> np.ndarray:
    """What `wagi-rt edit` makes of a picture."""
    out = f"edited-{len(os.listdir())}.png"
    assert run_cli("edit", f"in/{number}.png", "-o", out, "--threads", 1, "-q", *words) == 0
    return pixels(out).astype(int)


def test_each_row_goes_towards_its_own_text(run):
    name = table(
        "path,text,neutral,text_strength,smile",
        f"in/0.png,{SMILING},{SERIOUS},,",
        "in/1.png,a man with spectacles,,,1",
        "in/2.png,,a man,2,",
        f"in/3.png,{HAT},,-0.5,1",
    )
    status, worked = run(name, "--batch", 4)
    assert (status, worked) == (1, ["0.png", "1.png", "2.png", "3.png"])
    found = {row["input"]: row for row in rows()}
    (line,) = [row["error"] for row in found.values() if row["error"]]
    assert line.startswith("in/1.png: 'spectacles' is no word of this model")
    for number, words in (
        (0, ["--text", SMILING, "--neutral", SERIOUS]),
        (2, ["--set", "smile=0"]),
        (3, ["--text", HAT, "--text-strength", "-0.5", "--set", "smile=1"]),
    ):
        assert np.abs(pixels(f"out/in/{number}.png") - edited(number, *words)).max() <= 1, number
    assert np.abs(pixels("out/in/0.png") - edited(0, "--set", "smile=0")).max() > 20, "a text is seen"
    told = [
        tuple(found[f"in/{n}.png"].get(k) for k in ("text", "neutral", "text_strength")) for n in range(4)
    ]
    unknown = ("a man with spectacles", "a face", 1)
    assert told == [(SMILING, SERIOUS, 1), unknown, (None,) * 3, (HAT, "a face", -0.5)]


def test_options_are_for_all_and_a_row_goes_before_them(run):
    name = table("path,text,text_strength", "in/0.png,,", f"in/1.png,{HAT},2")
    words = ["--text", SMILING, "--neutral", SERIOUS, "--text-strength", 0.5, "--text-threshold", 0.3]
    assert run(name, "in/2.png", *words)[0] == 0
    for path, number, text, strength in (
        ("out/in/0.png", 0, SMILING, 0.5),
        ("out/in/1.png", 1, HAT, 2),
        ("out/2.png", 2, SMILING, 0.5),
    ):
        own = [*words, "--text", text, "--text-strength", strength]
        assert np.abs(pixels(path) - edited(number, *own)).max() <= 1, path


def test_another_text_is_another_setting(run, capsys):
    words = ["in", "--text", SMILING]
    assert run(*words)[0] == 0
    assert run(*words) == (0, [])
    for other in (["--text", HAT], ["--neutral", "a man"], ["--text-strength", 2], ["--text-threshold", 0.2]):
        assert run(*words, *other) == (2, [])
        assert "4 of these images were made with" in error_line(capsys.readouterr().err)
    assert run("in", "--overwrite")[0] == 0


def test_settings_without_a_text_are_as_they_were(run):
    """A report of an earlier version goes on."""
    assert run("in/0.png", "--set", "smile=1")[0] == 0
    model = files.file_sha256(manifest.embedded() / "manifest.json")
    wanted = files.key(model, "crop", None, None, None, False, ["smile=1"], [], ())[:12]
    assert [row["settings"] for row in rows()] == [wanted]


@pytest.mark.parametrize(
    "words, lines, message",
    [
        (["in", "--text", "a man with spectacles"], [], "'spectacles' is no word of this model"),
        (["in", "--text", "a face"], [], "mean the same to this model"),
        (["in", "--neutral", "a man"], [], "go with --text TEXT, or a table's column `text`"),
        (["in", "--text", HAT, "--text-threshold", 1], [], "text threshold 1: must be from 0 to below 1"),
        (["t.csv", "--neutral", "spectacles"], ["path,text", "in/0.png,a hat"], "'spectacles' is no word"),
        (["t.csv"], ["path,text,text_strength", "in/0.png,a hat,much"], "t.csv:2: text_strength much: must"),
        (["in", "--text", "hat " * 300], [], "a text of 1200 letters, the most are 1000"),
        (["in", "--text", HAT, "-m", "tiny"], [], "text: tiny holds no text model"),
        (["t.csv", "-m", "tiny"], ["path,neutral", "in/0.png,"], "t.csv: column text: tiny holds no text"),
        (
            ["t.csv", "-m", "named"],
            ["path,text", "in/0.png,1"],
            "t.csv: column text: this model has a direction",
        ),
    ],
)
def test_mistakes_cost_one_line_before_anything_starts(run, words, lines, message, capsys):
    write_tiny_bundle(Path("tiny"), schema=3, aligner="flow")
    text = Direction("text", np.full(STYLE_DIM, 0.01, np.float32), generator=GENERATOR)
    write_tiny_bundle(Path("named"), schema=3, aligner="flow", directions=(text,))
    table(*lines)
    assert run(*words) == (2, [])
    assert message in error_line(capsys.readouterr().err) and not os.path.exists("out")
