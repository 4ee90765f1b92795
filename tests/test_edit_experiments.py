"""Edits are measured against true counterfactuals: the numbers are what numpy makes of the same pictures."""

import json
import re

import numpy as np
import pytest
import pywt
import torch
from tolerances import TOL

from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.editing import counterfactuals
from wagi.errors import UserError
from wagi.experiments import edit, ways
from wagi.experiments.heldout import eight_bit
from wagi.experiments.regions import RegionMeans, Strength, l1_maps, l2_maps, masked_sum, masks, wave_maps
from wagi.losses import wavelet_loss
from wagi.portraits import LABELS, dataset, render_regions
from wagi.portraits import edit as change_portrait
from wagi.portraits import render as render_portrait
from wagi.portraits.edits import parse_edit
from wagi.portraits.motion import motion

SIZE, SEED, COUNT = 32, 5, 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny random model and a folder of pairs that all tests share."""
    root = tmp_path_factory.mktemp("edits")
    save_tiny_model(root / "model.pt")
    return root


@pytest.fixture
def pairs(world):
    return counterfactuals.Pairs(world / "pairs", SEED, SIZE, COUNT)


def table(out, name):
    return json.loads((out / f"{name}.json").read_text())["rows"]


def numpy_pairs(pairs, change):
    """The renderer's own pictures in [-1, 1], [N, S, S, 3] each, and the labels of the edit."""
    sources = [dataset.portrait(SEED, index) for index in pairs.chosen(change)]
    edited = [change_portrait(one, yaw=one.yaw + change.change) for one in sources]
    a, b = ([render_portrait(one, SIZE) / 127.5 - 1 for one in side] for side in (sources, edited))
    return np.stack(a), np.stack(b), np.stack([render_regions(one, SIZE) for one in edited])


# ------------------------------------------------------------------------------------------------- pairs


def test_pairs_are_the_renderers_pictures(pairs):
    change = parse_edit("yaw+0.3")
    pair = next(counterfactuals.batches(pairs(change), COUNT))
    expected = numpy_pairs(pairs, change)
    for found, wanted in zip((pair.source, pair.edited), expected, strict=False):
        np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), wanted, **TOL[np.float32])
    regions, accessory = pair.regions.numpy(), LABELS.index("accessory")
    assert np.array_equal(np.where(regions > accessory, accessory, regions), expected[2])


def test_pairs_are_rendered_once(pairs, monkeypatch):
    change = parse_edit("yaw+0.3")
    list(pairs(change))
    monkeypatch.setattr(counterfactuals, "render_both", None)  # a call would fail
    assert len(list(pairs(change))) == COUNT


def test_what_a_portrait_wears_has_regions_of_its_own(tmp_path, monkeypatch):
    """Sunglasses at the eyes, earrings below them on both sides; the hat keeps its label."""
    worn = {"glasses": "sun", "earrings": "drop", "hat": "cap", "hair_style": "bald", "accessory": "none"}
    portrait = change_portrait(dataset.portrait(SEED, 0), yaw=0.0, pitch=0.0, roll=0.0, **worn)
    monkeypatch.setattr(counterfactuals.dataset, "portrait", lambda seed, index: portrait)
    (pair,) = counterfactuals.Pairs(tmp_path, SEED, 64, 1)(None)
    regions = pair.regions.numpy()
    (glasses, across), (earrings, sides) = (np.nonzero(regions == len(LABELS) + k) for k in range(2))
    assert 26 < glasses.mean() < 38 and 28 < across.mean() < 36 and len(glasses) > 60
    assert earrings.min() > glasses.mean() and sides.min() < across.min() and sides.max() > across.max()
    assert (regions == LABELS.index("hat")).any()


def test_hair_is_lightened_by_an_amount(pairs):
    change = parse_edit("hair_colour+0.2")
    for index in pairs.chosen(change):
        portrait = dataset.portrait(SEED, index)
        lighter = [channel + 0.2 for channel in portrait.hair_colour]
        assert change.apply(portrait).hair_colour == pytest.approx(lighter)


def test_an_edit_stays_in_the_parameters_range(pairs):
    change = parse_edit("smile+0.7")
    chosen = pairs.chosen(change)
    smiles = [dataset.portrait(SEED, index).smile for index in range(max(chosen) + 1)]
    assert chosen == [index for index, smile in enumerate(smiles) if smile + 0.7 <= 1.0]


