"""The three stages run one after the other, write what they promise, and say clearly what is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training_helpers import run, write_portraits
from wagi import checkpoint
from wagi.config import STAGES, settings
from wagi.errors import UserError
from wagi.presets import CONFIGURATIONS, PRESETS
from wagi.training.generator import make_stage


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_portraits(tmp_path_factory.mktemp("data") / "p")


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """generator -> encoder -> inversion with the smoke preset."""
    root = tmp_path_factory.mktemp("runs")
    fast = ("--steps", "5", "--log-every", "2", "--grid-every", "4")
    assert run("generator", data, root / "g", *fast) == 0
    assert run("encoder", data, root / "e", *fast, "--generator", str(root / "g" / "checkpoint.pt")) == 0
    assert run("inversion", data, root / "i", *fast, "--encoder", str(root / "e" / "checkpoint.pt")) == 0
    return root


def test_the_trained_model_inverts(runs):
    model = checkpoint.load_model(runs / "i" / "checkpoint.pt")
    with torch.no_grad():
        found = model.invert(torch.zeros(2, 3, 32, 32))
    assert found.image.shape == (2, 3, 32, 32) and torch.isfinite(found.image).all()


def test_frozen_parts_stay_as_they_were(runs):
    generator, encoder, inversion = (checkpoint.read(runs / s / "checkpoint.pt")["weights"] for s in "gei")
    for before, after, part in (
        (generator, encoder, "generator"),
        (generator, inversion, "generator"),
        (encoder, inversion, "encoder"),
    ):
        assert all(torch.equal(before[part][k], after[part][k]) for k in before[part])
    assert any(not torch.equal(generator["encoder"][k], encoder["encoder"][k]) for k in generator["encoder"])


def test_average_of_the_mapping_is_kept(data, tmp_path):
    """latent_avg moves by 1 - beta to the mean of map(parameters); it is averaged as all weights are."""
    options = ["--set", "style_dim=5", "--batch", "16", "--steps", "1", "--lr", "1e-30"]
    options += ["--set", "latent_avg_beta=0.75", "--set", "mapping_lr=1e-30", "--set", "encoder_lr=1e-30"]
    assert run("generator", data, tmp_path / "g", *options) == 0
    path = tmp_path / "g" / "checkpoint.pt"
    seen = torch.from_numpy(np.load(data / "parameters.npy"))[4:]  # the first four are held out
    with torch.no_grad():
        expected = 0.25 * checkpoint.load_generator(path).map(seen).mean(0)
    live = checkpoint.read(path)["training"]["models"]["generator"]["latent_avg"]
    torch.testing.assert_close(live, expected, atol=1e-6, rtol=1e-4)
    assert expected.abs().max() > 1e-3
    kept = checkpoint.load_generator(path).latent_avg
    torch.testing.assert_close(kept, (1 - 2 / 11) * expected, atol=1e-6, rtol=1e-4)  # after one step


@pytest.mark.parametrize(("term", "moved"), [("lambda_w", "style"), ("lambda_delta", "encoder")])
def test_the_mapping_network_follows_the_encoder(term, moved):
    """What draws their codes together trains the mapping network only; the offsets are the encoder's."""
    weights = dict.fromkeys(("lambda_image", "lambda_w", "lambda_delta"), "0") | {term: "1"}
    stage = make_stage(*settings("smoke", "generator", {"param_dim": "10", **weights}))
    torch.nn.init.normal_(stage.encoder.deltas[0].weight)  # offsets start at zero
    batch = {"image": torch.rand(4, 3, 32, 32) * 2 - 1, "params": torch.randn(4, 10)}
    loss, _ = stage.distill(batch, torch.Generator().manual_seed(0), step=0)
    loss.backward()
    parts = {"style": stage.generator.style, "encoder": stage.encoder}
    grads = {name: [p.grad for p in part.parameters() if p.grad is not None] for name, part in parts.items()}
    for name, found in grads.items():
        assert any(grad.any() for grad in found) == (name == moved), name


@pytest.mark.parametrize("stage", ["g", "e", "i"])
def test_logs_and_pictures(stage, runs):
    folder = runs / stage
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 4, 5, 5]
    assert all(line["images_per_second"] > 0 for line in lines if "images_per_second" in line)
    assert any(key.startswith("eval/") for key in lines[-1])
    for step in (4, 5):
        with Image.open(folder / "grids" / f"step-{step:07d}.png") as grid:
            assert grid.width == 4 * 32 and grid.height in (2 * 32, 3 * 32, 4 * 32)
    assert list((folder / "tensorboard").iterdir())
    assert json.loads((folder / "settings.json").read_text())["model"]["size"] == 32


def test_alignment_is_reported_against_doing_nothing(runs):
    last = (runs / "i" / "metrics.jsonl").read_text().splitlines()[-1]
    assert {"eval/ada_l1", "eval/warped_l1", "eval/l2_naive", "eval/l2_fused"} <= json.loads(last).keys()


