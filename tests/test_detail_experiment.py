"""`evaluate detail`: models without and with the input's bands above R, measured as numpy does it."""

import json

import numpy as np
import pytest
import torch

from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.editing.counterfactuals import Pairs, batches
from wagi.experiments import detail
from wagi.experiments.heldout import eight_bit
from wagi.model import WaGI
from wagi.portraits.edits import parse_edit

SIZE, R, SEED, COUNT = 64, 32, 5, 2


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("detail")
    save_tiny_model(root / "small.pt", size=SIZE, residual_resolution=R, aligner="flow")
    save_tiny_model(root / "early.pt", size=SIZE, residual_resolution=R, aligner="flow", naive="early")
    for name in ("small.pt", "early.pt"):
        open_gates(root / name)
    save_tiny_model(root / "whole.pt", size=SIZE, feature_levels=(16, 32), wavelet_levels=(32,))
    command = [
        "detail",
        "--model",
        f"R32={root / 'small.pt'}",
        f"early={root / 'early.pt'}",
        f"R64={root / 'whole.pt'}",
        "--out",
        str(root),
    ]
    command += [
        "--edits",
        "yaw+0.3",
        "--pairs",
        str(root / "pairs"),
        "--seed",
        str(SEED),
        "--count",
        str(COUNT),
    ]
    assert evaluate.main(command) == 0
    rows = json.loads((root / "detail.json").read_text())["rows"]
    return root, {row["row"]: row for row in rows}


def open_gates(path):
    """Give the fusion, whose gates begin closed, weights with which the residual matters."""
    content = checkpoint.read(path)
    rng = torch.Generator().manual_seed(1)
    for value in content["weights"]["fusion"].values():
        if value.is_floating_point():
            value += 0.2 * torch.rand(value.shape, generator=rng)
    checkpoint.save(path, "inversion", checkpoint.model_config(content, path), content["weights"])


def test_every_row_is_there(table):
    root, rows = table
    ways = ("", f", {detail.UNMOVED}", f", {detail.WITH}")
    assert list(rows) == [*(f"R32{way}" for way in ways), *(f"early{way}" for way in ways), "R64"]
    assert (root / "detail-yaw+0.3.png").is_file()
    assert all(row["portraits-ID"] is not None for row in rows.values())


def test_errors_are_those_of_the_models_images(table):
    root, rows = table
    change = parse_edit("yaw+0.3")
    pair = next(batches(Pairs(root / "pairs", SEED, SIZE, COUNT)(change), COUNT))
    model, early = (checkpoint.load_model(root / name) for name in ("small.pt", "early.pt"))
    full = WaGI(model.generator, model.encoder, model.aligner, model.fusion, full_detail=True).eval()
    with torch.no_grad():
        for row, one in (("R32", model), ("early", early), (f"R32, {detail.WITH}", full)):
            found = one.invert(pair.source)
            edited = one.edit(found, one.encode(pair.edited)).image
            assert rows[row]["inversion l2"] == pytest.approx(l2(found.image, pair.source), rel=1e-4)
            assert rows[row]["l2"] == pytest.approx(l2(edited, pair.edited), rel=1e-4)


def l2(found, wanted):
    return float(np.square((eight_bit(found) - wanted).numpy()).mean())
