"""Experiments on pictures that no renderer knows: the numbers and drawings that are left are right."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sheet_pixels import cells
from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.experiments import photos, ways
from wagi.experiments.comparison import TITLE
from wagi.standins.model import PortraitsID, load
from wagi_rt.directions import Direction, write

SIZE, COUNT = 32, 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny random model, two directions of its latents and three pictures."""
    root = tmp_path_factory.mktemp("photos")
    model = checkpoint.load_model(save_tiny_model(root / "model.pt"))
    for folder in ("directions", "data"):
        (root / folder).mkdir()
    rng = np.random.default_rng(0)
    for name in ("Smiling", "yaw"):
        step = 3 * rng.standard_normal(model.generator.style_dim)
        facts = {"generator": checkpoint.weights_hash(model.generator), "range": (-2.0, 0.5)}
        write(root / "directions" / f"{name}.safetensors", Direction(name, step, **facts))
    for k in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(root / "data" / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def model(world):
    return checkpoint.load_model(world / "model.pt")


def command(world, name, out, *more):
    words = [name, "--model", world / "model.pt", "--out", out, "--data", world / "data", *more]
    return evaluate.main([str(word) for word in words])


def along(world):
    return ["--directions", world / "directions"]


def source(world):  # => COUNT,3,SIZE,SIZE
    pixels = [np.asarray(Image.open(world / "data" / f"{k}.png"), np.float32) for k in range(COUNT)]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1


def shift(world, model, name, strength):
    vector = ways.load_direction(world / "directions" / f"{name}.safetensors", model).vector
    return strength * torch.from_numpy(vector)


def rounded(images):
    return ((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def cell(path, line, column, left=0):
    sheet = cells(path, left=left).astype(int)
    return sheet[TITLE + line * SIZE :][:SIZE, left + column * SIZE : left + (column + 1) * SIZE]


def assert_shows(pixels, image):
    expected = (rounded(image) + 1) * 127.5
    assert np.abs(pixels - expected.permute(1, 2, 0).numpy()).max() <= 1


def test_the_table_of_edits(world, model, tmp_path, monkeypatch):
    """Numbers against the pictures themselves by direct computation; nothing that needs the renderer."""
    words = [*along(world), "--names", "Smiling", "--strengths", "0.5", "--standins"]
    assert command(world, "edits", tmp_path, *words) == 0
    report = json.loads((tmp_path / "edits.json").read_text())
    x, delta = source(world), shift(world, model, "Smiling", 0.5)
    with torch.no_grad():
        ws = model.encode(x)
        before, after = (rounded(model.edit(x, latents).image) for latents in (ws, ws + delta))
        lost = model.encode(after) - ws - delta
        identity = float(load(PortraitsID)(after, x).mean())
    row = next(row for row in report["rows"] if row["row"] == ways.SHIPPED)
    luma = torch.tensor([0.299, 0.587, 0.114])
    expected = {
        "l2": float((after - x).square().mean()), "portraits-ID": identity, "count": COUNT,
        "LEC": float(lost.square().mean((1, 2)).sqrt().mean()),
        "brightness": float(127.5 * ((after - before).mean((0, 2, 3)) @ luma) / 0.5),
    }  # fmt: skip
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    wanted = [*photos.COLUMNS, "portraits-features", "portraits-ID", *photos.MEASURES]
    assert report["columns"] == wanted and set(row) == {*wanted, "count"}
    assert "Pictures without a renderer" in (tmp_path / "edits.md").read_text()
    monkeypatch.setattr(photos.Photos, "rows", None)  # a call would fail
    assert command(world, "edits", tmp_path, *words) == 0


def test_edit_and_its_figure(world, model, tmp_path):
    """A line per picture: itself, then the ways; rows as in the table of edits."""
    assert command(world, "edit", tmp_path, *along(world), "--edits", "yaw=-0.5", "--count", "2") == 0
    rows = json.loads((tmp_path / "edit.json").read_text())["rows"]
    assert [row["row"] for row in rows] == [ways.NAIVE, ways.RAW, ways.PAPERS, ways.SHIPPED]
    assert all(row["count"] == 2 and row["direction"] == "yaw" for row in rows)
    x = source(world)
    with torch.no_grad():
        found = model.edit(x, model.encode(x) + shift(world, model, "yaw", -0.5))
    for line in range(2):
        assert_shows(cell(tmp_path / "edit-yaw-0.5.png", line, 0), x[line])
        assert_shows(cell(tmp_path / "edit-yaw-0.5.png", line, 4), found.image[line])


def test_sheet_of_an_edit(world, model, tmp_path):
    words = [*along(world), "--kind", "edit", "--edit", "Smiling=1", "--blocks", "1"]
    assert command(world, "sheet", tmp_path / "sheet.png", *words) == 0
    x = source(world)
    with torch.no_grad():
        found = model.edit(x, model.encode(x) + shift(world, model, "Smiling", 1))
    for line in range(COUNT):
        for column, image in enumerate((x, found.naive, found.image)):
            assert_shows(cell(tmp_path / "sheet.png", line, column), image[line])


def test_figure_5(world, model, tmp_path, capsys):
    """The k-th attribute on the k-th picture."""
    words = [*along(world), "--set", "yaw=0.5", "Smiling=-1"]
    assert command(world, "figure5", tmp_path / "figure.png", *words) == 0
    assert f"; pictures 0, 1 of {world / 'data'}" in capsys.readouterr().out
    x = source(world)
    for column, (name, strength) in enumerate((("yaw", 0.5), ("Smiling", -1))):
        with torch.no_grad():
            found = model.edit(x, model.encode(x) + shift(world, model, name, strength))
        for line, image in ((0, x), (1, found.naive), (3, found.image)):
            assert_shows(cell(tmp_path / "figure.png", line, column, TITLE), image[column])


def test_ood(world, model, tmp_path):
    assert command(world, "ood", tmp_path) == 0
    rows = json.loads((tmp_path / "ood.json").read_text())["rows"]
    assert [row["picture"] for row in rows] == [f"{k}.png" for k in range(COUNT) for _ in range(2)]
    with torch.no_grad():
        errors = (model.invert(source(world)).image.clamp(-1, 1) - source(world)).square().mean((1, 2, 3))
    assert [row["l2"] for row in rows[1::2]] == pytest.approx(errors.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["edit", "--edits", "yaw=1"], "--data: is edited along --directions DIR"),
        (["edit", "--directions", "D"], "--edits yaw+0.3: write NAME=STRENGTH"),
        (["edit", "--directions", "D", "--edits", "hat=1"], "--edits hat: there are Smiling, yaw"),
        (["sheet", "--kind", "edit"], "--data: has no true edits; give --directions DIR"),
        (["edits", "--directions", "D", "--data", "/nowhere"], "--data /nowhere: no such folder"),
    ],
)
def test_wrong_words(world, tmp_path, capsys, words, message):
    more = [world / "directions" if word == "D" else word for word in words[1:]]
    assert command(world, words[0], tmp_path / "out.png", *more) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_networks_are_for_pictures(world, tmp_path, capsys):
    words = ["edits", "--model", world / "model.pt", "--out", tmp_path / "out", *along(world), "--standins"]
    assert evaluate.main([str(word) for word in words]) == 2
    assert "with --data; portraits have their own" in capsys.readouterr().err
