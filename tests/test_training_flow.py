"""The flow aligner's training: its losses by value, both phases, and an interrupted run like a whole one."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training_helpers import assert_same_bits, run, save_tiny_model, write_portraits
from wagi import checkpoint
from wagi.networks.flow_alignment import warp
from wagi.training import flow as stage
from wagi.training.textures import random_textures
from wagi.training.warp import random_flow

COUNT = 250  # two groups of 25 scenes of five pictures


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder as `python -m wagi.portraits --scenes --memmap` lays it out, and a frozen tiny E0 and G0."""
    root = tmp_path_factory.mktemp("flow")
    data = write_portraits(root / "scenes", COUNT, params=133)
    rng = np.random.default_rng(1)
    np.save(data / "flows.npy", rng.normal(0, 2, (COUNT, 2, 16, 16)).astype(np.float16))
    np.save(data / "seen.npy", rng.random((COUNT, 16, 16)) < 0.8)
    meta = json.loads((data / "meta.json").read_text())
    (data / "meta.json").write_text(json.dumps({**meta, "settings": {"scenes": True}}))
    save_tiny_model(root / "model.pt")
    return root


def train(world, out, *options):
    given = ["--encoder", str(world / "model.pt"), "--set", "aligner=flow", "--batch", "4"]
    given += ["--set", "recolour=0.5", "--set", "synthetic=0.5", "--set", "perspective=0.5"]
    given += ["--set", "clip=1", "--set", "textures=0.5", "--set", "region_weights=1,1,2,3,3,1,1,3,2"]
    given += ["--set", "flow_steps=4", "--set", "half_size_steps=2", "--set", "lr_rampdown=0"]
    given += ["--set", "lambda_looks=0.5"]
    given += ["--grid-every", "6", "--set", "holdout=4"]
    return run("inversion", world / "scenes", out, *given, *options)


def test_training_runs_and_resumes_to_the_bit(world, tmp_path):
    """Half-size flow, flow, and both parts together; stopped inside each of them."""
    assert train(world, tmp_path / "whole", "--steps", "6") == 0
    for steps in ("1", "3", "6"):
        assert train(world, tmp_path / "parts", "--steps", steps) == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    content = checkpoint.read(tmp_path / "whole" / "checkpoint.pt")
    start = checkpoint.read(world / "model.pt")["weights"]
    assert content["config"]["model"]["aligner"] == "flow"
    for part in ("generator", "encoder"):
        assert all(torch.equal(content["weights"][part][k], v) for k, v in start[part].items())
    log = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    names = set().union(*log)
    assert names >= {"flow", "photometric", "energy", "looks", "eval/l2_edited", "eval/edit_l1"}
    model = checkpoint.load_model(tmp_path / "whole" / "checkpoint.pt")
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    found = model.invert(x)
    assert torch.equal(found.aligned, found.residual)
    assert torch.equal(model.edit(found, found.ws).image, found.image)


def test_only_the_aligner_learns_in_its_phase(world, tmp_path):
    """Weights of the fusion stay until the joint phase, where both change."""
    for steps in ("4", "5"):
        assert train(world, tmp_path / steps, "--steps", steps) == 0
    weights = {
        steps: torch.load(tmp_path / steps / "checkpoint.pt", weights_only=True)["training"]["models"]
        for steps in ("4", "5")
    }
    moved = {
        part: any(not torch.equal(weights["4"][part][k], v) for k, v in weights["5"][part].items())
        for part in ("aligner", "fusion")
    }
    assert moved == {"aligner": True, "fusion": True}
    assert not weights["4"]["fusion"]["condition_scale3.2.weight"].any()  # as it starts
    assert weights["5"]["fusion"]["condition_shift3.2.weight"].any()


def test_wrong_data_is_refused(world, tmp_path, capsys):
    data = write_portraits(tmp_path / "p", params=133)
    given = ["--encoder", str(world / "model.pt"), "--set", "aligner=flow", "--steps", "1"]
    assert run("inversion", data, tmp_path / "out", *given) == 2
    assert "--scenes" in capsys.readouterr().err
    assert run("inversion", world / "scenes", tmp_path / "out", *given, "--edited", str(data)) == 2
    assert "--edited: not with aligner=flow" in capsys.readouterr().err


