"""Training is judged by pictures that it never sees, or says so, and ends when their loss is saturated."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training_helpers import assert_same_bits, run, write_portraits
from wagi import checkpoint
from wagi.training.loop import Trainer

COUNT, SIZE = 12, 32


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    out = tmp_path_factory.mktemp("g")
    assert run("generator", write_portraits(out / "data"), out / "run", "--steps", "2") == 0
    return str(out / "run" / "checkpoint.pt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of plain pictures, each with a colour of its own."""
    folder = tmp_path_factory.mktemp("photos")
    for k in range(COUNT):
        pixels = np.full((SIZE, SIZE, 3), (20 * k, 255 - 20 * k, 10 * k), np.uint8)
        pixels[: k + 4] //= 2
        Image.fromarray(pixels).save(folder / f"{k:02d}.png")
    return folder


def encoder(photos, out, generator, *options):
    return run("encoder", photos, out, "--generator", generator, "--set", "holdout=0", *options)


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def as_floats(path):
    with Image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1) / 127.5 - 1


def test_training_images_are_called_so(photos, generator, tmp_path, capsys):
    assert encoder(photos, tmp_path, generator, "--steps", "1") == 0
    said = capsys.readouterr().err
    assert said.count("training images (neither --validation nor holdout)") == 2
    assert "held out" not in said and "validation: loss" not in said


def test_a_list_of_pictures_is_judged_and_not_trained_on(photos, generator, tmp_path, monkeypatch, capsys):
    """Numbers and grid against the checkpoint on the listed files, read by Pillow; none is in a batch."""
    chosen = ["03.png", str(photos / "07.png"), "10.png"]
    (tmp_path / "list.txt").write_text("\n".join(chosen) + "\n\n")
    expected = torch.stack([as_floats(photos / name) for name in chosen])
    seen = []

    def watched(self, batches, original=Trainer.train_step):
        seen.extend(image for batch in batches for image in batch["image"])
        return original(self, batches)

    monkeypatch.setattr(Trainer, "train_step", watched)
    words = ("--steps", "6", "--validation", str(tmp_path / "list.txt"))
    assert encoder(photos, tmp_path / "run", generator, *words) == 0
    said = capsys.readouterr().err
    assert "--validation: 3 pictures, 3 of them in --data and not trained on" in said
    assert "judged by 3 pictures: validation" in said and "training images" not in said
    trained = {tuple(image[:, -1, -1].tolist()) for image in seen}
    assert len(seen) == 24 and len(trained) == COUNT - 3
    assert not trained & {tuple(image[:, -1, -1].tolist()) for image in expected}
    path = tmp_path / "run" / "checkpoint.pt"
    with torch.no_grad():
        found = checkpoint.build_inverter(checkpoint.read(path), path).image(expected)
    l2 = (found.clamp(-1, 1) - expected).square().mean().item()
    assert lines(tmp_path / "run")[-1]["eval/l2"] == pytest.approx(l2, abs=2e-6)
    with Image.open(tmp_path / "run" / "grids" / "step-0000006.png") as grid:
        row = np.asarray(grid)[:SIZE].reshape(SIZE, 3, SIZE, 3).transpose(1, 3, 0, 2)
    assert np.abs(row / 127.5 - 1 - expected.numpy()).max() < 0.005


