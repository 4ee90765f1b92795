"""Promise: with public weight files given, LPIPS and identity enter the training losses."""

import json

import pytest
import torch
from test_features import random_files
from training_helpers import run, weights, write_portraits

from wagi.networks.irse import Backbone


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A tiny world and its generator checkpoint."""
    folder = tmp_path_factory.mktemp("stages")
    data = write_portraits(folder / "data")
    assert run("generator", data, folder / "g", "--steps", "2") == 0
    return data, folder / "g" / "checkpoint.pt"


def losses(folder, stages, term, *options):
    """The logged values of one term, and the aligner's weights after the run."""
    data, generator = stages
    assert run("inversion", data, folder, "--encoder", str(generator), "--steps", "2", "--log-every", "1",
               "--set", "ada_steps=0", *options) == 0  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[term] for line in lines if term in line], weights(folder)


def test_lpips(tmp_path, stages):
    trunk, linear, *_ = random_files(tmp_path)
    files = ("--lpips-trunk", str(trunk), "--lpips-linear", str(linear))
    values, trained = losses(tmp_path / "with", stages, "lpips", *files, "--set", "lambda_lpips=0.8")
    assert len(values) == 2 and all(0 < value < 100 for value in values)
    _, without = losses(tmp_path / "without", stages, "lpips")
    assert any(not torch.equal(trained[k], without[k]) for k in trained if k.startswith("/weights/fusion"))


@pytest.mark.slow
def test_identity(tmp_path, stages):
    torch.manual_seed(0)
    torch.save(Backbone().state_dict(), tmp_path / "arcface.pth")
    files = ("--arcface", str(tmp_path / "arcface.pth"))
    values, _ = losses(tmp_path / "run", stages, "id", *files, "--set", "lambda_id=0.1")
    assert len(values) == 2 and all(-1e-3 < value < 2 for value in values)
