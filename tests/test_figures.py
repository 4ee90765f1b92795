"""Figures 1, 2a and 11: every cell is what the model or PyWavelets gives."""

import json

import numpy as np
import pytest
import pywt
import torch
from sheet_pixels import cells
from training_helpers import save_tiny_model, write_portraits

from wagi import checkpoint, evaluate
from wagi.data import to_uint8
from wagi.experiments import figure1, figure11
from wagi.experiments.comparison import TITLE
from wagi.experiments.heldout import load_images

SIZE = 32


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    save_tiny_model(root / "d.pt")
    content = checkpoint.read(root / "d.pt")
    parts = {part: content["weights"][part] for part in ("generator", "encoder")}
    checkpoint.save(root / "e.pt", "encoder", checkpoint.model_config(content, root), parts)
    write_portraits(root / "data", 2)
    return root


def cell(path, line, column):
    top, left = TITLE + line * SIZE, column * SIZE
    return cells(path)[top : top + SIZE, left : left + SIZE].astype(int)


def test_figure_1(world, tmp_path):
    """Models get the noisy pictures and are measured against them; an encoder alone is a model, too."""
    words = [
        "figure1",
        "--model",
        f"E={world / 'e.pt'}",
        f"D={world / 'd.pt'}",
        "--data",
        str(world / "data"),
    ]
    assert evaluate.main([*words, "--noise", "0.2", "--out", str(tmp_path)]) == 0
    clean = load_images(str(world / "data"), SIZE)
    images = figure1.noisy(clean, 0.2)
    assert 0.15 < float((images - clean).std()) < 0.21  # clipped at black and white
    with torch.no_grad():
        naive, final = checkpoint.load_model(world / "d.pt").results(images)
    rows = json.loads((tmp_path / "figure1.json").read_text())["rows"]
    for column, (found, row) in enumerate(zip((naive, final), rows, strict=True), 1):
        pixels = to_uint8(found)
        assert np.abs(cell(tmp_path / "figure1.png", 0, column) - pixels[0]).max() <= 1
        difference = (pixels / 127.5 - 1) - (to_uint8(images) / 127.5 - 1)
        assert row["l2"] == pytest.approx(np.square(difference).mean(), rel=1e-4)
    assert cells(tmp_path / "figure1.png").shape == (TITLE + 4 * SIZE, 3 * SIZE, 3)
    alone = ["figure1", "--model", str(world / "d.pt"), "--data", str(world / "data"), "--noise", "0.2"]
    assert evaluate.main([*alone, "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "figure1.json").read_text())["rows"]
    assert [row["model"] for row in again] == ["naive", "WaGI"]
    assert [row["l2"] for row in again] == [row["l2"] for row in rows]


def test_figure_2a(world, tmp_path):
    words = ["figure2a", "--data", str(world / "data"), "--size", str(SIZE), "--out", str(tmp_path)]
    assert evaluate.main(words) == 0
    pixels = np.load(world / "data" / "images.npy")[1] / 127.5 - 1
    low, details = pywt.dwt2(pixels, "haar", axes=(0, 1))
    for column, band in enumerate((low / 2, *(2 * each for each in details)), 1):
        expected = (np.clip(band, -1, 1) + 1) * 127.5
        found = cell(tmp_path / "figure2a.png", 1, column)
        assert np.abs(found[::2, ::2] - expected).max() <= 0.51


def test_figure_11(world, tmp_path):
    """The maps are those with which the result is made: the gates drawn decode to it."""
    model, images = checkpoint.load_model(world / "d.pt"), load_images(str(world / "data"), SIZE)
    with torch.no_grad():
        for name, parameter in model.fusion.named_parameters():
            if "scale" in name or "shift" in name:
                parameter.normal_(0, 0.3)
    shown, found = figure11.maps(model, images), model.invert(images)
    torch.testing.assert_close(shown["result"], found.image)
    torch.testing.assert_close(shown["aligned residual"], found.aligned / 2)
    g, h = model.fusion(found.aligned).wavelets[16]
    torch.testing.assert_close(shown["|g|, wavelets 16 px"], g.abs().mean(1))
    torch.testing.assert_close(shown["LH added, 16 px"], figure11.GAIN * h[:, 3:6])
    assert {"|g|, features 8 px", "|h|, features 16 px", "HH added, 16 px"} <= shown.keys()
    words = ["figure11", "--model", str(world / "d.pt"), "--data", str(world / "data")]
    assert evaluate.main([*words, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure11.png").read_bytes().startswith(b"\x89PNG")


def test_sheets_of_a_users_pictures(world, tmp_path, capsys):
    words = ["sheet", "--model", f"E={world / 'e.pt'}", f"D={world / 'd.pt'}", "--data", str(world / "data")]
    assert evaluate.main([*words, "--blocks", "1", "--out", str(tmp_path / "s.png")]) == 0
    images = load_images(str(world / "data"), SIZE)
    for line, expected in enumerate(to_uint8(images)):
        assert np.abs(cell(tmp_path / "s.png", line, 0) - expected).max() <= 1
    # D's naive column is left out beside E, which is an encoder alone.
    assert cells(tmp_path / "s.png").shape == (TITLE + 2 * SIZE, 3 * SIZE, 3)
    assert evaluate.main([*words, "--kind", "edit", "--out", str(tmp_path / "s.png")]) == 2
    assert "--data: has no true edits; give --directions DIR" in capsys.readouterr().err
