"""Promise: with public weight files given, LPIPS and identity enter the training losses, with their values.

The first step of a fresh inversion stage renders the naive inversion (gates start at zero) of all training
images at once, so its logged terms are those of the frozen parts, whatever the order of the images.
"""

import json

import pytest
import torch
from test_eq2 import identity
from test_features import direct_lpips, random_files
from training_helpers import run, weights, write_portraits

from wagi import checkpoint
from wagi.config import settings
from wagi.data import open_dataset
from wagi.features import FeatureFiles
from wagi.networks.irse import Backbone
from wagi.standins.model import PortraitsFeatures, PortraitsID, load
from wagi.training.images import ImageLoss

COUNT, HOLDOUT = 6, 4


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A tiny world and its generator checkpoint."""
    folder = tmp_path_factory.mktemp("stages")
    data = write_portraits(folder / "data", COUNT)
    assert run("generator", data, folder / "g", "--steps", "2") == 0
    return data, folder / "g" / "checkpoint.pt"


def losses(folder, stages, *options):
    """The logged terms of the first step, and all weights after it."""
    data, generator = stages
    assert run("inversion", data, folder, "--encoder", str(generator), "--steps", "1", "--log-every", "1",
               "--batch", str(COUNT - HOLDOUT), "--set", "ada_steps=0", *options) == 0  # fmt: skip
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0]), weights(folder)


def first_pictures(stages):
    """(naive inversions, images) of the training images."""
    content = checkpoint.read(stages[1])
    generator, encoder = (checkpoint.build_loaded(content, part, "") for part in ("generator", "encoder"))
    data = open_dataset(stages[0], 32)
    x = torch.stack([data.get(i)["image"] for i in range(HOLDOUT, COUNT)])
    with torch.no_grad():
        return generator(encoder(x) + generator.latent_avg), x


def test_lpips(tmp_path, stages):
    trunk_file, linear_file, trunk, linear = random_files(tmp_path)
    files = ("--lpips-trunk", str(trunk_file), "--lpips-linear", str(linear_file))
    logged, trained = losses(tmp_path / "with", stages, *files, "--set", "lambda_lpips=0.8")
    y, x = first_pictures(stages)
    assert logged["lpips"] == pytest.approx(float(direct_lpips("alex", trunk, linear, y, x).mean()), rel=1e-4)
    others = logged["l2"] + 0.1 * logged["wave"] + logged["ada"]
    assert logged["loss"] == pytest.approx(others + 0.8 * logged["lpips"], abs=1e-5)
    _, without = losses(tmp_path / "without", stages)
    assert any(not torch.equal(trained[k], without[k]) for k in trained if k.startswith("/weights/fusion"))


def test_standins_take_their_places():
    """portraits-features, both images shifted alike, and 1 - portraits-ID, at the weights of LPIPS and ID."""
    rng = torch.Generator().manual_seed(5)
    x, y = torch.rand(2, 4, 3, 64, 64, generator=rng) * 2 - 1
    words = {"standins": "true", "lambda_lpips": "0.8", "lambda_id": "0.1", "lambda_wave": "0"}
    loss = ImageLoss(settings("smoke", "encoder", words)[1], FeatureFiles())
    total, terms = loss(y, x, None, torch.Generator().manual_seed(7))
    shift = torch.randint(16, (2,), generator=torch.Generator().manual_seed(7)).tolist()
    looks = load(PortraitsFeatures)(y.roll(shift, (2, 3)), x.roll(shift, (2, 3))).mean()
    who = 1 - load(PortraitsID)(y, x).mean()
    assert terms["portraits-features"] == pytest.approx(float(looks), rel=1e-5)
    assert terms["1 - portraits-ID"] == pytest.approx(float(who), rel=1e-5)
    assert float(total) == pytest.approx(float((y - x).square().mean() + 0.8 * looks + 0.1 * who), rel=1e-5)


@pytest.mark.slow
def test_identity(tmp_path, stages):
    torch.manual_seed(0)
    arcface = Backbone().eval()
    torch.save(arcface.state_dict(), tmp_path / "arcface.pth")
    files = ("--arcface", str(tmp_path / "arcface.pth"))
    logged, trained = losses(tmp_path / "run", stages, *files, "--set", "lambda_id=0.1")
    y, x = first_pictures(stages)
    assert logged["id"] == pytest.approx(identity(arcface, y, x), rel=1e-3) and logged["id"] > 1e-3
    others = logged["l2"] + 0.1 * logged["wave"] + logged["ada"]
    assert logged["loss"] == pytest.approx(others + 0.1 * logged["id"], abs=1e-5)
    assert not any("arcface" in name for name in trained)
