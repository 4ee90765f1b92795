"""The paper's tables 2 to 4 and its figures by sub-band: rows, seeds, what is trained and what is not."""

import json
import math
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sheet_pixels import cells
from training_helpers import assert_same_bits, write_portraits

from wagi import checkpoint, evaluate
from wagi.data import to_uint8
from wagi.evaluation import inverters, measure, protocols
from wagi.experiments import heldout, published, tables
from wagi.experiments.comparison import TITLE
from wagi.experiments.runs import Runs, Task
from wagi.presets import CONFIGURATIONS
from wagi.training import loop

PRESET = "smoke"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Training and held-out portraits, and table 2 with one seed and two steps."""
    root = tmp_path_factory.mktemp("tables")
    write_portraits(root / "data", 12)
    write_portraits(root / "test", 5)
    assert command(root, "table2") == 0
    return root


def command(root: Path, name: str, *options: str, seeds: int = 1) -> int:
    where = ["--data", str(root / "data"), "--test", str(root / "test"), "--runs", str(root / "runs")]
    budget = ["--preset", PRESET, "--seeds", str(seeds), "--kimg", "0.008", "--generator-kimg", "0.008"]
    budget += ["--set", "ada_steps=0"]
    return evaluate.main([name, *where, *budget, "--out", str(root / "out"), *options])


def runs(root: Path) -> dict[str, int]:
    """Folder of each run -> when its checkpoint was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (root / "runs").glob("*/checkpoint.pt")}


def result(root: Path, name: str) -> dict:
    return json.loads((root / "out" / f"{name}.json").read_text())


# ---------------------------------------------------------------------------------------------- numbers