def test_a_folder_of_its_own(photos, generator, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    Image.open(photos / "01.png").rotate(90).save(tmp_path / "other" / "a.png")
    words = ("--steps", "1", "--validation", str(tmp_path / "other"))
    assert encoder(photos, tmp_path / "run", generator, *words) == 0
    said = capsys.readouterr().err
    assert "1 pictures, 0 of them in --data" in said and "12 images" in said


@pytest.fixture(scope="module")
def stopped(photos, generator, tmp_path_factory):
    """A run whose rate is so high that the loss has its lowest value early."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    assert encoder(photos, out, generator, *ending(photos, "2")) == 0
    return out


def ending(photos, patience):
    (photos / "list.txt").write_text("02.png\n05.png\n08.png\n")
    words = ["--validation", str(photos / "list.txt"), "--set", f"patience={patience}", "--steps", "16"]
    return [*words, "--grid-every", "2", "--save-every", "2", "--lr", "1", "--set", "lr_rampdown=0"]


def test_a_run_ends_when_the_loss_is_saturated(stopped, photos, generator, tmp_path):
    """After two evaluations without a lower loss; what is kept are the averaged weights of the lowest."""
    losses = {line["step"]: line["eval/loss"] for line in lines(stopped) if "eval/loss" in line}
    best = min(losses, key=losses.get)
    assert max(losses) == best + 4 < 16, losses
    assert encoder(photos, tmp_path, generator, *ending(photos, "0"), "--steps", str(best)) == 0
    kept, wanted = (checkpoint.read(out / "checkpoint.pt")["weights"] for out in (stopped, tmp_path))
    for name, value in wanted["encoder"].items():
        assert torch.equal(kept["encoder"][name], value), name


def test_ending_survives_a_crash(stopped, photos, generator, tmp_path, monkeypatch):
    """Killed twice, between evaluations: the same end, the same bits; the best value is not forgotten."""

    def crash(self, batches, original=Trainer.train_step):
        if self.step in (3, 9) and not (tmp_path / str(self.step)).exists():
            (tmp_path / str(self.step)).touch()
            raise KeyboardInterrupt
        return original(self, batches)

    monkeypatch.setattr(Trainer, "train_step", crash)
    statuses = [encoder(photos, tmp_path / "run", generator, *ending(photos, "2")) for _ in range(3)]
    assert statuses == [1, 1, 0]
    assert_same_bits(stopped, tmp_path / "run")
    states = [checkpoint.read(out / "checkpoint.pt")["training"] for out in (stopped, tmp_path / "run")]
    assert states[0]["patience"] == states[1]["patience"] and states[0]["step"] == states[1]["step"]


def test_an_ended_run_goes_on_with_more_patience(stopped, photos, generator, tmp_path, capsys):
    """The same command says that it has ended; a larger patience takes up the last weights, not the best."""
    import shutil

    shutil.copytree(stopped, tmp_path / "run")
    before = checkpoint.read(stopped / "checkpoint.pt")["training"]
    assert encoder(photos, tmp_path / "run", generator, *ending(photos, "2")) == 0
    assert "no loss below" in capsys.readouterr().err
    assert encoder(photos, tmp_path / "run", generator, *ending(photos, "3")) == 0
    after = checkpoint.read(tmp_path / "run" / "checkpoint.pt")["training"]
    assert after["step"] == before["step"] + 2 or after["patience"]["best"] < before["patience"]["best"]
    assert encoder(photos, tmp_path / "whole", generator, *ending(photos, "3")) == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "run")


def test_ada_alone_ends_no_run(photos, generator, tmp_path):
    """Evaluations count once the fusion is trained; before that nothing is the best."""
    words = ["--encoder", generator, "--steps", "6", "--grid-every", "1", "--set", "patience=1", "--lr", "0"]
    words[-1] = "1e-30"  # nothing is ever learned: the first evaluation that counts is the best
    common = ["--set", "holdout=4", "--set", "flip=false", "--set", "ada_steps=3"]
    assert run("inversion", photos, tmp_path, *words, *common) == 0
    assert [line["step"] for line in lines(tmp_path) if "eval/loss" in line] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--validation", "nowhere"], "--validation nowhere: no such folder"),
        (["--validation", "LIST"], "/gone.png not there"),
        (["--validation", "EMPTY"], "EMPTY: names no picture"),
        (["--validation", "00.png"], "00.png: cannot be read (not a text file)"),
        (["--validation", "DATA"], "no image besides those of"),
        (["--set", "patience=3"], "patience=3: needs pictures that are not trained on"),
        (["--set", "patience=-1"], "patience=-1: must be 0 (off) or more"),
    ],
)
def test_mistakes_cost_one_line(photos, generator, tmp_path, capsys, options, message):
    (tmp_path / "LIST").write_text("01.png\ngone.png\n")
    (tmp_path / "EMPTY").write_text("\n")
    places = {"LIST": tmp_path / "LIST", "EMPTY": tmp_path / "EMPTY", "00.png": photos / "00.png"}
    places["DATA"] = photos
    assert encoder(photos, tmp_path / "run", generator, *(str(places.get(w, w)) for w in options)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said
    assert not (tmp_path / "run").exists()
