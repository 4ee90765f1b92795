"""Edits along directions are measured: the strength is the renderer's amount, baselines are what they say."""

import json

import numpy as np
import pytest
import torch

from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.editing import counterfactuals
from wagi.editing.attributes import ATTRIBUTES, direction_of, true_edit
from wagi.experiments import ways
from wagi.experiments.heldout import eight_bit
from wagi.portraits import dataset
from wagi.portraits.edits import parse_edit
from wagi.portraits.parameters import vector
from wagi_rt.directions import Direction, write

SIZE, SEED = 32, 5


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny random model and a folder of pairs that all tests share."""
    root = tmp_path_factory.mktemp("along")
    save_tiny_model(root / "model.pt")
    return root


@pytest.fixture
def pairs(world):
    return counterfactuals.Pairs(world / "pairs", SEED, SIZE, 2)


def table(out, name):
    return json.loads((out / f"{name}.json").read_text())["rows"]


def direction(model, n, **facts):
    vector = np.random.default_rng(n).standard_normal((model.generator.n_latent, model.generator.style_dim))
    return Direction("yaw", vector.astype(np.float32), **facts)


@pytest.mark.parametrize(
    "text", ["yaw+0.3", "smile-0.35", "skin+0.2", "hair_colour+0.1", "glasses=round", "hat=none"]
)
def test_the_strength_of_an_edit_is_the_renderers(text):
    """What an edit changes in a portrait's parameters, in steps of the attribute."""
    change = parse_edit(text)
    portrait = next(p for p in (dataset.portrait(SEED, k) for k in range(50)) if change.apply(p))
    name, strength = direction_of(change)
    attribute = ATTRIBUTES[name]
    before, after = (attribute.of(vector(one)) for one in (portrait, change.apply(portrait)))
    assert strength == pytest.approx((after - before) / attribute.step, rel=1e-3)
    assert true_edit(name, strength) == change  # and back


def test_an_edit_along_a_direction(world, pairs, tmp_path):
    """Rows of E0's latents and of the direction's, which the naive edit of the latter equals."""
    model = checkpoint.load_model(world / "model.pt")
    found = direction(model, 5, generator=checkpoint.weights_hash(model.generator))
    write(tmp_path / "yaw.safetensors", found)
    command = ["edit", "--model", str(world / "model.pt"), "--out", str(tmp_path / "o")]
    command += ["--edits", "yaw-0.15", "--pairs", str(pairs.folder), "--seed", str(SEED), "--count", "2"]
    assert evaluate.main([*command, "--directions", str(tmp_path)]) == 0
    rows = {row["latents"]: row for row in table(tmp_path / "o", "edit") if row["row"] == ways.NAIVE}
    pair = next(counterfactuals.batches(pairs(parse_edit("yaw-0.15")), 2))
    with torch.no_grad():
        image = model.generator(model.encode(pair.source) - 0.5 * torch.from_numpy(found.vector))
    expected = float((eight_bit(image) - pair.edited).square().mean())
    assert set(rows) == {"oracle", "direction"}
    assert rows["direction"]["l2"] == pytest.approx(expected, rel=1e-4)


def test_the_papers_edit_beside_a_flow(world, pairs, tmp_path, capsys):
    """It is that of a model with ADA and the same generator, with nothing faded; others are refused."""
    save_tiny_model(tmp_path / "flow.pt", aligner="flow")
    save_tiny_model(tmp_path / "other.pt", seed=1)
    command = ["edit", "--model", str(tmp_path / "flow.pt"), "--out", str(tmp_path / "o"), "--count", "2"]
    command += ["--edits", "yaw+0.3", "--pairs", str(pairs.folder), "--seed", str(SEED), "--papers"]
    assert evaluate.main([*command, str(world / "model.pt")]) == 0
    rows = {row["row"]: row for row in table(tmp_path / "o", "edit")}
    pair = next(counterfactuals.batches(pairs(parse_edit("yaw+0.3")), 2))
    ada = checkpoint.load_model(world / "model.pt")
    with torch.no_grad():
        image = ada.edit(pair.source, ada.encode(pair.edited), faded=False).image
    expected = float((eight_bit(image) - pair.edited).square().mean())
    assert rows[ways.PAPERS]["l2"] == pytest.approx(expected, rel=1e-4)
    for name, message in (("flow", "has a flow aligner"), ("other", "has another generator than --model")):
        assert evaluate.main([*command, str(tmp_path / f"{name}.pt")]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_directions_that_cannot_serve(world, tmp_path, capsys):
    """None of that name, another generator's, and edits that have no amount: one line, before any work."""
    model = checkpoint.load_model(world / "model.pt")
    write(tmp_path / "yaw.safetensors", direction(model, 6, generator="f" * 64))
    command = ["edit", "--model", str(world / "model.pt"), "--out", str(tmp_path / "o")]
    command += ["--directions", str(tmp_path), "--edits"]
    for text, message in (
        ("smile+0.7", f"{tmp_path / 'smile.safetensors'}: no such file"),
        ("yaw+0.3", f"{tmp_path / 'yaw.safetensors'}: was found in another generator's latents"),
        ("light=other", "light=other: no direction stands for it; there are edits by an amount of yaw"),
    ):
        assert evaluate.main([*command, text]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: --directions {message}")
    assert not (tmp_path / "o").exists()