def test_plain_photos_train_it_by_warps_alone(world, tmp_path, capsys):
    """A folder of images and nothing else, mirrored too; it stays as it was. Without synthetic=1 refused."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for k, pixels in enumerate(np.load(world / "scenes" / "images.npy", mmap_mode="r")[:12]):
        Image.fromarray(pixels).save(photos / f"{k}.png")
    given = ["--encoder", str(world / "model.pt"), "--set", "aligner=flow", "--batch", "4", "--steps", "3"]
    given += ["--set", "flow_steps=2", "--set", "half_size_steps=1", "--set", "flip=true"]
    assert run("inversion", photos, tmp_path / "no", *given) == 2
    assert "--scenes" in capsys.readouterr().err
    assert run("inversion", photos, tmp_path / "out", *given, "--set", "synthetic=1") == 0
    assert len(list(photos.iterdir())) == 12
    log = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert set().union(*log) >= {"flow", "photometric", "l2", "eval/l2_edited"}


def test_a_plain_image_and_its_warp_are_a_pair_with_its_flow(world):
    """The edit is the image at the flow's places; without a draw, and behind the edits, nothing moves."""
    made = stage.FlowStage.__new__(stage.FlowStage)
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pair = made._paired({"image": image}, torch.Generator().manual_seed(1), 2)
    flow = random_flow(3, 32, torch.Generator().manual_seed(1), local=True)
    torch.testing.assert_close(pair["edited"][:2], warp(image, flow)[:2])
    means = flow[:2].reshape(2, 2, 16, 2, 16, 2).mean((3, 5)) / 2
    torch.testing.assert_close(pair["flow"][:2], means)
    assert pair["seen"].all() and not pair["flow"][2].any()
    torch.testing.assert_close(pair["edited"][2], image[2])
    torch.testing.assert_close(made._paired({"image": image}, None)["edited"], image)


# ------------------------------------------------------------------------------------------------- losses


def test_change_loss_against_numpy():
    rng = np.random.default_rng(0)
    a, t, x, y = (rng.uniform(-1, 1, (3, 3, 16, 16)).astype(np.float32) for _ in range(4))
    y[0], y[1, :, 4:] = x[0], x[1, :, 4:]
    changed = np.abs(y - x).mean(1) > 0.1
    error = np.abs(a - t).mean(1)
    least = 300 / 128**2 * 256
    expected = np.mean([error[n][changed[n]].sum() / (changed[n].sum() + least) for n in range(3)])
    found = stage.change_loss(*(torch.from_numpy(v) for v in (a, t, x, y)))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_warped_source_moves_the_flow():
    """Image warped by `view`: the moved flow finds in it what the flow found before."""
    rng = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = torch.stack([x, y])[None].expand(3, -1, -1, -1)
    view, flow = (random_flow(3, 64, rng, local=local) * 0.5 for local in (False, True))
    found = warp(warp(image, view), stage.after_warp(flow, view))
    wanted = warp(image, flow)
    inner = wanted[:, :, 12:-12, 12:-12]
    inside = (inner > 8).all(1) & (inner < 55).all(1)
    assert inside.float().mean() > 0.8
    assert (found - wanted)[:, :, 12:-12, 12:-12].abs().amax(1)[inside].max() < 0.35
    without = (warp(warp(image, view), flow) - wanted)[:, :, 12:-12, 12:-12].abs().amax(1)
    assert without[inside].max() > 1


def test_textures_differ_and_photographs_are_cropped():
    rng = torch.Generator().manual_seed(0)
    drawn = random_textures(8, 32, rng)
    assert drawn.shape == (8, 3, 32, 32) and drawn.abs().max() <= 1
    assert min((drawn[i] - drawn[j]).abs().mean() for i in range(8) for j in range(i)) > 0.1
    photograph = torch.linspace(0.4, 0.6, 48).expand(1, 3, 48, 48)
    drawn = random_textures(16, 32, rng, photograph)
    flat = [one for one in drawn if one.min() >= 0.39 and one.max() <= 0.61]
    assert 3 <= len(flat) <= 13