def test_table_2(world):
    """Four rows and two naive inversions with table, JSON and figure; the paper's numbers stand apart."""
    found = result(world, "table2")
    assert [row["row"] for row in found["rows"]] == ["naive inversion"] * 2 + list(CONFIGURATIONS)
    for row in found["rows"][2:]:
        for column in ("L1(ADA)", "L1 of doing nothing", "L2", "L_wave", "SSIM"):
            assert math.isfinite(row[column]["mean"]) and row[column]["std"] is None
    text = (world / "out" / "table2.md").read_text()
    ours, _, theirs = text.partition("The paper's own numbers")
    assert "0.011" in theirs and published.UNKNOWN in theirs and published.UNKNOWN not in ours
    assert (world / "out" / "table2.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_are_those_of_evaluate(world):
    """Scores of a run against `python -m wagi.evaluate --protocol portraits` on the same pictures."""
    row = next(row for row in result(world, "table2")["rows"] if row["row"] == "D")
    path = world / "runs" / row["runs"][0] / "checkpoint.pt"
    inverter = inverters.open_inverter(path, 4)
    found, _ = measure.evaluate(inverter, str(world / "test"), protocols.find("portraits"), batch=4)
    for column, metric in (("L2", "l2"), ("L_wave", "l_wave"), ("SSIM", "ssim")):
        expected = found["results"][metric]["final"]["mean"]
        assert row[column]["values"][0] == pytest.approx(expected, rel=1e-4), metric


def test_an_aligner_that_does_nothing_scores_as_doing_nothing(world, monkeypatch):
    path = next((world / "runs").glob("inversion-*/checkpoint.pt"))
    model = checkpoint.load_model(path)
    model.aligner.forward = lambda residual, image: residual
    monkeypatch.setattr(checkpoint, "load_model", lambda _: model)
    found = heldout.score(path, heldout.Pictures(str(world / "test"), 32))
    assert found["ada_l1"] == pytest.approx(found["warped_l1"]) and found["warped_l1"] > 0


def test_bands_obey_theorem_1(world):
    """At the finest level the four errors sum to 4 L2 (orthonormal filters). A second seed adds runs only."""
    before = runs(world)
    assert command(world, "bands", seeds=2) == 0
    assert {name: written for name, written in runs(world).items() if name in before} == before
    assert len(runs(world)) == len(before) + 2  # A and D
    l2 = {row["row"]: row["L2"]["values"][0] for row in result(world, "table2")["rows"][2:]}
    for line in result(world, "bands")["rows"]:
        if line["method"] in ("HFGI-style (A)", "WaGI (D)"):
            cells = [line[band] for band in heldout.BANDS]
            for cell in cells:
                assert cell["mean"] == pytest.approx(statistics.fmean(cell["values"]))
                assert cell["min"] < cell["max"], "the seeds change nothing"
            if line["norm"] == "L2" and line["level"] == 0:
                total = sum(cell["values"][0] for cell in cells)
                assert total == pytest.approx(4 * l2[line["method"][-2]], rel=1e-5)
    assert (world / "out" / "bands.png").is_file()


def test_the_wavelet_loss_alone(world, capsys):
    """C at weight 0 is table 2's B, at the default C; neither is trained again. D changes, too."""
    before = runs(world)
    assert command(world, "wave-loss", "--weights", "0,0.1", "--budgets", "1") == 0
    lines = {(line["row"], line["lambda_wave"]): line for line in result(world, "wave-loss")["rows"]}
    table = {row["row"]: row for row in result(world, "table2")["rows"][2:]}
    for letter, weight, same in (("C", 0.0, "B"), ("C", 0.1, "C"), ("D", 0.1, "D")):
        assert lines[letter, weight]["runs"] == table[same]["runs"]
    assert len(runs(world)) == len(before) + 1  # D without
    assert lines["D", 0.0]["L2"] != lines["D", 0.1]["L2"]
    assert command(world, "wave-loss", "--weights", "0,-1") == 2
    assert "error: --weights 0,-1: write numbers from 0" in capsys.readouterr().err


def test_bands_of_given_models_are_those_of_the_table(world, tmp_path):
    """--model measures what is there, an encoder alone too, and trains nothing."""
    runs_of = {row["row"]: row["runs"][0] for row in result(world, "table2")["rows"][2:]}
    generator = next(g for g in (world / "runs").glob("generator-*/checkpoint.pt")
                     if checkpoint.read(g)["config"]["model"]["generator"] == "swagan")  # fmt: skip
    models = [f"e4e={generator}", f"D={world / 'runs' / runs_of['D'] / 'checkpoint.pt'}"]
    words = ["bands", "--test", str(world / "test"), "--out", str(tmp_path), "--model", *models]
    assert evaluate.main(words) == 0
    given = json.loads((tmp_path / "bands.json").read_text())["rows"]
    assert command(world, "bands") == 0
    names = {"naive (swagan)": "e4e", "WaGI (D)": "D"}
    both = zip(given, (x for x in result(world, "bands")["rows"] if x["method"] in names), strict=True)
    for one, other in both:
        assert one["method"] == names[other["method"]]
        for band in heldout.BANDS:
            assert one[band]["mean"] == pytest.approx(other[band]["mean"], rel=1e-5)


# ------------------------------------------------------------------------------------------ what is trained


def test_shared_rows_are_trained_once(world):
    """Tables 4 and 3 after 2: only their own rows are new, and a second call trains nothing."""
    before = runs(world)
    assert command(world, "table4") == 0
    after = runs(world)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2  # HFGI 7,9,11; wavelets 7 and 11; features 7,9 are C+
    assert command(world, "table3") == 0
    labels = [row["row"][:3] for row in result(world, "table3")["rows"]]
    assert labels == ["nai", "(b)", "(c)", "(f)", "(g)"]  # 32 px has no wavelets at 4 and at 32 px
    assert len(runs(world)) == len(after) + 2  # (c) is table 4's last row, (g) is D
    kept = runs(world)
    assert command(world, "table3") == 0
    assert runs(world) == kept


def test_figures_6_and_10_draw_the_tables_models(world):
    """Nothing is trained again; a cell of each sheet is what that row's checkpoint gives."""
    assert command(world, "table3") == 0
    before = runs(world)
    assert command(world, "figure6") == 0 and command(world, "figure10") == 0
    assert runs(world).keys() == before.keys()
    images = heldout.load_images(str(world / "test"), 32)
    for name, table, label, row, column in (
        ("figure6", "table2", "C", 2, 4), ("figure10", "table3", "(g)", 0, 4)
    ):  # fmt: skip
        line = next(line for line in result(world, table)["rows"] if line["row"].startswith(label))
        with torch.no_grad():
            model = checkpoint.load_model(world / "runs" / line["runs"][0] / "checkpoint.pt")
            expected = to_uint8(model.invert(images).image[0])
        labels = TITLE if name == "figure6" else 0
        sheet = cells(world / "out" / f"{name}.png", left=labels)
        top, left = TITLE + 32 * row, labels + 32 * column
        assert np.abs(sheet[top : top + 32, left : left + 32].astype(int) - expected).max() <= 1
    assert sheet.shape == (TITLE + 5 * 2 * 32, (1 + 4) * 32, 3)


def test_figure_6_shows_the_residual_and_what_ada_makes_of_it(world):
    """Of C: input minus naive inversion, then ADA's answer to it, both halved."""
    assert command(world, "figure6") == 0
    line = next(line for line in result(world, "table2")["rows"] if line["row"] == "C")
    model = checkpoint.load_model(world / "runs" / line["runs"][0] / "checkpoint.pt")
    images = heldout.load_images(str(world / "test"), 32, 1)
    with torch.no_grad():
        naive = model.generator(model.encode(images)).clamp(-1, 1)
        aligned = model.aligner(images - naive, naive)
    sheet = cells(world / "out" / "figure6.png", left=TITLE)[TITLE + 2 * 32 :][:32, TITLE:]
    for column, residual in ((2, images - naive), (3, aligned)):
        found = sheet[:, 32 * column :][:, :32].astype(int)
        assert np.abs(found - to_uint8(residual[0].clamp(-2, 2) / 2)).max() <= 1


@pytest.mark.parametrize("name", ["figure6", "figure10"])
def test_figures_train_what_is_not_there(world, tmp_path, name):
    """With another budget all rows are trained first."""
    before = runs(world)
    assert command(world, name, "--kimg", "0.004", "--out", str(tmp_path)) == 0
    assert len(runs(world)) > len(before) and (tmp_path / f"{name}.png").is_file()


def test_what_makes_a_run(world, tmp_path):
    """Budget, seed, any setting and the frozen parts do; a label and the place of the data do not."""
    shutil.copytree(world / "data", tmp_path / "elsewhere")
    frozen = next((world / "runs").glob("generator-*/checkpoint.pt"))
    cache = Runs(world / "runs", PRESET, str(world / "data"))
    task = Task("inversion", "a", (("kimg", "1"), ("seed", "0")), frozen)
    same = cache.folder_of(task)
    assert cache.folder_of(replace(task, label="b")) == same
    assert replace(cache, data=str(tmp_path / "elsewhere"), jobs=2).folder_of(task) == same
    other = next(path for path in (world / "runs").glob("*/checkpoint.pt") if path != frozen)
    changed = [replace(task, frozen=other)]
    for text in (("kimg", "2"), ("seed", "1"), ("lr", "0.5"), ("feature_levels", "8")):
        changed.append(replace(task, overrides=(*task.overrides, text)))
    found = {cache.folder_of(one) for one in changed} | {replace(cache, data="portraits:5:9").folder_of(task)}
    assert len(found) == 6 and same not in found


def test_a_stopped_command_goes_on(world, tmp_path, monkeypatch, capsys):
    """Interrupted inside a run, then called again: the same bits as without the interruption."""
    for name in ("data", "test"):
        shutil.copytree(world / name, tmp_path / name)
    for folder in (world / "runs").glob("generator-*"):
        shutil.copytree(folder, tmp_path / "runs" / folder.name)
    step = loop.Trainer.train_step

    def interrupted(self, batches):
        self.interrupted = 2
        return step(self, batches)

    monkeypatch.setattr(loop.Trainer, "train_step", interrupted)
    assert command(tmp_path, "bands") == 1
    assert "interrupted; run the same command again" in capsys.readouterr().err
    monkeypatch.setattr(loop.Trainer, "train_step", step)
    assert command(tmp_path, "bands") == 0
    for folder in (tmp_path / "runs").glob("inversion-*"):
        assert_same_bits(folder, world / "runs" / folder.name)


@pytest.mark.slow
def test_runs_side_by_side_are_the_same(world, tmp_path):
    for name in ("data", "test"):
        shutil.copytree(world / name, tmp_path / name)
    assert command(tmp_path, "bands", "--jobs", "2") == 0
    names = [folder.name for folder in (tmp_path / "runs").glob("*-*")]
    assert len([name for name in names if (world / "runs" / name).is_dir()]) >= 2
    for name in names:
        if (world / "runs" / name).is_dir():
            assert_same_bits(tmp_path / "runs" / name, world / "runs" / name)


# ---------------------------------------------------------------------------------------------- wrong usage


def test_wrong_usage_is_named(world, capsys):
    generator = next((world / "runs").glob("generator-*/checkpoint.pt"))
    kind = checkpoint.read(generator)["config"]["model"]["generator"]
    other = "swagan" if kind == "stylegan2" else "stylegan2"
    cases = {
        ("--set", "feature_levels=8"): "--set feature_levels: is what the rows differ in",
        ("--set", "batch"): "--set batch: write NAME=VALUE",
        ("--test", "portraits:0:2"): "--test portraits:0:2: the training data have this seed",
        (f"--{other}", str(generator)): f"holds a {kind} generator; give it as --{kind}",
        ("--swagan", "nowhere.pt"): "--swagan nowhere.pt: no such checkpoint file",
        ("--jobs", "0"): "--jobs 0: must be greater than 0",
    }
    for options, message in cases.items():
        assert command(world, "table2", *options) == 2, options
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and message in error


def test_a_failing_run_is_named(world, tmp_path, capsys):
    """The run's own message and where its log is."""
    assert command(world, "bands", "--set", "batch=3", "--set", "accumulate=2") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "batch=3: must be a multiple of 2" in error and "log.txt" in error


# -------------------------------------------------------------------------------------------------- report


def test_cells_and_spreads():
    assert tables.cell(None) == "-" and tables.cell(0.0231234) == "0.02312" and tables.cell("x") == "x"
    assert tables.cell(tables.spread([0.5])) == "0.5000"
    found = tables.spread([1.0, 2.0, 3.0])
    assert found["std"] == pytest.approx(statistics.stdev([1, 2, 3]))
    assert tables.cell(found) == "2.000 ± 1 (1.000..3.000)"
    table = tables.markdown_table([{"a": 1, "b": 2.0}, {"a": "longer"}], ["a", "b"]).splitlines()
    assert len({len(line) for line in table}) == 1 and table[3].split("|")[2].strip() == "-"
