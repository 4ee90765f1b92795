"""Errors of the export commands name the options of the command that was typed."""

from pathlib import Path

import pytest

from export import check_parity, to_onnx
from tests.export_models import CONFIG, small_model
from tests.tiny_bundle import write_tiny_bundle
from wagi.checkpoint import save, state_of
from wagi.networks.build import PARTS


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    model = small_model()
    save(tmp_path / "model.pt", "inversion", CONFIG, {part: state_of(getattr(model, part)) for part in PARTS})
    return tmp_path / "model.pt"


def test_a_folder_to_calibrate_on_that_is_not_there(checkpoint, tmp_path, capsys) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "made"
    words = ["--checkpoint", checkpoint, "-o", out, "--calibrate", nowhere]
    assert to_onnx.main([str(word) for word in words]) == 2
    assert capsys.readouterr().err.startswith(f"error: --calibrate {nowhere}: no such folder")
    assert not out.exists()


def test_a_checkpoint_of_another_size(checkpoint, tmp_path, capsys) -> None:
    other = write_tiny_bundle(tmp_path / "other", size=64)
    assert check_parity.main([str(other), "--checkpoint", str(checkpoint)]) == 2
    line = f"error: --checkpoint {checkpoint}: is a model of 32 px, the bundle is one of 64"
    assert capsys.readouterr().err.startswith(line)
