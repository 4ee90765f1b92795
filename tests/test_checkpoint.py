"""Checkpoints: {config, weights}, strict, safe to open, whole or not there at all."""

import dataclasses
import os
import pickle

import pytest
import torch

from wagi import checkpoint
from wagi.config import settings
from wagi.errors import UserError
from wagi.networks.build import PARTS, build_part


@pytest.fixture
def config():
    return settings("smoke", "inversion")[0]


@pytest.fixture
def saved(tmp_path, config):
    """A checkpoint with all parts, random weights, and the parts."""
    torch.manual_seed(0)
    parts = {part: build_part(config, part).eval() for part in PARTS}
    parts["generator"].latent_avg.normal_()
    for parameter in parts["fusion"].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path / "c.pt"
    weights = {part: checkpoint.state_of(module) for part, module in parts.items()}
    checkpoint.save(path, "inversion", config, weights)
    return path, parts


@torch.no_grad()
def test_round_trip(saved):
    from wagi.model import WaGI

    path, parts = saved
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    loaded = checkpoint.load_model(path)
    for a, b in zip(WaGI(**parts).invert(images), loaded.invert(images), strict=True):
        assert torch.equal(a, b)
    generator = checkpoint.load_generator(path)
    assert not generator.training and torch.equal(generator.latent_avg, parts["generator"].latent_avg)


def test_missing_and_foreign_files(tmp_path):
    text, plain = tmp_path / "t.pt", tmp_path / "p.pt"
    text.write_text("hello")
    torch.save({"g_ema": {}}, plain)
    for path, message in (
        (tmp_path / "no.pt", "no such"),
        (text, "not a WaGI checkpoint"),
        (plain, "not a WaGI checkpoint"),
    ):
        with pytest.raises(UserError, match=message) as error:
            checkpoint.load_model(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_no_code_runs_from_a_file(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    with open(tmp_path / "e.pt", "wb") as file:
        pickle.dump(Evil(), file)
    torch.save({"format": "wagi", "x": Evil()}, tmp_path / "z.pt")
    for name in ("e.pt", "z.pt"):
        with pytest.raises(UserError):
            checkpoint.read(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_stage_without_the_part(tmp_path, config):
    state = checkpoint.state_of(build_part(config, "generator"))
    checkpoint.save(tmp_path / "g.pt", "generator", config, {"generator": state})
    checkpoint.load_generator(tmp_path / "g.pt")
    with pytest.raises(UserError, match="stage 'generator' has no encoder.*wagi.train encoder"):
        checkpoint.load_model(tmp_path / "g.pt")


def test_differences_are_readable(saved, config):
    path, parts = saved
    state = checkpoint.state_of(parts["generator"])
    state["extra"] = torch.zeros(3)
    del state["conv1.conv.weight"]
    state["input.input"] = torch.zeros(1, 5, 4, 4)
    with pytest.raises(UserError) as error:
        checkpoint.load_state(parts["generator"], state, "file")
    for text in (
        "1 missing: conv1.conv.weight",
        "1 unexpected: extra [3]",
        "input.input [1, 5, 4, 4] instead of",
    ):
        assert text in str(error.value)


def test_failed_write_keeps_the_old_file(saved, config, monkeypatch):
    path, _ = saved
    before = path.read_bytes()

    def full(*args, **kwargs):
        args[1].write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.save(path, "inversion", config, {})
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["c.pt"]


def test_settings_that_do_not_fit(config):
    with pytest.raises(UserError, match="e4e reads 256"):
        build_part(dataclasses.replace(config, encoder="e4e"), "encoder")


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("kind", ["swagan", "stylegan2"])
def test_number_of_latents_is_the_generators(config, size, kind):
    here = dataclasses.replace(config, size=size, generator=kind, max_channels=4)
    assert here.n_latent == build_part(here, "generator").n_latent
