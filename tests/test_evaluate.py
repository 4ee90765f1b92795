"""`python -m wagi.evaluate`: checkpoint and bundle agree, the JSON says all, mistakes cost one line."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from test_features import random_files
from tiny_bundle import BLUR, CODE, FEATURE, N_LATENT, SKIP, STYLE_DIM, error_line, write_tiny_bundle
from torch.nn.functional import avg_pool2d, interpolate, pad
from training_helpers import write_portraits

from wagi import checkpoint, evaluate, experiments
from wagi.checkpoint import save, state_of
from wagi.config import settings
from wagi.errors import UserError
from wagi.model import Inversion, WaGI
from wagi.networks.build import PARTS, build_part

SIZE = 64
LEVELS = {"feature_levels": "16,32", "wavelet_levels": "32"}
CONFIG, _ = settings("smoke", "inversion", {"size": str(SIZE), **LEVELS})


class Twin(torch.nn.Module):
    """The tiny bundle's "model" in PyTorch, written from its description."""

    def __init__(self, keep=0.75):
        super().__init__()
        self.keep, self.generator = keep, torch.nn.Module()
        self.generator.size = SIZE
        rng = np.random.default_rng(0)
        shapes = {"feature": FEATURE, "skip": SKIP}
        draws = {name: rng.normal(0, 0.1, (BLUR, int(np.prod(shape)))) for name, shape in shapes.items()}
        self.projections = {name: torch.tensor(draw).float() for name, draw in draws.items()}

    def invert(self, images):
        blur = avg_pool2d(images, SIZE // CODE).flatten(1)
        ws = pad(blur, (0, N_LATENT * STYLE_DIM - BLUR)).view(-1, N_LATENT, STYLE_DIM)
        feature, skip = ((blur @ self.projections[name]).mean(1) for name in ("feature", "skip"))
        tint = 0.1 * (feature - skip).view(-1, 1, 1, 1)
        naive = interpolate(blur.view(-1, 3, CODE, CODE) + tint, scale_factor=SIZE // CODE)
        residual = images - naive.clamp(-1, 1)
        return Inversion(ws, naive, residual, residual, naive + self.keep * residual, images)

    def results(self, images):
        found = self.invert(images)
        return found.naive, found.image


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random checkpoint of 64 px; its gates are neutral, so that final is naive."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    model = WaGI(*(build_part(CONFIG, part) for part in PARTS))
    save(path, "inversion", CONFIG, {part: state_of(getattr(model, part)) for part in PARTS})
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle", SIZE, SIZE)


@pytest.fixture
def photos(tmp_path):
    """Five photos, one of them broken."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    photo = Image.fromarray(skimage.data.astronaut()).resize((90, 70))
    for k in range(5):
        photo.rotate(40 * k).save(folder / f"{k}.png")
    (folder / "more" / "broken.png").write_bytes((folder / "0.png").read_bytes()[:900])
    return folder


def run(*words):
    try:
        return evaluate.main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)


def test_checkpoint_and_bundle_agree(weights, bundle, photos, tmp_path, monkeypatch):
    """The same network in PyTorch and, as a user starts it, in the runtime: 8-bit pictures differ by a step
    at most, and here and there."""
    monkeypatch.setattr(checkpoint, "build_model", lambda *_: Twin())
    common = ("--data", photos, "--protocol", "portraits", "--per-image", "-q", "--batch", 2)
    assert run("--model", weights, *common, "--out", tmp_path / "torch") == 0
    assert run("--model", bundle, *common, "--out", tmp_path / "runtime", "--runtime", "--threads 1") == 0
    torch_, runtime = (
        json.loads((tmp_path / n / "evaluation.json").read_text()) for n in ("torch", "runtime")
    )
    assert torch_["model"]["kind"] == "checkpoint" and runtime["model"]["kind"] == "bundle"
    assert torch_["data"] == runtime["data"] and torch_["data"]["count"] == 5
    assert torch_["data"]["skipped"].keys() == {"more/broken.png"}
    step = (1 / 127.5) ** 2  # of an 8-bit picture
    rows = [list(csv.DictReader(open(tmp_path / n / "images.csv"))) for n in ("torch", "runtime")]
    for a, b in zip(*rows, strict=True):
        assert a["image"] == b["image"]
        for side in ("naive", "final"):
            assert float(a[f"l2_{side}"]) == pytest.approx(float(b[f"l2_{side}"]), abs=step / 10)
            assert float(a[f"ssim_{side}"]) == pytest.approx(float(b[f"ssim_{side}"]), abs=1e-4)
    l2 = torch_["results"]["l2"]
    assert l2["final"]["mean"] < 0.2 * l2["naive"]["mean"]  # keep = 0.75 leaves a sixteenth, and the tint


@pytest.mark.slow
def test_an_exported_checkpoint_agrees_with_itself(weights, photos, tmp_path, capsys):
    import export.bundle

    export.bundle.export_model(checkpoint.load_model(weights), tmp_path / "bundle", "small")
    found = []
    for model in (weights, tmp_path / "bundle"):
        assert run("--model", model, "--data", photos, "--protocol", "portraits", "--json", "-q") == 0
        found.append(json.loads(capsys.readouterr().out)["results"])
    for name in ("l2", "l_wave", "ssim"):
        for side in ("naive", "final"):
            assert found[0][name][side]["mean"] == pytest.approx(found[1][name][side]["mean"], rel=1e-3)


def test_the_report_says_everything(weights, tmp_path, capsys):
    data = write_portraits(tmp_path / "portraits", count=5, size=SIZE)
    words = ("--model", weights, "--data", data, "--protocol", "portraits", "--limit", 3, "-q")
    assert run(*words, "--out", tmp_path / "out", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert not (tmp_path / "out" / "images.csv").exists()
    assert report["schema"] == 1
    assert report["protocol"]["name"] == "portraits" and report["protocol"]["resolution"] == SIZE
    assert report["protocol"]["range"] == [-1, 1] and "8 bit" in report["protocol"]["quantisation"]
    assert report["data"] == {"source": str(data), "limit": 3, "count": 3, "skipped": {}}
    import hashlib

    assert report["model"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert report["model"]["size"] == SIZE
    assert {"wagi", "python", "torch", "torchmetrics"} <= set(report["versions"])
    assert (
        report["command"].startswith("python -m wagi.evaluate --model ") and "--limit 3" in report["command"]
    )
    measured, missing = set(report["results"]), set(report["not_measured"])
    assert measured | missing == set(report["protocol"]["metrics"]) and not measured & missing
    assert missing == {"ms_ssim"}
    for name, sides in report["results"].items():
        keys = {"value"} if name == "portraits-FID" else {"mean", "std", "median"}
        assert sides["naive"].keys() == sides["final"].keys() == keys
    assert [set(level) for level in report["bands"]["final"]] == [{"LL", "LH", "HL", "HH", "l_wave"}] * 3
    assert len(report["weights"]["portraits-ID"]["portraits-identity.safetensors"]) == 64
    assert any("3 images for 96 features" in note for note in report["notes"])


def test_the_table_names_what_it_measures(weights, tmp_path, capsys):
    data = write_portraits(tmp_path / "portraits", count=3, size=SIZE)
    assert run("--model", weights, "--data", data, "--protocol", "portraits", "-q") == 0
    table = capsys.readouterr().out
    for text in ("64 px", "[-1, 1]", "3 images measured, 0 skipped", "portraits-ID", "final level 2",
                 "not measured: MS-SSIM needs larger pictures than 64 px"):  # fmt: skip
        assert text in table
    lowered = [line for line in table.splitlines() if line.startswith(("portraits-", "ID", "LPIPS"))]
    assert len(lowered) == 4 - 1 and not any("ArcFace" in line or "LPIPS" in line for line in lowered)


class Mean(torch.nn.Module):
    """A TorchScript FID network: 2 x 3 means of colours; only what `return_features` gives has two axes."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert images.dtype == torch.uint8
        halves = images.float().chunk(2, dim=2)
        means = torch.cat([half.mean(dim=(2, 3)) for half in halves], dim=1)
        return means if return_features else means.sum()


def test_public_networks_are_used_when_given(monkeypatch, weights, tmp_path, capsys):
    """The protocol's size is lowered: a 256 px model would need the full e4e."""
    import dataclasses

    from wagi.evaluation.protocols import PROTOCOLS

    small = dataclasses.replace(PROTOCOLS["wagi"], size=SIZE)
    monkeypatch.setitem(PROTOCOLS, "wagi", small)
    data = write_portraits(tmp_path / "portraits", count=3, size=SIZE)
    common = ("--model", weights, "--data", data, "--protocol", "wagi", "--json", "-q")
    assert run(*common) == 0
    missing = json.loads(capsys.readouterr().out)["not_measured"]
    assert missing["lpips"] == "needs --lpips-trunk FILE and --lpips-linear FILE"
    assert missing["identity"] == "needs --arcface FILE" and missing["fid"] == "needs --fid-network FILE"
    trunk, linear, *_ = random_files(tmp_path)
    torch.jit.script(Mean()).save(str(tmp_path / "fid.pt"))
    files = ("--lpips-trunk", trunk, "--lpips-linear", linear, "--fid-network", tmp_path / "fid.pt")
    assert run(*common, *files) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["not_measured"]) == {"ms_ssim", "identity"}
    assert report["results"]["lpips"]["naive"]["mean"] > 0 and report["results"]["fid"]["final"]["value"] > 0
    assert set(report["weights"]["lpips"]) == {"trunk.pth", "linear.pth"}
    assert run(*common, "--lpips-trunk", trunk) == 2
    assert "--lpips-linear: no file given" in error_line(capsys.readouterr().err)
    assert run(*common, "--fid-network", trunk) == 1
    assert "not a TorchScript network" in error_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "words, status, message",
    [
        (["--protocol", "best"], 2, "--protocol best: no such protocol; choose from wagi, hyperstyle"),
        (["--protocol", "wagi"], 2, "measures at 256 px, the model has 64 px; use --protocol portraits"),
        (["--data", "nowhere"], 2, "--data nowhere: no such folder"),
        (["--data", "portraits:9"], 2, "write portraits:SEED:COUNT"),
        (["--model", "nothing.pt"], 1, "nothing.pt: no such checkpoint file"),
        (["--model", "."], 2, "--model .: no manifest.json in this folder"),
        (["--batch", "0"], 2, "--batch 0: must be at least 1"),
        (["--limit", "-1"], 2, "--limit -1: must be 0 (all) or more"),
        (["--per-image"], 2, "--per-image: needs --out DIR"),
        (["--runtime=--threads 1"], 2, "--runtime: is for bundles"),
        (["--arcface", "x.pth"], 2, "--arcface: protocol portraits does not use it"),
    ],
)
def test_mistakes_cost_one_line(words, status, message, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = {"--model": weights, "--data": "portraits:1:1", "--protocol": "portraits"}
    given = [str(w) for pair in base.items() if pair[0] not in words for w in pair]
    assert run(*given, *words, "-q") == status
    assert message in error_line(capsys.readouterr().err)


def test_a_broken_bundle_says_what_the_runtime_says(bundle, tmp_path, capsys):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    (copy / "decode.onnx").write_bytes(b"damaged")
    assert run("--model", copy, "--data", "portraits:1:1", "--protocol", "portraits", "-q") == 1
    line = error_line(capsys.readouterr().err)
    assert "wagi-rt info failed" in line and "decode.onnx" in line


def test_an_experiment_gets_the_other_words(monkeypatch, capsys):
    """The first word decides; the experiment's own parser and errors follow."""
    import argparse
    import types

    module = types.ModuleType("toy_experiment")
    module.parser = lambda: (p := argparse.ArgumentParser("toy"), p.add_argument("--times", type=int))[0]

    def work(args):
        if args.times < 0:
            raise UserError("--times: must not be negative", 2)
        print("times", args.times)

    module.run = work
    monkeypatch.setitem(sys.modules, "toy_experiment", module)
    monkeypatch.setitem(experiments.EXPERIMENTS, "toy", "toy_experiment")
    assert run("toy", "--times", 3) == 0 and capsys.readouterr().out == "times 3\n"
    assert run("toy", "--times=-1") == 2
    assert "--times: must not be negative" in error_line(capsys.readouterr().err)


def test_help_lists_protocols_and_experiments():
    done = subprocess.run([sys.executable, "-m", "wagi.evaluate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("wagi", "hyperstyle", *experiments.EXPERIMENTS))
