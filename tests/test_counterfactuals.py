"""True edits: the same scene with one parameter changed, as training data of the inversion stage."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from tests.training_helpers import run, write_portraits
from wagi import checkpoint
from wagi.config import ModelConfig, settings
from wagi.data import Counterfactuals, PortraitMemmap
from wagi.errors import UserError
from wagi.features import FeatureFiles
from wagi.loader import collate
from wagi.networks.build import build_part
from wagi.portraits.dataset import Settings, generate, portrait
from wagi.portraits.edits import counterfactual
from wagi.portraits.parameters import CONTINUOUS
from wagi.portraits.scene import render_both
from wagi.training.inversion import InversionStage


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("worlds")
    for name, edited, count in (("portraits", False, 14), ("edits", True, 12)):
        generate(root / name, Settings(count, 32, 5, memmap=True, edited=edited), progress=False)
    return root


def test_an_edit_changes_one_parameter_within_its_range():
    seen = set()
    for index in range(80):
        before = portrait(3, index)
        after = counterfactual(before)
        assert after == counterfactual(before) == portrait(3, index, edited=True)
        changed = [
            f.name for f in dataclasses.fields(before) if getattr(before, f.name) != getattr(after, f.name)
        ]
        assert len(changed) == 1, changed
        seen |= set(changed)
        span = CONTINUOUS[changed[0]]
        assert span.low <= getattr(after, changed[0]) <= span.high
        if changed == ["yaw"]:
            assert abs(after.yaw - before.yaw) > 0.1
    assert seen == {"yaw", "pitch", "smile", "age"}


def test_a_folder_of_edits_holds_their_renderings(folders):
    pairs = Counterfactuals(PortraitMemmap(folders / "portraits", 32), folders / "edits")
    assert len(pairs) == 12
    item = pairs.get(7)
    for name, edited in (("image", False), ("edited", True)):
        pixels, labels = render_both(portrait(5, 7, edited), 32)
        np.testing.assert_allclose(item[name].permute(1, 2, 0), pixels / 127.5 - 1, atol=1e-6)
        np.testing.assert_array_equal(item["mask" if name == "image" else "edited_mask"], labels)


def test_other_folders_are_refused(folders, tmp_path, capsys):
    portraits = PortraitMemmap(folders / "portraits", 32)
    with pytest.raises(UserError, match="not the edits of these portraits"):
        Counterfactuals(portraits, folders / "portraits")
    meta = json.loads((folders / "edits" / "meta.json").read_text())
    other = tmp_path / "other"
    generate(other, Settings(2, 32, 6, memmap=True, edited=True), progress=False)
    assert meta["settings"]["edited"]
    with pytest.raises(UserError, match="seed of --data"):
        Counterfactuals(portraits, other)
    assert run("generator", folders / "portraits", tmp_path / "g", "--edited", str(other)) == 2
    assert "--edited: only for stage inversion" in capsys.readouterr().err


@pytest.fixture(scope="module")
def stage():
    model, config = settings("smoke", "inversion", {"edit_probability": "1", "warp_probability": "0"})
    torch.manual_seed(0)
    parts = {part: build_part(model, part) for part in ("generator", "encoder")}
    assert isinstance(model, ModelConfig)
    return InversionStage(model, config, parts, FeatureFiles())


def test_the_given_residual_is_what_an_edit_carries_over(stage, folders):
    pairs = Counterfactuals(PortraitMemmap(folders / "portraits", 32), folders / "edits")
    batch = collate([pairs.get(i) for i in range(4)])
    task = stage._task(batch, torch.Generator().manual_seed(0))
    assert torch.equal(task.target, batch["edited"]) and torch.equal(task.mask, batch["edited_mask"])
    wanted = stage.model.edit(batch["image"], stage.model.encode(batch["edited"]))
    torch.testing.assert_close(task.given, wanted.residual)
    torch.testing.assert_close(task.residual, stage.model.invert(batch["edited"]).residual)


def test_training_with_edits_reports_them(folders, tmp_path):
    data = folders / "portraits"
    assert run("generator", data, tmp_path / "g", "--steps", "1") == 0
    options = ["--encoder", str(tmp_path / "g" / "checkpoint.pt"), "--edited", str(folders / "edits")]
    options += ["--steps", "4", "--set", "recolour=0.5"]
    assert run("inversion", data, tmp_path / "i", *options) == 0
    last = json.loads((tmp_path / "i" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"eval/edit_ada_l1", "eval/edit_nothing_l1", "eval/l2_edited"} <= last.keys()


def test_running_statistics_stay_as_they_were(folders, tmp_path):
    data, found = folders / "portraits", []
    assert run("generator", data, tmp_path / "g", "--steps", "1") == 0
    options = ["--encoder", str(tmp_path / "g" / "checkpoint.pt"), "--steps", "2", "--set", "ada_steps=0"]
    for name in ("batch", "running"):
        assert run("inversion", data, tmp_path / name, *options, "--set", f"batch_norm={name}") == 0
        found.append(checkpoint.read(tmp_path / name / "checkpoint.pt")["training"]["models"]["aligner"])
    key = "dconv_layer1.0.res_layer.4."
    assert found[0][key + "running_var"].unique().numel() > 1
    assert torch.equal(found[1][key + "running_var"], torch.ones_like(found[1][key + "running_var"]))
    assert not torch.equal(found[1][key + "weight"], torch.ones_like(found[1][key + "weight"]))


def test_without_edits_the_data_set_has_none(tmp_path):
    item = PortraitMemmap(write_portraits(tmp_path / "p"), 32).get(0)
    assert "edited" not in item
