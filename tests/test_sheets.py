"""Sheets and samples: the pictures are what the models give, of portraits in the order of their seed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sheet_pixels import cells
from tests.training_helpers import save_tiny_model
from wagi import checkpoint, evaluate
from wagi.data import open_dataset, to_uint8
from wagi.experiments import ood, samples
from wagi.experiments.comparison import TITLE, comparison
from wagi.loader import batch_of

SIZE = 32


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models that share generator and encoder, and one with its own."""
    root = tmp_path_factory.mktemp("models")
    save_tiny_model(root / "a.pt")
    save_tiny_model(root / "c.pt", seed=1)
    content = checkpoint.read(root / "a.pt")
    content["weights"]["aligner"] = checkpoint.read(root / "c.pt")["weights"]["aligner"]
    config = checkpoint.model_config(content, root)
    checkpoint.save(root / "b.pt", "inversion", config, content["weights"])
    return root


def pixels_of(path):
    return cells(path)


def cell(sheet, line, column):
    top, left = TITLE + line * SIZE, column * SIZE
    return sheet[top : top + SIZE, left : left + SIZE]


def test_a_comparison_shows_every_image_once():
    """Five images in two blocks: three lines, then two and a white one."""
    images = torch.rand(5, 3, SIZE, SIZE) * 2 - 1
    whole = comparison({"one": images, "two": -images}, repeat=2)
    sheet = cells(whole)
    assert (whole[TITLE:] == sheet[TITLE:].repeat(3, 0).repeat(3, 1)).all()  # 96 px: titles can be read
    assert sheet.shape == (TITLE + 3 * SIZE, 4 * SIZE, 3)
    for k in range(5):
        expected = (images[k].permute(1, 2, 0).numpy() + 1) * 127.5
        np.testing.assert_allclose(cell(sheet, k % 3, 2 * (k // 3)), expected, atol=0.5001)
        np.testing.assert_allclose(cell(sheet, k % 3, 2 * (k // 3) + 1), 255 - expected, atol=0.5001)
    assert (cell(sheet, 2, 2) == 255).all() and (sheet[:TITLE] != 255).any()


def test_the_sheet_of_held_out_results(models, tmp_path, capsys):
    """Input, naive, final of portraits 0, 1, 2 of the seed: `load_model(...).invert` of those."""
    out = tmp_path / "docs" / "sheet.png"
    command = ["sheet", "--model", str(models / "a.pt"), "--count", "3", "--blocks", "1", "--seed", "4"]
    assert evaluate.main([*command, "--out", str(out)]) == 0
    data = open_dataset("portraits:4:3", SIZE)
    images = batch_of(data, range(3))["image"]
    with torch.no_grad():
        found = checkpoint.load_model(models / "a.pt").invert(images)
    sheet = pixels_of(out)
    for column, expected in enumerate((images, found.naive, found.image)):
        for line, picture in enumerate(to_uint8(expected)):
            assert np.abs(cell(sheet, line, column).astype(int) - picture).max() <= 1
    assert evaluate.main([*command, "--out", str(tmp_path / "sheet.gif")]) == 2
    assert "*.png or *.jpg" in capsys.readouterr().err


def test_figure_4_and_its_edit(models, tmp_path, capsys):
    """One column per model; models of one generator and encoder share the naive column."""
    names = [f"{name}={models / name}.pt" for name in "abc"]
    shared = ["sheet", "--model", *names, "--count", "2", "--blocks", "1"]
    assert evaluate.main([*shared, "--out", str(tmp_path / "figure4.png")]) == 0
    assert pixels_of(tmp_path / "figure4.png").shape == (TITLE + 2 * SIZE, 6 * SIZE, 3)
    pairs = ["--kind", "edit", "--pairs", str(tmp_path / "pairs")]
    assert evaluate.main([*shared, *pairs, "--out", str(tmp_path / "edit.jpg")]) == 0
    assert pixels_of(tmp_path / "edit.jpg").shape == (TITLE + 2 * SIZE, 7 * SIZE, 3)
    capsys.readouterr()
    assert evaluate.main(["sheet", "--model", names[0], names[0], "--out", str(tmp_path / "x.png")]) == 2
    assert "two models named a" in capsys.readouterr().err


def test_samples(models, tmp_path):
    """The table's errors are those of G(map(z)) against the renderings, z = (parameters, one noise)."""
    command = ["samples", "--model", str(models / "a.pt"), "--count", "3", "--turned", "1", "--seed", "8"]
    assert evaluate.main([*command, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "samples.json").read_text())["rows"]
    assert [row["scenes"] for row in rows] == ["3 new", *(f"yaw {yaw:+.1f}" for yaw in samples.YAWS)]
    data = open_dataset("portraits:8:3", SIZE)
    batch = batch_of(data, range(3))
    generator = checkpoint.load_generator(models / "a.pt")
    noise = torch.randn(1, generator.style_dim - 133, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        w = generator.map(torch.cat([batch["params"], noise.expand(3, -1)], dim=1))
        images = generator(generator.broadcast(w)).clamp(-1, 1)
    assert rows[0]["l2"] == pytest.approx(float((images - batch["image"]).square().mean()), rel=1e-4)
    assert rows[4]["l2"] == rows[4]["l2 not turned"]  # yaw 0 is not turned
    assert Image.open(tmp_path / "samples.png").size == (3 * SIZE, SIZE)
    assert pixels_of(tmp_path / "samples-yaw.png").shape == (TITLE + 2 * SIZE, 7 * SIZE, 3)


def test_a_generator_without_parameters_has_no_samples(tmp_path, capsys):
    save_tiny_model(tmp_path / "noise.pt", param_dim=0)
    assert evaluate.main(["samples", "--model", str(tmp_path / "noise.pt"), "--out", str(tmp_path)]) == 2
    assert "does not read a scene's parameters" in capsys.readouterr().err


def test_colour_blocks_are_seen():
    """One wrong patch is the worst block, by its own amount; noise without a mean is none."""
    target = torch.zeros(1, 3, 64, 64)
    patch = target.clone()
    patch[:, 2, 16:32, 32:48] = 0.75
    errors = ood.block_errors(patch, target)
    assert errors.shape == (1, 3, 4, 4) and float(errors[0, 2, 1, 2]) == 0.75 and float(errors.sum()) == 0.75
    checkerboard = target.clone()
    checkerboard[..., ::2, ::2], checkerboard[..., 1::2, ::2] = 1.0, -1.0
    assert float(ood.block_errors(checkerboard, target).max()) == 0


def test_out_of_distribution(models, tmp_path):
    pytest.importorskip("skimage", reason="scikit-image brings the photos")
    assert evaluate.main(["ood", "--model", str(models / "a.pt"), "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "ood.json").read_text())["rows"]
    assert [(row["picture"], row["method"]) for row in rows] == [
        (picture, method) for picture in ("astronaut", "cat", "coffee") for method in ("naive", "WaGI")
    ]
    assert all(0 <= row["mean block"] <= row["worst block"] <= 2 for row in rows)
    assert pixels_of(tmp_path / "ood.png").shape == (TITLE + 3 * SIZE, 3 * SIZE, 3)
