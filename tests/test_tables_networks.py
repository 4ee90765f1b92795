"""Tables and bands by LPIPS, ID and the stand-ins, in their columns and in the losses of their rows."""

import json
from pathlib import Path

import pytest
import torch
from test_features import direct_lpips, random_files
from training_helpers import write_portraits

from wagi import checkpoint, evaluate
from wagi.experiments import heldout, networks
from wagi.standins.model import PortraitsID, load


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Portraits, LPIPS files of random weights, and the bands of A and D with one seed and two steps."""
    root = tmp_path_factory.mktemp("networks")
    write_portraits(root / "data", 12)
    write_portraits(root / "test", 3)
    random_files(root)
    assert command(root) == 0
    return root


def command(root: Path, *options: str, name: str = "bands") -> int:
    where = ["--data", str(root / "data"), "--test", str(root / "test"), "--runs", str(root / "runs")]
    budget = ["--preset", "smoke", "--seeds", "1", "--kimg", "0.008", "--generator-kimg", "0.008"]
    budget += ["--set", "ada_steps=0", "--out", str(root / "out")]
    return evaluate.main([name, *where, *budget, *options])


def files(root: Path) -> list[str]:
    trunk, linear, *_ = random_files(root)
    return ["--lpips-trunk", str(trunk), "--lpips-linear", str(linear)]


def runs(root: Path) -> set[str]:
    return {path.parent.name for path in (root / "runs").glob("inversion-*/checkpoint.pt")}


def logged(root: Path, run: str) -> dict:
    return json.loads((root / "runs" / run / "metrics.jsonl").read_text().splitlines()[0])


class Colours(torch.nn.Module):
    """In place of ArcFace, whose file has 43 million weights."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def forward(self, x, y):
        return torch.cosine_similarity(x.mean((2, 3)), y.mean((2, 3)), dim=1)


def test_columns_of_files_and_standins(world, monkeypatch, capsys):
    """Against direct computation; files that no loss needs train nothing again."""
    before = runs(world)
    monkeypatch.setattr(networks, "ArcFace", Colours)
    (world / "arcface.pth").touch()
    words = [*files(world), "--arcface", str(world / "arcface.pth"), "--standins"]
    monkeypatch.setattr("wagi.experiments.table2.CONFIGURATIONS", ("A", "D"))
    assert command(world, *words, name="table2") == 0
    assert runs(world) == before
    report = json.loads((world / "out" / "table2.json").read_text())
    assert report["columns"][-4:] == ["LPIPS", "ID", "portraits-features", "portraits-ID"]
    row = report["rows"][-1]
    with torch.no_grad():
        x = heldout.load_images(str(world / "test"), 32)
        model = checkpoint.load_model(world / "runs" / row["runs"][0] / "checkpoint.pt")
        y = ((model.invert(x).image.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
        _, _, trunk, linear = random_files(world)
        expected = {
            "LPIPS": direct_lpips("alex", trunk, linear, y, x), "ID": Colours(Path())(y, x),
            "portraits-ID": load(PortraitsID)(y, x),
        }  # fmt: skip
    for name, value in expected.items():
        assert row[name]["values"] == pytest.approx([float(value.mean())], rel=1e-3), name
        assert report["rows"][0][name] != row[name]["mean"], "the naive inversion's own number"


def test_bands_say_what_networks_say(world, capsys):
    assert command(world, *files(world)) == 0
    assert "LPIPS of the whole picture: naive (stylegan2) " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "term", "other"),
    [("files", "lpips", "portraits-features"), ("standins", "portraits-features", "lpips")],
)
def test_rows_are_trained_with_them(world, options, term, other):
    """Where a setting switches the loss on; such rows are other runs."""
    before = runs(world)
    words = files(world) if options == "files" else ["--standins"]
    assert command(world, *words, "--set", "lambda_lpips=0.8") == 0
    (new,) = {len(runs(world) - before)}
    assert new == 2
    for run in runs(world) - before:
        terms = logged(world, run)
        assert terms[term] > 0 and other not in terms


def test_a_missing_file_is_named(world, capsys):
    assert command(world, *files(world)[:2]) == 2
    assert "error: --lpips-linear: no file given" in capsys.readouterr().err
