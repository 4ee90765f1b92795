"""Promise: an encoder's codes are drawn towards a frozen teacher's, which is in no checkpoint of the run."""

import pytest
import torch
from paper_stages import make, phase, pictures, trained_by
from tiny_bundle import error_line
from training_helpers import assert_same_bits, run, save_tiny_model, weights, write_portraits

from wagi import checkpoint
from wagi.networks.small_encoder import SmallEncoder
from wagi.training.loop import Trainer
from wagi.training.teacher import Teacher

LEARN = ["--set", "lambda_teacher=0.5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_portraits(tmp_path_factory.mktemp("data") / "p")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A generator, and an encoder of it: the teacher."""
    g, e = tmp_path_factory.mktemp("g"), tmp_path_factory.mktemp("e")
    assert run("generator", data, g, "--steps", "2") == 0
    words = ["--generator", str(g / "checkpoint.pt"), "--steps", "2"]
    assert run("encoder", data, e, *words, "--seed", "5") == 0
    return g / "checkpoint.pt", e / "checkpoint.pt"


def learning(overrides: dict[str, str] | None = None):
    """A stage with a wider teacher that reads 32 px, and both networks."""
    stage = make("encoder", {"lambda_teacher": "0.5", "progressive_start": "0", **(overrides or {})})
    torch.manual_seed(8)
    encoder = SmallEncoder(stage.frozen["generator"].n_latent, 16, 32, 16)
    for value in encoder.parameters():
        value.data.add_(0.05 * torch.randn(value.shape))
    stage.teacher = Teacher(stage.frozen["generator"], encoder, stage.model_config)
    return stage, encoder


def test_the_term_and_its_weight_by_value():
    """lambda_teacher times the mean square over all codes, beside e4e's own losses."""
    stage, teacher = learning()
    batch = pictures()
    loss, scalars = phase(stage, 0, -1).loss(batch, torch.Generator())
    with torch.no_grad():
        student = stage.models["encoder"](batch["image"]).double().numpy()
        wanted = ((student - teacher(batch["image"]).double().numpy()) ** 2).mean()
    assert wanted > 1e-3 and scalars["teacher"].item() == pytest.approx(wanted, rel=1e-5)
    stage.teacher = None
    alone, others = phase(stage, 0, -1).loss(batch, torch.Generator())
    assert "teacher" not in others
    assert loss.item() - alone.item() == pytest.approx(0.5 * wanted, rel=1e-4)


def test_an_encoder_that_is_its_teacher_has_nothing_to_learn():
    stage, _ = learning()
    stage.teacher = Teacher(stage.frozen["generator"], stage.models["encoder"], stage.model_config)
    stage.models["encoder"].requires_grad_(True)
    _, scalars = phase(stage, 0, -1).loss(pictures(), torch.Generator())
    assert scalars["teacher"].item() == 0


def test_only_the_student_learns():
    stage, teacher = learning({"lambda_adv": "0"})
    loss, _ = phase(stage, 0, -1).loss(pictures(), torch.Generator())
    assert trained_by(stage, loss) == {"encoder"}
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not stage.teacher.training


def test_it_brings_codes_together():
    """Some steps of gradient descent on this term alone."""
    stage, _ = learning({"lambda_l2": "0", "lambda_delta": "0", "lambda_adv": "0", "lr": "1e-3"})
    batch, optimizer, found = pictures(), stage.optimizers["encoder"], []
    for _ in range(12):
        loss, scalars = phase(stage, 0, -1).loss(batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(scalars["teacher"].item())
    assert found[-1] < 0.9 * found[0]


def test_a_run_holds_no_teacher_and_resumes_to_the_bit(data, trained, tmp_path, monkeypatch):
    generator, teacher = trained
    words = ["--generator", str(generator), "--teacher", str(teacher), *LEARN, "--steps", "4"]
    words += ["--save-every", "2"]
    before = teacher.read_bytes()
    assert run("encoder", data, tmp_path / "whole", *words) == 0

    def crash(self, batches, original=Trainer.train_step):
        if self.step == 3:
            raise KeyError("crash")
        return original(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", crash)
        with pytest.raises(KeyError):
            run("encoder", data, tmp_path / "parts", *words)
    assert run("encoder", data, tmp_path / "parts", *words) == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    assert teacher.read_bytes() == before


def test_it_changes_what_is_trained_and_nothing_that_is_kept(data, trained, tmp_path):
    generator, teacher = trained
    words = ["--generator", str(generator), "--steps", "2"]
    assert run("encoder", data, tmp_path / "a", *words) == 0
    assert run("encoder", data, tmp_path / "b", *words, "--teacher", str(teacher), *LEARN) == 0
    a, b = (weights(tmp_path / name) for name in "ab")
    assert {(name, value.shape) for name, value in a.items()} == {(n, v.shape) for n, v in b.items()}
    learned = [name for name in a if name.startswith("/weights/encoder/")]
    assert learned and not all(torch.equal(a[name], b[name]) for name in learned)


def refused(capsys, data, out, *words: str, stage: str = "encoder") -> str:
    capsys.readouterr()
    assert run(stage, data, out, *words) in (1, 2)
    said = error_line(capsys.readouterr().err)
    assert not (out / "checkpoint.pt").exists()
    return said


def test_refusals_are_one_line(data, trained, tmp_path, capsys):
    generator, teacher = map(str, trained)
    begin, out = ["--generator", generator, "--steps", "1"], tmp_path / "run"
    other = save_tiny_model(tmp_path / "other.pt", seed=4)
    wide = save_tiny_model(tmp_path / "wide.pt", style_dim=24)
    large = save_tiny_model(tmp_path / "large.pt", size=64, residual_resolution=32)
    cases = [
        (["--teacher", str(wide), *LEARN],
         f"--teacher {wide}: gives 6 latents of 24 values, the generator takes 6 of 160"),
        (["--teacher", str(large), *LEARN], f"--teacher {large}: gives 8 latents of 160 values"),
        (["--teacher", str(other), *LEARN], f"--teacher {other}: made for another generator"),
        (["--teacher", "nowhere.pt", *LEARN], "--teacher nowhere.pt: no such checkpoint"),
        (["--teacher", teacher], "lambda_teacher=0.0: --teacher counts nothing; add --set lambda_teacher=1"),
        (LEARN, "lambda_teacher=0.5: needs the encoder to learn from; add --teacher CKPT"),
    ]  # fmt: skip
    for words, message in cases:
        assert message in refused(capsys, data, out, *begin, *words)
    words = ["--encoder", teacher, "--teacher", teacher]
    assert "--teacher: only for stage encoder" in refused(capsys, data, out, *words, stage="inversion")


def test_another_teacher_is_noticed_when_a_run_goes_on(data, trained, tmp_path, capsys):
    generator, teacher = map(str, trained)
    words = ["--generator", generator, *LEARN]
    assert run("encoder", data, tmp_path / "e", *words, "--steps", "1", "--teacher", teacher) == 0
    capsys.readouterr()
    assert run("encoder", data, tmp_path / "e", *words, "--steps", "2", "--teacher", generator) == 2
    assert "--teacher: this run was started with another teacher" in error_line(capsys.readouterr().err)


def test_a_run_from_before_the_setting_goes_on(data, trained, tmp_path):
    """Its file does not name lambda_teacher, whose default changes nothing."""
    words = ["--generator", str(trained[0])]
    assert run("encoder", data, tmp_path, *words, "--steps", "1") == 0
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content["training"]["settings"]["lambda_teacher"]
    torch.save(content, path)
    assert run("encoder", data, tmp_path, *words, "--steps", "2") == 0
    assert checkpoint.read(path)["training"]["step"] == 2
