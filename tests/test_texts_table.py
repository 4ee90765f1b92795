"""The table of edits by text says what numpy makes of the same pictures, for each of StyleCLIP's ways."""

import json

import numpy as np
import pytest
import torch

from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.data import to_float
from wagi.editing import latent, mapping, styleclip
from wagi.editing.attributes import ATTRIBUTES
from wagi.editing.settings import DEFAULTS
from wagi.editing.towers import TextLoss, portraits
from wagi.experiments import edits, texts, ways
from wagi.experiments.heldout import eight_bit
from wagi.networks.mapper import Mapper
from wagi.portraits import dataset, edit, render, vector
from wagi.standins.clip import tokens
from wagi.standins.model import PortraitsFeatures, PortraitsID, load
from wagi_rt.directions import Direction, write

SIZE, SEED, COUNT, FEW = 32, 5, 3, 2
TEXT, NEUTRAL = "a man with a hat", "a man"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny random model with what each way needs, and the table of a text."""
    root = tmp_path_factory.mktemp("texts")
    save_tiny_model(root / "model.pt")
    generator = checkpoint.load_generator(root / "model.pt")
    styleclip.write(root / "text", styleclip.portraits_clip(generator, 2, 0))
    (root / "mappers" / "mappers").mkdir(parents=True)
    torch.manual_seed(4)
    name, origin = "a-man-with-a-hat.safetensors", checkpoint.weights_hash(generator)
    mapper = Mapper(generator.n_latent, generator.style_dim)
    mapping.save(root / "mappers" / "mappers" / name, mapper, TEXT, origin, "")
    mean = np.random.default_rng(2).normal(size=(generator.n_latent, generator.style_dim))
    write(root / "mappers" / name, Direction("mean", mean.astype(np.float32), generator=origin))
    patch = pytest.MonkeyPatch()
    patch.setattr(edits, "SPREAD", 30)
    assert table(root, "--texts", f"hat={TEXT}|{NEUTRAL}") == 0
    patch.undo()
    return root


def table(root, *words, out="out"):
    every = [
        "texts",
        "--model",
        root / "model.pt",
        "--styleclip",
        root / "text",
        "--mappers",
        root / "mappers",
    ]
    every += [
        "--out",
        root / out,
        "--pairs",
        root / "pairs",
        "--limit",
        COUNT,
        "--mapped",
        COUNT,
        "--optimised",
        FEW,
    ]
    return evaluate.main([str(word) for word in [*every, "--steps", 3, "--seed", SEED, *words]])


def latents(model, name, ws, root):
    """The edited latents of one way, and the offsets of styles, by the way's own definition."""
    if name == "global direction":
        found = np.load(root / "text" / "relevance.npy").astype(np.float64)
        with torch.no_grad():
            a, b = portraits().network.text(tokens([TEXT, NEUTRAL])).double().numpy()
        step = found[:, 1:] @ ((a - b) / np.linalg.norm(a - b)) * 0.7
        step = np.where(np.abs(step) >= 0.1 * np.abs(step).max(), step, 0)
        return ws, torch.from_numpy(step * min(1, 4 / np.abs(step).max()) * found[:, 0])[None].float()
    if name == "latent optimisation":
        loss = TextLoss(portraits(), TEXT, load(PortraitsID), 0.005)
        return latent.optimise(model.generator, ws, loss, DEFAULTS["latent"]._replace(steps=3)), None
    file = root / "mappers" / "mappers" / "a-man-with-a-hat.safetensors"
    return ws + mapping.load(file, model.generator)[0](ws), None


@pytest.mark.parametrize("name, count", [("global direction", 3), ("mapper", 3), ("latent optimisation", 2)])
def test_every_number_of_a_row(world, name, count):
    rows = json.loads((world / "out" / "texts.json").read_text())["rows"]
    row = next(row for row in rows if (row["way"], row["row"]) == (name, ways.SHIPPED))
    known = (dataset.portrait(SEED, k) for k in range(99))
    chosen = [one for one in known if one.hat == "none"][:count]
    source = torch.stack([to_float(render(one, SIZE)) for one in chosen])
    true = torch.stack([to_float(render(edit(one, hat="cap"), SIZE)) for one in chosen])
    model = checkpoint.load_model(world / "model.pt")
    with torch.no_grad():
        ws = model.encode(source)
    moved, styles = latents(model, name, ws, world)
    looks, clip = load(PortraitsFeatures), portraits().network
    with torch.no_grad():
        before, after = model.invert(source).image, model.edit(source, moved, styles=styles).image
        before, after = eight_bit(before), eight_bit(after)
        read = (looks.predict(after) - looks.predict(before)).numpy().mean(axis=0)
        text = clip.text(tokens([TEXT]))[0]
        near = [float((clip.image(x) @ text).mean()) for x in (before, after)]
        same = float(load(PortraitsID)(after, source).mean())
    spread = np.stack([vector(dataset.portrait(SEED, k)) for k in range(30)])
    wanted = {key: one.of(read) / one.of(spread).std() for key, one in ATTRIBUTES.items()}
    assert row["changes"] == pytest.approx(wanted, rel=1e-2, abs=1e-3) and row["count"] == count
    assert row["effect"] == pytest.approx(wanted["hat"], rel=1e-2, abs=1e-3)
    assert [row["similarity before"], row["similarity"]] == pytest.approx(near, abs=1e-4)
    assert row["portraits-ID"] == pytest.approx(same, abs=1e-4) and row["true edit"] == "hat=cap"
    assert row["l2"] == pytest.approx(float((after - true).square().mean()), rel=1e-3)


def test_what_was_measured_is_kept(world, monkeypatch):
    monkeypatch.setattr(edits, "SPREAD", 30)
    monkeypatch.setattr(texts.Measure, "rows", None)  # a call would fail
    assert table(world, "--texts", f"hat={TEXT}|{NEUTRAL}") == 0


def test_the_amount_that_was_reached(world, monkeypatch, tmp_path):
    """A generator that shows half of a whole edit."""
    model = checkpoint.load_model(world / "model.pt")
    judge = edits.Judge(model, None, edits.Pairs(tmp_path, SEED, SIZE, COUNT))
    measure = texts.Measure(judge, TextLoss(portraits(), TEXT, None, 0), texts.Words("skin", TEXT))
    assert [one.text for one in measure.edits][:2] == ["skin+0.125", "skin+0.25"]
    half = torch.cat([pair.edited for pair in measure.pairs(measure.edits[1], COUNT)])
    monkeypatch.setattr(model.generator, "forward", lambda ws: half)
    share, change = measure.reached(torch.zeros(COUNT, 1, 1))
    assert share == pytest.approx(0.5, abs=0.06) and change.change == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--texts", "hats=a hat"], "--texts hats=a hat: write ATTRIBUTE=TEXT or ATTRIBUTE=TEXT|NEUTRAL"),
        (["--texts", "hat=a cylinder"], "--texts 'cylinder' is no word of this model"),
        (["--texts", "hat=a hat"], "--mappers "),
        (["--texts", f"hat={TEXT}|{TEXT}"], "mean the same to portraits-CLIP"),
        (["--styleclip", "/nowhere"], "--styleclip /nowhere: no text model"),
        (["--limit", "0"], "--limit, --mapped: at least 1"),
    ],
)
def test_wrong_words(world, capsys, words, message):
    assert table(world, *words, out="none") == 2
    assert message in capsys.readouterr().err and not (world / "none").exists()
