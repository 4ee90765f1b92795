"""The table of edits along directions says what numpy makes of the same pictures; Figure 5 shows them."""

import json

import numpy as np
import pytest
import torch

from tests.sheet_pixels import cells
from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.data import to_float, to_uint8
from wagi.editing.attributes import ATTRIBUTES
from wagi.editing.counterfactuals import Pairs
from wagi.experiments import edits, ways
from wagi.experiments.comparison import TITLE
from wagi.experiments.edits import Judge, lowest
from wagi.experiments.heldout import eight_bit
from wagi.portraits import dataset, render, vector
from wagi.portraits.edits import parse_edit
from wagi.standins.model import PortraitsFeatures, PortraitsID, load
from wagi_rt.directions import Direction, write

SIZE, SEED, COUNT = 32, 5, 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(edits, "SPREAD", 30)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny random model, two directions of its latents and the table of both."""
    root = tmp_path_factory.mktemp("edits")
    save_tiny_model(root / "model.pt")
    (root / "directions").mkdir()
    model = checkpoint.load_model(root / "model.pt")
    for number, name in enumerate(("skin", "no-attribute")):
        steps = np.random.default_rng(number).standard_normal((1, model.generator.style_dim))
        facts = {"generator": checkpoint.weights_hash(model.generator), "range": (-2.0, 0.5)}
        write(root / "directions" / f"{name}.safetensors", Direction(name, 3 * steps[0], **facts))
    return root


@pytest.fixture(scope="module")
def model(world):
    return checkpoint.load_model(world / "model.pt")


def command(world, name, out, *more):
    words = [name, "--model", world / "model.pt", "--directions", world / "directions", "--out", out]
    return evaluate.main([str(word) for word in (*words, "--seed", SEED, *more)])


def run_table(world, *more):
    return command(world, "edits", world / "out", "--limit", COUNT, "--pairs", world / "pairs", *more)


def test_the_table_of_edits(world, model, monkeypatch):
    """Every number of the row WaGI against direct computation on the same portraits; then kept as it is."""
    assert run_table(world, "--strengths", "2") == 0
    rows = {(row["direction"], row["row"]): row for row in table(world)}
    row = rows["no-attribute", ways.SHIPPED]
    direction = ways.load_direction(world / "directions" / "no-attribute.safetensors", model)
    portraits = [dataset.portrait(SEED, k) for k in range(COUNT)]
    source = torch.stack([to_float(render(one, SIZE)) for one in portraits])
    looks, shift = load(PortraitsFeatures), 2 * torch.from_numpy(direction.vector)
    with torch.no_grad():
        ws = model.encode(source)
        before, after = (eight_bit(model.edit(source, latents).image) for latents in (ws, ws + shift))
        lost = (model.encode(after) - ws - shift).numpy()
        read = (looks.predict(after) - looks.predict(before)).numpy().mean(axis=0) / 2
        identity = load(PortraitsID)(after, source).mean()
    params = np.stack([vector(dataset.portrait(SEED, k)) for k in range(30)])
    spread = np.array([one.of(params).std() for one in ATTRIBUTES.values()])
    wanted = np.array([one.of(read) for one in ATTRIBUTES.values()]) / spread
    assert list(row["changes"].values()) == pytest.approx(wanted.tolist(), rel=1e-3, abs=1e-3)
    most = int(np.abs(wanted).argmax())
    assert row["leakage"] == pytest.approx(wanted[most], rel=1e-3) and row["into"] == list(ATTRIBUTES)[most]
    assert row["LEC"] == pytest.approx(np.sqrt(np.square(lost).mean(axis=(1, 2))).mean(), rel=1e-4)
    assert row["portraits-ID"] == pytest.approx(float(identity), abs=1e-4)
    luma = [np.asarray(to_uint8(x), float) @ (0.299, 0.587, 0.114) for x in (before, after)]
    assert row["brightness"] == pytest.approx((luma[1].mean() - luma[0].mean()) / 2, abs=1e-3)
    assert row["effect"] is row["reached"] is row["true edit"] is None and "l2" not in row
    skin = rows["skin", ways.SHIPPED]
    assert skin["effect"] == pytest.approx(skin["changes"]["skin"], abs=1e-4)
    monkeypatch.setattr(edits.Judge, "rows", None)  # a call would fail
    assert run_table(world, "--strengths", "2") == 0


def table(world):
    return json.loads((world / "out" / "edits.json").read_text())["rows"]


def test_the_amount_that_was_reached(world, model, monkeypatch, tmp_path):
    """A generator that shows half of the whole edit, and the truth's own row: no error at all."""
    judge = Judge(model, None, Pairs(tmp_path, SEED, SIZE, COUNT))
    direction = Direction("skin", np.ones(model.generator.style_dim, np.float32))
    pairs = judge.pairs(parse_edit("skin+0.25"), judge.pairs.chosen(parse_edit("skin+0.75")))
    half = {pair.source.sum().item(): pair.edited for pair in pairs}

    def draw(ws):  # the latent is the picture's sum, and 1 of the direction
        return torch.stack([half[min(half, key=lambda known: abs(known + 1 - w))] for w in ws[:, 0, 0]])

    monkeypatch.setattr(judge.model, "encode", lambda images: images.sum((1, 2, 3))[:, None, None])
    monkeypatch.setattr(judge.model.generator, "forward", draw)
    share, change = judge.reached(direction, 1.0)
    assert share == pytest.approx(0.5, abs=0.06) and change.change == pytest.approx(0.25, abs=0.03)


def test_the_lowest_of_a_parabola():
    places = np.arange(7)
    assert lowest(list(np.square(places - 3.3) + 2)) == pytest.approx(3.3)
    assert lowest([0.0, 1.0, 2.0]) == 0 and lowest([2.0, 1.0, 0.5]) == 2


def test_figure_5(world, model, tmp_path, capsys):
    """Cells are the input and the ways to edit it; strengths stay within the measured range."""
    assert command(world, "figure5", tmp_path / "figure.png", "--set", "skin=-1", "no-attribute=0.5") == 0
    assert "2 of the paper's 7 attributes; not shown: yaw, pitch" in capsys.readouterr().out
    sheet = cells(tmp_path / "figure.png", left=TITLE)
    assert sheet.shape == (TITLE + 4 * SIZE, TITLE + 2 * SIZE, 3)
    index = next(k for k in range(99) if dataset.portrait(SEED, k).skin >= 0.5)
    source = to_float(render(dataset.portrait(SEED, index), SIZE))[None]
    direction = ways.load_direction(world / "directions" / "skin.safetensors", model)
    with torch.no_grad():
        edited = model.edit(source, model.encode(source) - torch.from_numpy(direction.vector))
    for line, image in ((0, source), (1, edited.naive), (3, edited.image)):
        cell = sheet[TITLE + line * SIZE :][:SIZE, TITLE : TITLE + SIZE]
        assert np.abs(cell.astype(int) - to_uint8(image)[0].astype(int)).max() <= 1
    assert command(world, "figure5", tmp_path / "usual.png") == 0
    assert "usual.png: skin -1, no-attribute -1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["edits", "--names", "smile"], "--names smile: there are no-attribute, skin"),
        (["edits", "--strengths", "0"], "--limit: at least 1; --strengths: any but 0"),
        (["figure5", "--set", "skin"], "--set skin: write NAME=STRENGTH, such as yaw=-1"),
        (["figure5", "--directions", "/nowhere"], "--directions /nowhere: no *.safetensors"),
    ],
)
def test_wrong_words(world, tmp_path, capsys, words, message):
    assert command(world, words[0], tmp_path / "out.png", *words[1:]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())
