"""`evaluate origins`: colours are the aligner's own shares, and the renderer's truth beside them."""

import numpy as np
import pytest
import torch
from sheet_pixels import cells
from training_helpers import save_tiny_model

from wagi import checkpoint, evaluate
from wagi.data import to_uint8
from wagi.editing.counterfactuals import Pairs, batches
from wagi.experiments import origins
from wagi.experiments.comparison import TITLE
from wagi.networks.flow_alignment import Alignment
from wagi.portraits import dataset, edit
from wagi.portraits.edits import parse_edit
from wagi.portraits.motion import motion

SIZE, SEED = 32, 5


def test_shares_of_the_aligner():
    """What is taken from the input without a move is no colour; half a pixel is none."""
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, 0] = torch.tensor([[0.0, 0.4, 2.0]])
    weights = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    gate = torch.tensor([1.0, 1.0, 0.5]).view(1, 1, 1, 3)
    found = origins.estimated(Alignment(torch.zeros(1, 3, 1, 3), (flow,), weights, gate))
    expected = [[0.0, 0.3, 0.2], [0.0, 0.3, 0.2], [0.25, 0.15, 0.1]]
    np.testing.assert_allclose(found[0, :, 0].T.numpy(), expected, atol=1e-7)


def test_paint():
    """Grey where nothing is claimed, TINT of the colour where all is."""
    image = torch.tensor([0.9, 0.3, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    shares = torch.zeros(1, 2, 2, 2)
    shares[0, 1, 0, 0] = 1
    found = origins.painted(image, shares, (origins.GREEN, origins.ORANGE))
    np.testing.assert_allclose(found[0, :, 1, 1].numpy(), [0.4] * 3, atol=1e-6)
    mixed = (1 - origins.TINT) * 0.4 + origins.TINT * np.array(origins.ORANGE)
    np.testing.assert_allclose(found[0, :, 0, 0].numpy(), mixed, atol=1e-6)


@pytest.mark.parametrize("text", ["yaw+0.3", "skin+0.4"])
def test_the_truth_is_the_renderers(tmp_path, text):
    change = parse_edit(text)
    pair = next(batches(Pairs(tmp_path, SEED, SIZE, 1)(change), 1))
    moved, new = origins.true_origins(pair)[0].numpy()
    if text == "skin+0.4":
        difference = np.abs(pair.edited[0].numpy() - pair.source[0].numpy()).mean(0)
        assert not moved.any()
        np.testing.assert_array_equal(new, difference > 0.1)
        return
    index = Pairs(tmp_path, SEED, SIZE, 1).chosen(change)[0]
    portrait = dataset.portrait(SEED, index)
    flow, seen = motion(edit(portrait, yaw=portrait.yaw + 0.3), portrait, SIZE)
    np.testing.assert_array_equal(new, ~seen)
    agree = moved == (seen & (np.hypot(*flow) > origins.MOVED))
    assert agree.mean() > 0.99 and moved.sum() > 100  # the kept flow is in half precision


def test_the_sheet(tmp_path):
    """A line per edit; WaGI's column is the model's edit."""
    save_tiny_model(tmp_path / "flow.pt", aligner="flow")
    out, pairs = tmp_path / "origins.png", tmp_path / "pairs"
    command = ["origins", "--model", str(tmp_path / "flow.pt"), "--out", str(out), "--pairs", str(pairs)]
    assert evaluate.main([*command, "--seed", str(SEED), "--edits", "yaw+0.3", "skin+0.4"]) == 0
    pixels = cells(out, left=TITLE)
    assert pixels.shape == (TITLE + 2 * SIZE, TITLE + 7 * SIZE, 3)
    model = checkpoint.load_model(tmp_path / "flow.pt")
    pair = next(batches(Pairs(pairs, SEED, SIZE, 1)(parse_edit("skin+0.4")), 1))
    with torch.no_grad():
        image = model.edit(pair.source, model.encode(pair.edited)).image
    cell = pixels[TITLE + SIZE :, TITLE + 5 * SIZE : TITLE + 6 * SIZE]
    assert np.abs(cell.astype(int) - to_uint8(image)[0]).max() <= 1


def test_ada_has_no_account(tmp_path, capsys):
    model = str(save_tiny_model(tmp_path / "ada.pt"))
    assert evaluate.main(["origins", "--model", model, "--out", str(tmp_path / "x.png")]) == 2
    assert "has no flow aligner" in capsys.readouterr().err
