"""A run that died between checkpoints ends with the bits of an uninterrupted one, in every stage and mode."""

import pytest
import torch

from tests.training_helpers import assert_same_bits, run, write_portraits
from wagi.training.loop import Trainer

SETTINGS = {
    "distill": ("generator", ["--set", "lambda_adv=0.1", "--accumulate", "2"]),
    "gan": ("generator", ["--set", "mode=gan", "--set", "path_every=2", "--set", "r1_every=2"]),
    "encoder": ("encoder", [
        "--set", "lambda_adv=0.1", "--set", "pool=6", "--set", "progressive_start=2",
        "--set", "progressive_every=1", "--set", "r1_every=2", "--set", "optimizer=ranger",
    ]),
    "inversion": ("inversion", ["--set", "lambda_wave=0.2"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_portraits(tmp_path_factory.mktemp("data") / "p")


@pytest.fixture(scope="module")
def generator(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("g")
    assert run("generator", data, out, "--steps", "2") == 0
    return out / "checkpoint.pt"


class Crash(Exception):
    pass


@pytest.mark.parametrize("kind", SETTINGS)
def test_crash_between_checkpoints(kind, data, generator, tmp_path, monkeypatch):
    """Four steps; against a run that saved after two, died in the fourth and was started again."""
    stage, options = SETTINGS[kind]
    options = [*options, "--steps", "4", "--save-every", "2"]
    if stage != "generator":
        options += ["--generator", str(generator)]
    assert run(stage, data, tmp_path / "whole", *options) == 0

    def crash(self, batches, original=Trainer.train_step):
        if self.step == 3:
            raise Crash
        return original(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", crash)
        with pytest.raises(Crash):
            run(stage, data, tmp_path / "parts", *options)
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["training"]["step"] == 2
    torch.rand(5)
    assert run(stage, data, tmp_path / "parts", *options) == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


def test_finished_run_says_so_and_a_longer_one_goes_on(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("generator", data, out, "--steps", "2") == 0
    before = (out / "checkpoint.pt").read_bytes()
    assert run("generator", data, out, "--steps", "2") == 0
    assert "already trained to step 2" in capsys.readouterr().err
    assert (out / "checkpoint.pt").read_bytes() == before
    assert run("generator", data, out, "--steps", "3") == 0
    assert torch.load(out / "checkpoint.pt", weights_only=True)["training"]["step"] == 3


def test_resume_refusals(data, generator, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("generator", data, out, "--steps", "1") == 0
    for options, message in (
        (["--set", "lambda_wave=0.5"], "lambda_wave=0.5: the run"),
        (["--set", "max_channels=8"], "max_channels=8: the run"),
    ):
        capsys.readouterr()
        assert run("generator", data, out, "--steps", "2", *options) == 2
        assert message in capsys.readouterr().err
    assert run("encoder", data, out, "--generator", str(generator)) == 2
    assert "stage 'generator', not 'encoder'" in capsys.readouterr().err
    other = tmp_path / "other"
    assert run("generator", data, other, "--steps", "1", "--seed", "9") == 0
    assert run("encoder", data, tmp_path / "e", "--generator", str(generator), "--steps", "1") == 0
    assert (
        run("encoder", data, tmp_path / "e", "--generator", str(other / "checkpoint.pt"), "--steps", "2") == 2
    )
    assert "--generator: the run" in capsys.readouterr().err


def test_a_setting_that_came_later_counts_as_its_default(data, tmp_path, capsys):
    """A checkpoint of an older version lacks settings: it was trained with what is now their default."""
    assert run("generator", data, tmp_path, "--steps", "1") == 0
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content["config"]["model"]["full_detail"], content["training"]["settings"]["lambda_looks"]
    torch.save(content, path)
    assert run("generator", data, tmp_path, "--steps", "2") == 0
    torch.save(content, path)
    capsys.readouterr()
    assert run("generator", data, tmp_path, "--steps", "2", "--set", "lambda_looks=0.5") == 2
    assert "lambda_looks=0.5: the run in" in (said := capsys.readouterr().err) and "lambda_looks=0.0" in said


def test_what_a_diverged_run_needs_may_change(data, tmp_path, capsys):
    """Rate, precision and batch: said, used from the next step on, and the budget stays in images."""
    assert run("generator", data, tmp_path, "--steps", "2") == 0  # of 4 images
    capsys.readouterr()
    changed = ["--kimg", "0.016", "--lr", "1e-5", "--precision", "bf16", "--batch", "2"]
    assert run("generator", data, tmp_path, *changed) == 0
    said = capsys.readouterr().err
    for note in ("lr 1e-05, 0.002", "precision bf16, fp32", "batch 2, 4"):
        assert f"note: {note} until step 2" in said, said
    training = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["training"]
    assert (training["step"], training["images"]) == (6, 16)  # 8 images left: 4 steps of 2
    groups = training["optimizers"]["generator"]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [1e-5, 0.5, 1e-3]
    assert run("generator", data, tmp_path, *changed, "--set", "n_mlp=3") == 2
    assert "n_mlp=3: the run" in capsys.readouterr().err


def test_a_lower_rate_saves_a_run(data, tmp_path, capsys):
    """What the message of a diverged run advises works."""
    words = ["--kimg", "0.032", "--save-every", "2"]
    assert run("generator", data, tmp_path, "--steps", "2", "--save-every", "2") == 0
    assert run("generator", data, tmp_path, *words, "--lr", "1e30") == 1
    assert "goes on from" in capsys.readouterr().err
    assert run("generator", data, tmp_path, *words, "--lr", "1e-4") == 0


def test_a_truncated_checkpoint_is_named(data, tmp_path, capsys):
    assert run("generator", data, tmp_path, "--steps", "1") == 0
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-5000])
    capsys.readouterr()
    assert run("generator", data, tmp_path, "--steps", "2") == 1
    assert f"error: {path}: truncated or damaged" in capsys.readouterr().err
