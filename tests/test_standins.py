"""The stand-in networks: what the shipped weights can tell apart, and that their training resumes exactly."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from tiny_bundle import error_line
from training_helpers import write_portraits

from wagi.data import to_float
from wagi.portraits import NUM_PARAMETERS, edit, render, sample
from wagi.standins import __main__ as command
from wagi.standins import train
from wagi.standins.clip import PortraitsCLIP
from wagi.standins.identities import IDENTITY, Identities
from wagi.standins.model import WEIGHTS, PortraitsFeatures, PortraitsID, load

HELD_OUT = Identities(seed=7_001, count=8, views=3)  # another seed than that of the shipped weights


@pytest.fixture(scope="module")
def views():
    """[8, 3, 64, 64, 3] uint8 and yaw [8, 3]: people whom no network has seen."""
    portraits = [[HELD_OUT.portrait(i, v) for v in range(3)] for i in range(8)]
    pixels = np.array([[render(one, 64) for one in person] for person in portraits])
    return pixels, np.array([[one.yaw for one in person] for person in portraits])


def test_views_share_the_person_and_nothing_else():
    first, second = (HELD_OUT.portrait(2, view) for view in range(2))
    assert all(getattr(first, name) == getattr(second, name) for name in IDENTITY)
    assert first.seed != second.seed and first.yaw != second.yaw and first.smile != second.smile
    assert HELD_OUT.portrait(3, 0).jaw != first.jaw


def test_shipped_weights_are_small():
    files = list(WEIGHTS.glob("*.safetensors"))
    assert {path.name for path in files} == {PortraitsID.file, PortraitsFeatures.file, PortraitsCLIP.file}
    assert sum(path.stat().st_size for path in files) < 2_500_000
    assert (WEIGHTS / "README.md").is_file()


def test_identity_holds_for_people_and_poses_never_seen(views):
    pixels, yaws = views
    report = train.verify_identity(load(PortraitsID), pixels, yaws)
    assert report["auc"] > 0.85 and report["auc_turned"] > 0.8
    assert report["cosine_same"] > report["cosine_different"] + 0.15
    # the same area under the curve, from embeddings of one view at a time
    flat = torch.stack([to_float(p[None])[0] for p in pixels.reshape(-1, 64, 64, 3)])
    network = load(PortraitsID)
    cosine = [[network(a[None], b[None]).item() for b in flat] for a in flat]
    pairs = [(i // 3 == j // 3, cosine[i][j]) for i in range(24) for j in range(i)]
    assert roc_auc_score(*zip(*pairs, strict=True)) == pytest.approx(report["auc"], abs=1e-3)


def test_distances_grow_with_blur(views):
    pixels = views[0][:, 0]
    sharp = to_float(pixels)
    identity, looks = load(PortraitsID), load(PortraitsFeatures)
    same, distance = [], []
    for sigma in (0.5, 1.0, 2.0, 4.0):
        blurred = to_float(gaussian_filter(pixels, (0, sigma, sigma, 0)))
        same.append(identity(blurred, sharp).mean().item())
        distance.append(looks(blurred, sharp).mean().item())
    assert identity(sharp, sharp).mean().item() == pytest.approx(1)
    assert looks(sharp, sharp).abs().max().item() == 0
    assert same == sorted(same, reverse=True) and distance == sorted(distance) and distance[0] > 0


def test_distance_equals_its_formula(views):
    looks, images = load(PortraitsFeatures), to_float(views[0][:2, 0])
    x, y = torch.nn.functional.interpolate(images, size=(128, 128), mode="bilinear").unbind(0)
    total = 0.0
    for a, b in zip(looks.trunk(x[None]), looks.trunk(y[None]), strict=True):
        a, b = a[0].double().numpy(), b[0].double().numpy()
        norms = [np.sqrt((z**2).sum(0)) + 1e-10 for z in (a, b)]
        total += ((a / norms[0] - b / norms[1]) ** 2).sum(0).mean() / 4
    assert looks(images[:1], images[1:]).item() == pytest.approx(total, rel=1e-4)


def test_attributes_are_read_off_portraits_never_seen():
    """Yaw by rank, against the parameter itself."""
    looks = load(PortraitsFeatures)
    yaws = [-0.6, -0.2, 0.2, 0.6]
    turned = [render(edit(sample(40_000 + k), yaw=yaw), 128) for k in range(3) for yaw in yaws]
    with torch.no_grad():
        predicted = looks.predict(to_float(np.stack(turned)))[:, 0].view(3, 4)
    assert (predicted.diff(dim=1) > 0).all(), predicted


# --------------------------------------------------------------------------------------------- training


def run_training(*words):
    return command.main([str(word) for word in words])


@pytest.fixture
def quick(monkeypatch):
    """A checkpoint after each two steps."""
    monkeypatch.setattr(train, "SAVE_EVERY", 2)


def tensors(path):
    from safetensors.torch import load_file

    return load_file(path)


def stop_at_second_save(monkeypatch):
    """Ctrl-C where the second checkpoint would be written."""
    saves, beside = [], train.beside

    def stopping(path):
        saves.append(path)
        if len(saves) == 2:
            raise KeyboardInterrupt
        return beside(path)

    monkeypatch.setattr(train, "beside", stopping)


def test_attribute_training_resumes_to_the_same_bits(tmp_path, quick, monkeypatch, capsys):
    data = write_portraits(tmp_path / "data", count=16, size=128, params=NUM_PARAMETERS)
    words = ("attributes", "--data", data, "--steps", 5, "--batch", 4)
    assert run_training(*words, "--out", tmp_path / "whole") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["held_out"] == 2 and len(report["r2"]) == 38
    with monkeypatch.context() as patch:
        stop_at_second_save(patch)
        assert run_training(*words, "--out", tmp_path / "parts") == 1
    assert "interrupted; run the same command again" in capsys.readouterr().err
    assert not (tmp_path / "parts" / PortraitsFeatures.file).exists()
    assert run_training(*words, "--out", tmp_path / "parts") == 0
    whole, parts = (tensors(tmp_path / run / PortraitsFeatures.file) for run in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    capsys.readouterr()
    assert run_training(*words[:-1], 2, "--out", tmp_path / "parts") == 2
    assert "holds a run with other settings" in error_line(capsys.readouterr().err)


def test_identity_training_starts_from_the_trunk_of_the_attributes(tmp_path, quick, capsys):
    words = ("identity", "--data", "identities:3:4:2", "--steps", 2, "--batch", 4, "--out", tmp_path)
    assert run_training(*words, "--init", WEIGHTS / PortraitsFeatures.file, "--lr", 1e-9) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["held_out"] == 2 and report["settings"]["init"] is True
    made, start = tensors(tmp_path / PortraitsID.file), tensors(WEIGHTS / PortraitsFeatures.file)
    kernels = [name for name in start if name.startswith("trunk.") and name.endswith("0.weight")]
    assert kernels and all(torch.allclose(made[name], start[name], atol=1e-4) for name in kernels)


@pytest.mark.parametrize(
    "words, message",
    [
        (("identity", "--data", "identities:1:2"), "write identities:SEED:COUNT:VIEWS"),
        (
            ("attributes", "--data", "portraits:1:2"),
            "needs a folder from `python -m wagi.portraits --memmap`",
        ),
        (("attributes", "--data", "x", "--steps", 0), "--steps 0: must be greater than 0"),
        (("attributes", "--data", "x", "--init", "y"), "--init: is for identity and clip only"),
    ],
)
def test_training_mistakes_cost_one_line(words, message, tmp_path, capsys):
    assert run_training(*words, "--out", tmp_path / "run") == 2
    assert message in error_line(capsys.readouterr().err)