def test_fusion_starts_at_the_naive_inversion(data, runs, tmp_path, capsys):
    """Zero-initialised gates: while only ADA trains, the fused image is the naive one."""
    options = ["--encoder", str(runs / "e" / "checkpoint.pt"), "--set", "ada_steps=9", "--steps", "2"]
    assert run("inversion", data, tmp_path / "i", *options) == 0
    with torch.no_grad():
        found = checkpoint.load_model(tmp_path / "i" / "checkpoint.pt").invert(torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(found.image, found.naive, atol=1e-6, rtol=0)


@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_paper_configurations(letter, runs, data, tmp_path):
    generator = runs / "g" / "checkpoint.pt"
    if letter == "A":
        assert run("generator", data, tmp_path / "g", "--steps", "1", "--configuration", "A") == 0
        generator = tmp_path / "g" / "checkpoint.pt"
    options = [
        "--generator",
        str(generator),
        "--configuration",
        letter,
        "--steps",
        "1",
        "--set",
        "ada_steps=0",
    ]
    assert run("inversion", data, tmp_path / "i", *options) == 0
    model = checkpoint.load_model(tmp_path / "i" / "checkpoint.pt")
    assert type(model.generator).__name__ == ("StyleGAN2Generator" if letter == "A" else "Generator")
    gates = model.fusion(torch.zeros(1, 3, 32, 32))
    levels = {"C+": (2, 0), "D": (2, 1)}.get(letter, (1, 0))
    assert (len(gates.features), len(gates.wavelets)) == levels


@torch.no_grad()
def test_growing_starts_with_the_enlarged_picture(runs, data, tmp_path, capsys):
    """32 px to 64 px: every old layer is taken over, and the new tWavelets adds nothing yet."""
    from wagi.networks.layers import Upsample
    from wagi.training.setup import initialise

    small = checkpoint.load_generator(runs / "g" / "checkpoint.pt")
    model, config = settings("smoke", "generator", {"size": "64", "param_dim": "5"})
    from wagi.training.generator import make_stage

    stage = make_stage(model, config)
    initialise(stage, str(runs / "g" / "checkpoint.pt"))
    said = capsys.readouterr().err
    assert "to_rgbs.2.conv.weight" in said and "convs.0" not in said and "encoder: 4 new tensors" in said
    ws = torch.randn(2, stage.generator.n_latent, small.style_dim)
    expected = Upsample()(small(ws[:, : small.n_latent]))
    torch.testing.assert_close(stage.generator(ws), expected, atol=1e-5, rtol=1e-5)


def test_growing_by_command(runs, tmp_path):
    data = write_portraits(tmp_path / "p", size=64)
    options = ["--set", "size=64", "--init", str(runs / "g" / "checkpoint.pt"), "--steps", "1"]
    assert run("generator", data, tmp_path / "out", *options) == 0
    assert checkpoint.load_generator(tmp_path / "out" / "checkpoint.pt").size == 64


# ------------------------------------------------------------------------------------------------- errors


def test_errors_are_one_line(data, runs, tmp_path, capsys):
    g, empty = str(runs / "g" / "checkpoint.pt"), tmp_path / "empty"
    empty.mkdir()
    cases = [
        ("generator", empty, [], "no image"),
        ("generator", tmp_path / "nowhere", [], "no such folder"),
        ("generator", data, ["--set", "size=64"], "32 px, size=64"),
        ("generator", data, ["--set", "size=48"], "power of two"),
        ("generator", data, ["--set", "holdout=20"], "holdout=20"),
        ("generator", data, ["--set", "flip=true"], "flip"),
        ("generator", data, ["--set", "nonsense=1"], "--set nonsense: no such setting"),
        ("generator", data, ["--set", "lr=fast"], "--set lr=fast"),
        ("generator", data, ["--accumulate", "3"], "batch=4"),
        ("generator", data, ["--set", "mode=gan", "--batch", "6"], "batch=6"),
        ("generator", data, ["--set", "style_dim=3"], "style_dim"),
        ("generator", data, ["--init", str(data / "meta.json")], "not PyTorch"),
        ("encoder", data, [], "--generator: is needed"),
        ("encoder", data, ["--generator", "none.pt"], "none.pt: no such"),
        ("encoder", data, ["--generator", g, "--set", "size=64"], "made for 32 px"),
        ("encoder", data, ["--generator", g, "--set", "lambda_lpips=0.8"], "--lpips-trunk"),
        ("encoder", data, ["--generator", g, "--set", "lambda_id=0.1"], "--arcface"),
        ("inversion", data, ["--generator", g, "--set", "wavelet_levels=24"], "wavelet_levels=24"),
    ]
    for stage, folder, options, message in cases:
        status = run(stage, folder, tmp_path / "out", *options)
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert status in (1, 2) and len(said) == 1 and message in said[0], (options, said)
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_diverged_training_stops_and_keeps_the_checkpoint(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("generator", data, out, "--steps", "1", "--lr", "1e30") == 0
    before = (out / "checkpoint.pt").read_bytes()
    assert run("generator", data, out, "--steps", "9", "--lr", "1e30") == 1
    said = capsys.readouterr().err
    assert "is not finite" in said and f"goes on from {out / 'checkpoint.pt'}" in said
    assert (out / "checkpoint.pt").read_bytes() == before
    assert run("generator", data, tmp_path / "fresh", "--steps", "9", "--lr", "1e30") == 1
    said = capsys.readouterr().err
    assert "nothing is saved yet" in said and "checkpoint.pt" not in said


def test_presets_and_dry_run(capsys):
    for preset in PRESETS:
        for stage in STAGES:
            settings(preset, stage)
    from wagi import train

    assert (
        train.main(["inversion", "--preset", "ffhq1024", "--steps", "50", "--dry-run", "--device", "cpu"])
        == 0
    )
    shown = capsys.readouterr().out
    for line in (
        "size 1024",
        "encoder e4e",
        "optimizer ranger",
        "batch 8",
        "steps 50",
        "feature_levels 64,128",
    ):
        name, value = line.split()
        assert any(row.split() == [name, value] for row in shown.splitlines()), line
    with pytest.raises(UserError, match="no such preset"):
        settings("none", "generator")


def test_help_needs_no_torch():
    code = """
import sys, wagi.train
try:
    wagi.train.main(['--help'])
except SystemExit:
    assert 'torch' not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and "wagi.train inversion" in result.stdout, result.stderr
