"""Options of the export commands arrive, and errors name those of the command that was typed."""

from pathlib import Path

import numpy as np
import pytest

from export import check_parity, to_onnx
from tests.export_models import CONFIG, small_model
from tests.tiny_bundle import write_tiny_bundle
from wagi.checkpoint import save, state_of
from wagi.networks.build import PARTS
from wagi.portraits import dataset, render
from wagi_rt.directions import Direction, write


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


def test_the_options_of_edits_reach_the_export(checkpoint, tmp_path, capsys, monkeypatch) -> None:
    """--directions gives every file of the folder by its name, --held-out all the pictures, in order."""
    given: dict = {}

    def export_model(model, out, name, **options):
        given.update(options, heldout=np.concatenate(list(options["heldout"])))
        return [], None

    monkeypatch.setattr("export.bundle.export_model", export_model)
    monkeypatch.setattr("export.rows.table", lambda *found: "")
    folder, vector = tmp_path / "directions", np.ones(CONFIG.style_dim, np.float32)
    words = ["--checkpoint", str(checkpoint), "-o", str(tmp_path / "out")]
    words += ["--directions", str(folder), "--held-out", "portraits:5:3"]
    folder.mkdir()
    assert to_onnx.main(words) == 2
    assert f"--directions {folder}: holds no .safetensors files" in capsys.readouterr().err
    for file, name in (("a", "smile"), ("b", "yaw")):
        write(folder / f"{file}.safetensors", Direction(name, vector))
    assert to_onnx.main(words) == 0
    assert sorted(given["directions"]) == ["smile", "yaw"]
    wanted = [render(dataset.portrait(5, k), CONFIG.size).transpose(2, 0, 1) / 127.5 - 1 for k in range(3)]
    np.testing.assert_allclose(given["heldout"], wanted, atol=1e-6)
    assert given["source"]["command"].endswith("--held-out portraits:5:3 --directions directions")
    write(folder / "c.safetensors", Direction("yaw", vector))
    assert to_onnx.main(words) == 2
    assert "c.safetensors: another file there is called yaw, too" in capsys.readouterr().err
