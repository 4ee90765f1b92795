"""Texts in Triton: what a model of to_triton.py makes of them is what wagi-rt makes, mixed with strengths."""

import shutil

import numpy as np
import pytest
from fake_triton import FakeTriton
from test_to_triton import bundle_at, pixels, run, strings
from tiny_bundle import edit_manifest

import wagi_rt
from wagi_rt import manifest as manifests

WORDED = [
    {},
    {"text": "a smiling face", "neutral": "a serious face"},
    {"smile": 2.0},
    {"text": "a man with a hat", "text_strength": -0.5, "smile": 1.0},
]


def worded(photos: list[bytes], edits: list[dict], names: list[str]) -> dict:
    """A request with texts and strengths: what an edit does not name is empty, 1 or zero."""
    return {
        "PHOTO": strings(*photos),
        "TEXT": strings(*(edit.get("text", "").encode() for edit in edits)),
        "NEUTRAL": strings(*(edit.get("neutral", "").encode() for edit in edits)),
        "TEXT_STRENGTH": np.array([[edit.get("text_strength", 1)] for edit in edits], np.float32),
        "STRENGTHS": np.array([[edit.get(name, 0) for name in names] for edit in edits], np.float32),
    }


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """The embedded bundle served, and one of its samples."""
    out = tmp_path_factory.mktemp("texts") / "r"
    assert run(manifests.embedded(), out) == 0
    return FakeTriton(out), (manifests.embedded() / "samples" / "portrait-07.png").read_bytes()


def test_texts_and_strengths_share_a_batch(texts):
    triton, photo = texts
    names = sorted(manifests.read().directions)
    requests = [worded([photo], [edit], names) for edit in WORDED]
    requests.append(worded([photo] * 4, WORDED, names))
    requests.append({"PHOTO": strings(photo), "TEXT": strings(b"a smiling face")})  # against a face
    found = [pixels(file) for answer in triton.infer(requests) for file in answer.ravel()]
    with wagi_rt.load(threads=1) as session:
        face = session.open(photo)
        expected = [face.edit(**edit).image for edit in WORDED]
        expected = [*expected, *expected, face.edit(text="a smiling face").image]
    for picture, image in zip(found, expected, strict=True):
        assert np.abs(picture - image).max() <= 1
    assert np.abs(found[1] - found[0]).max() > 20, "a text is seen"


def test_a_text_that_is_not_understood_costs_its_own_request_one_line(texts):
    triton, photo = texts
    good = {"PHOTO": strings(photo)}
    two = {"PHOTO": strings(photo, photo), "TEXT": strings(b"", b"a face with a rouund hat")}
    wrong = {
        "TEXT: 'spectacles' is no word of this model": {**good, "TEXT": strings(b"spectacles")},
        "TEXT 2: 'rouund' is no word of this model; did you mean round": two,
        "TEXT: text: 'a face' and 'a face' mean the same": {**good, "TEXT": strings(b"a face")},
        "TEXT: a text of 9000 letters": {**good, "TEXT": strings(b"hat" * 3000)},
        "TEXT: the text '\\n' has no words": {**good, "TEXT": strings(b"\n")},
        "NEUTRAL: is not UTF-8": {**good, "TEXT": strings(b"a hat"), "NEUTRAL": strings(b"\xff")},
        "NEUTRAL, TEXT_STRENGTH: go with TEXT": {**good, "NEUTRAL": strings(b"a man")},
        "TEXT_STRENGTH: must be finite": {
            **good, "TEXT": strings(b"a hat"), "TEXT_STRENGTH": np.array([[np.nan]], np.float32)
        },
    }  # fmt: skip
    first, *answers, last = triton.infer([good, *wrong.values(), good])
    assert pixels(first[0, 0]).shape == (128, 128, 3) and (first == last).all()
    for answer, line in zip(answers, wrong, strict=True):
        assert answer.message.startswith(line) and answer.code == "400" and answer.message.isprintable()


def test_texts_are_taken_where_something_reads_them(tmp_path, capsys):
    """Not by graphs alone, nor without a text model; with one, directions or not."""
    bare = tmp_path / "bare"
    shutil.copytree(manifests.embedded(), bare)
    edit_manifest(bare, directions={})
    for name, folder, platform, line, optional in (
        ("a", bundle_at(tmp_path / "tiny"), "python", "STRENGTHS  age, smile\nstart", {"STRENGTHS"}),
        ("b", bare, "onnxruntime", "TEXT       on --platform python only", set()),
        ("c", bare, "python", "TEXT       texts as portraits-CLIP", {"TEXT", "NEUTRAL", "TEXT_STRENGTH"}),
    ):
        assert run(folder, tmp_path / name, "--platform", platform) == 0
        assert line in capsys.readouterr().out
        triton = FakeTriton(tmp_path / name)
        assert set(triton.ensemble.inputs) == {"PHOTO", "FORMAT"} | optional, name
    photo = (bare / "samples" / "portrait-07.png").read_bytes()
    (answer,) = triton.infer([{"PHOTO": strings(photo), "TEXT": strings(b"a man with a hat")}])
    with wagi_rt.load(bare, threads=1) as session:
        wanted = session.open(photo).edit(text="a man with a hat").image
    assert np.abs(pixels(answer[0, 0]) - wanted).max() <= 1
