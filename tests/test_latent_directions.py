"""Editing directions: found where they are, calibrated by least squares, refused where they do not hold."""

import json

import numpy as np
import pytest
import torch
from tolerances import TOL

from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.editing import directions, search
from wagi.errors import UserError
from wagi.experiments import edit
from wagi.portraits.edits import parse_edit

SIZE, SEED = 32, 5


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny random model."""
    root = tmp_path_factory.mktemp("directions")
    save_tiny_model(root / "model.pt")
    return root


def table(path):
    return json.loads(path.read_text())["rows"]


def test_strength_is_least_squares():
    rng = np.random.default_rng(2)
    shifts, vector = rng.standard_normal((6, 4, 8)), rng.standard_normal((1, 8))
    design = np.tile(np.broadcast_to(vector, (4, 8)).reshape(-1), 6)[:, None]
    (expected,), residual, *_ = np.linalg.lstsq(design, shifts.reshape(-1), rcond=None)
    strength, explained = search.calibrate(shifts, vector)
    assert strength == pytest.approx(expected) and explained == pytest.approx(
        1 - residual[0] / np.square(shifts).sum()
    )


def codes_with_yaw(rng, n=240):
    """Codes in which the first parameter, yaw, moves everything along one known direction."""
    truth = rng.standard_normal((4, 8))
    truth /= np.linalg.norm(truth)
    params = rng.standard_normal((n, 133)).astype(np.float32)
    codes = 6 * params[:, 0, None, None] * truth + 0.2 * rng.standard_normal((n, 4, 8))
    return codes, params, truth


def test_a_known_direction_is_found_and_a_random_one_refused():
    rng = np.random.default_rng(3)
    change = parse_edit("yaw+0.3")
    codes, params, truth = codes_with_yaw(rng)
    shifts = 2 * truth + 0.1 * rng.standard_normal((40, 4, 8))
    found = {row["way"]: (row, made) for row, made in search.measure(change, shifts, codes, params, 0.75)}
    row, made = found["pairs"]
    assert row["offered"] == "yes" and row["auc"] > 0.95
    assert (made.vector * truth).sum() > 0.99 and made.strength * 0.3 == pytest.approx(2, rel=0.05)
    assert found["classifier"][0]["offered"] == "yes" and found["classifier"][1].vector.shape == (1, 8)
    noise = rng.standard_normal((40, 4, 8))
    noise -= (noise * truth).sum((1, 2), keepdims=True) * truth
    unrelated = search.measure(change, noise, codes, params, 0.75)[0][0]
    assert unrelated["way"] == "pairs" and unrelated["offered"] == "no"


def test_an_edit_downwards_gives_the_same_direction():
    rng = np.random.default_rng(4)
    codes, params, truth = codes_with_yaw(rng)
    shifts = 2 * truth + 0.1 * rng.standard_normal((40, 4, 8))
    up, down = (
        search.measure(parse_edit(f"yaw{sign}0.3"), value, codes, params, 0.75)[0][1]
        for sign, value in (("+", shifts), ("-", -shifts))
    )
    np.testing.assert_allclose(up.vector, down.vector, **TOL[np.float64])
    assert up.strength == pytest.approx(down.strength)


def test_direction_files(world, tmp_path, capsys):
    """Ours are what `wagi.convert` reads; another latent space refuses them; the edit command uses them."""
    from wagi import convert

    model = checkpoint.load_model(world / "model.pt")
    space = directions.latent_space(model.encoder, model.generator)
    shape = (model.generator.n_latent, model.generator.style_dim)
    vector = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    change = parse_edit("yaw-0.2")
    path = directions.path_of(tmp_path, change, "pairs")
    directions.write(path, directions.Direction(vector, 2.5), {"made_for": "swagan", "latent_space": space})
    found = directions.read(path, space)
    assert np.array_equal(found.vector, vector) and found.strength == 2.5
    with pytest.raises(UserError, match="latent space"):
        directions.read(path, "another")
    assert convert.main(["--info", str(path), str(world / "model.pt")]) == 0
    assert "yes: directions in the W" in capsys.readouterr().out
    images = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    with torch.no_grad():
        moved = edit.edited_latents(model, images, images, change, found) - model.encode(images)
    np.testing.assert_allclose(moved[1].numpy(), -0.2 * 2.5 * vector, **TOL[np.float32])


def test_the_directions_command(world, tmp_path, capsys):
    """A random encoder offers nothing at an impossible limit and everything at none."""
    command = ["directions", "--model", str(world / "model.pt"), "--edits", "yaw+0.3"]
    shared = ["--pairs", str(world / "pairs"), "--seed", str(SEED)]
    command += [*shared, "--count", "4", "--data", "portraits:6:12"]
    for limit, files in (("1.1", 0), ("0", 2)):
        out = tmp_path / limit
        assert evaluate.main([*command, "--out", str(out), "--minimum-auc", limit]) == 0
        assert len(list(out.glob("*.safetensors"))) == files
        assert {row["offered"] for row in table(out / "directions.json")} == {"yes" if files else "no"}
    assert evaluate.main([*command, "--out", str(tmp_path), "--edits", "yaw+0.3", "yaw-0.3"]) == 2
    assert evaluate.main([*command, "--out", str(tmp_path), "--edits", "light=other"]) == 2
    edits = ["edit", "--model", str(world / "model.pt"), "--out", str(tmp_path / "e"), "--edits", "yaw+0.3"]
    edits += [*shared, "--count", "2", "--latents", "pairs", "oracle"]
    assert evaluate.main([*edits, "--directions", str(tmp_path / "0")]) == 0
    assert {row["latents"] for row in table(tmp_path / "e" / "edit.json")} == {"pairs", "oracle"}
    capsys.readouterr()
    assert evaluate.main(edits) == 2 and "--directions" in capsys.readouterr().err