def test_a_category_is_given_to_those_without_it(pairs):
    change = parse_edit("glasses=square")
    for index in pairs.chosen(change):
        portrait = dataset.portrait(SEED, index)
        assert portrait.glasses == "none" and change.apply(portrait).glasses == "square"


@pytest.mark.parametrize(
    "text", ["yaw", "yaw+0", "nose+1", "hat=crown", "hat=other", "clothes=dots", "yaw+x"]
)
def test_unknown_edits_are_refused(text):
    with pytest.raises(UserError, match=re.escape(f"{text}: write NAME+AMOUNT")) as error:
        parse_edit(text)
    assert error.value.status == 2


def test_a_damaged_picture_is_named(pairs, tmp_path):
    change = parse_edit("yaw+0.3")
    mine = counterfactuals.Pairs(tmp_path, SEED, SIZE, 1)
    list(mine(change))
    (file,) = tmp_path.rglob("yaw+0.3/*.npz")
    file.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"000000\.npz: cannot be used \(damaged\); delete it"):
        list(mine(change))


# ----------------------------------------------------------------------------------------------- regions


def test_regions_are_pixel_weighted_means():
    """Over two batches, against numpy on all pixels at once; a region nobody has is None, not zero."""
    rng = np.random.default_rng(0)
    error = rng.standard_normal((5, 3, 16, 16)).astype(np.float32)
    labels = rng.choice([2, 7], (5, 16, 16), p=[0.8, 0.2]).astype(np.uint8)
    means = RegionMeans("l1", "l2")
    for part in (slice(0, 2), slice(2, 5)):
        nothing = torch.zeros(len(error[part]), 3, 16, 16)
        pair = counterfactuals.Pair(nothing, nothing, torch.from_numpy(labels[part]), None, None)
        weights = masks(pair)
        means.add("row", torch.from_numpy(error[part]), weights)
    found = means.rows()["row"]
    letters = error.transpose(0, 2, 3, 1)[labels == 7]
    assert found["l1"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert found["l2"] == pytest.approx(np.square(error).mean(), rel=1e-5)
    assert found["l1 letters"] == pytest.approx(np.abs(letters).mean(), rel=1e-5)
    assert found["l2 letters"] == pytest.approx(np.square(letters).mean(), rel=1e-5)
    assert found["l2 mouth"] is None and found["l2 changed"] is None
    assert found["l2 unchanged"] == found["l2"]


def test_l_wave_by_region():
    """Against PyWavelets with each coefficient weighted by its share of the mask; ones: the loss itself."""
    rng = np.random.default_rng(1)
    error = rng.standard_normal((1, 1, 16, 16))
    mask = (rng.random((16, 16)) < 0.3).astype(float)
    expected, approximation = 0.0, error[0, 0]
    for level in (1, 2, 3):
        approximation, details = pywt.dwt2(approximation, "haar")
        blocks = mask.reshape(16 >> level, 1 << level, 16 >> level, 1 << level).sum(axis=(1, 3))
        expected += sum(float((np.square(band) * blocks).sum()) for band in details)
    found = masked_sum(wave_maps(torch.from_numpy(error)), torch.from_numpy(mask)[None, None])
    assert found == pytest.approx(expected, rel=1e-9)
    image, ones = torch.randn(2, 3, 16, 16), torch.ones(2, 1, 16, 16)
    whole = masked_sum(wave_maps(image), ones) / float(ones.sum())
    assert whole == pytest.approx(float(wavelet_loss(image, torch.zeros_like(image))), rel=1e-5)


@pytest.mark.parametrize("measure", [l1_maps, l2_maps, wave_maps])
def test_no_error_is_zero(measure):
    assert masked_sum(measure(torch.zeros(1, 3, 16, 16)), torch.ones(1, 1, 16, 16)) == 0


# -------------------------------------------------------------------------------------------------- edit


def test_the_edit_command(world, pairs):
    """The copy's row equals numpy on the renderings; the naive and bound rows equal direct computation."""
    out, change = world / "out", parse_edit("yaw+0.3")
    command = ["edit", "--model", str(world / "model.pt"), "--out", str(out), "--edits", "yaw+0.3"]
    command += ["--pairs", str(pairs.folder), "--seed", str(SEED), "--count", str(COUNT)]
    assert evaluate.main(command) == 0
    rows = {row["row"]: row for row in table(out, "edit")}
    source, edited, labels = numpy_pairs(pairs, change)
    assert rows["copy of the input"]["l2"] == pytest.approx(np.square(source - edited).mean(), rel=1e-5)
    mouth = np.square(source - edited)[labels == 4].mean()
    assert rows["copy of the input"]["l2 mouth"] == pytest.approx(mouth, rel=1e-5)
    model = checkpoint.load_model(world / "model.pt")
    target = torch.from_numpy(edited).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        naive = model.generator(model.encode(target))
    naive = eight_bit(naive)
    assert rows["naive edit"]["l2"] == pytest.approx(float((naive - target).square().mean()), rel=1e-4)
    alignment = {row["row"]: row for row in table(out, "alignment")}
    assert alignment["no residual"]["l1"] == pytest.approx(float((target - naive).abs().mean()), rel=1e-4)
    assert alignment["ADA"][edit.NEARER].endswith(f"/{COUNT}")
    assert (out / "edit-yaw+0.3-oracle.png").is_file() and "| WaGI " in (out / "edit.md").read_text()


def test_perfect_alignment_is_zero(world, monkeypatch):
    """A model whose aligner knows the answer: its residual row is zero, its image is the bound's."""
    model = checkpoint.load_model(world / "model.pt")
    source, edited = torch.rand(2, 2, 3, SIZE, SIZE) * 2 - 1
    with torch.no_grad():
        ws_edit = model.encode(edited)
        answer = model.residual(edited, model.generator(ws_edit))
        monkeypatch.setattr(model.aligner, "forward", lambda residual, image: answer)
        images, residuals, true, _ = ways.edited_images(model, source, edited, ws_edit)
    assert torch.equal(residuals["ADA"], true) and torch.equal(images[ways.SHIPPED], images[ways.BOUND])


def test_strength_against_numpy():
    """0 for the source, 1 for the true edit, half way between them, over changed pixels, in two batches."""
    rng = np.random.default_rng(2)
    source, edited, result = rng.uniform(-1, 1, (3, 4, 3, 8, 8))
    changed = rng.random((4, 1, 8, 8)) < 0.4
    found = Strength()
    for part in (slice(0, 1), slice(1, 4)):
        a, b, r, m = (torch.from_numpy(v[part]) for v in (source, edited, result, changed))
        for name, image in {"a": a, "b": b, "half": (a + b) / 2, "r": r}.items():
            found.add(name, image, a, b, m.double())
    rows = found.rows()
    way = (edited - source) * changed
    assert rows["a"] == 0 and rows["b"] == pytest.approx(1) and rows["half"] == pytest.approx(0.5)
    assert rows["r"] == pytest.approx(((result - source) * way).sum() / np.square(way).sum())


def test_the_edit_command_with_the_flow_aligner(world, pairs):
    """Its own rows, of which the shipped one is the model's edit in 8 bits."""
    save_tiny_model(world / "flow.pt", aligner="flow")
    out = world / "flow"
    command = ["edit", "--model", str(world / "flow.pt"), "--out", str(out), "--edits", "yaw+0.3"]
    command += ["--pairs", str(pairs.folder), "--seed", str(SEED), "--count", str(COUNT)]
    assert evaluate.main(command) == 0
    rows = {row["row"]: row for row in table(out, "edit")}
    assert not [name for name in rows if "ADA" in name]
    pair = next(counterfactuals.batches(pairs(parse_edit("yaw+0.3")), COUNT))
    model = checkpoint.load_model(world / "flow.pt")
    with torch.no_grad():
        image = model.edit(pair.source, model.encode(pair.edited)).image
    expected = float((eight_bit(image) - pair.edited).square().mean())
    assert rows[ways.SHIPPED]["l2"] == pytest.approx(expected, rel=1e-4)
    assert rows[ways.COPY]["strength"] == 0 and rows[ways.SHIPPED]["portraits-ID"] is not None
    assert rows[ways.SHIPPED]["portraits-FID"] is not None and ways.PAPERS not in rows
    alignment = {row["row"]: row for row in table(out, "alignment")}
    assert alignment["flow"][edit.NEARER].endswith(f"/{COUNT}")
    portrait = dataset.portrait(SEED, pairs.chosen(parse_edit("yaw+0.3"))[0])
    flow, seen = motion(change_portrait(portrait, yaw=portrait.yaw + 0.3), portrait, SIZE)
    assert np.array_equal(pair.newly[0, 0].numpy(), ~seen)
    np.testing.assert_allclose(pair.flow[0].numpy(), flow, atol=0.02)
    still = (pair.flow.norm(dim=1) * (1 - pair.newly[:, 0])).sum() / (1 - pair.newly).sum()
    assert alignment["raw residual"][edit.END_POINT] == pytest.approx(float(still), rel=1e-4)
