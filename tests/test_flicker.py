"""The flicker experiment: its measure by value, and a whole run on a tiny model."""

import json

import numpy as np
import pytest
from test_runtime_edit import brighter
from tiny_bundle import GENERATOR, write_tiny_bundle

from wagi import evaluate
from wagi.experiments.flicker import detected, flicker, roughness
from wagi_rt.directions import Direction
from wagi_rt.faces.alignment import Alignment


def test_only_what_comes_and_goes_is_flicker():
    """A sine of amplitude A and w per frame has second differences of 2 A (1 - cos w) times itself."""
    truth = np.broadcast_to(40.0, (400, 2, 2, 3))
    t = np.arange(400.0)[:, None, None, None]
    assert flicker(truth + 5 + 0.1 * t, truth) == pytest.approx(0, abs=1e-4) == roughness(0.1 * t)
    assert flicker(truth + 3 * np.sin(0.5 * t), truth) == pytest.approx(
        2 * 3 * (1 - np.cos(0.5)) * 2 / np.pi, rel=0.01
    )


def test_quads_are_off_by_as_much_as_a_detectors():
    """Over some hundred frames the farthest edge of a crop of 1024 px by about 4.5 px, the side by 0.88 %."""
    quads = [Alignment(face["quad"], 1) for (face,) in detected(300, 1024, np.random.default_rng(0))]
    exact = np.array([[0, 0], [0, 1024], [1024, 1024], [1024, 0]])
    assert 0.006 < max(abs(quad.side / 1024 - 1) for quad in quads) < 0.012
    assert 4 < max(np.abs(quad.quad - exact).max() for quad in quads) < 15


def test_a_run_writes_a_row_for_each_way(tmp_path, capsys):
    yaw = Direction("yaw", brighter(), generator=GENERATOR)
    bundle = write_tiny_bundle(tmp_path / "b", schema=3, directions=(yaw,))
    command = ["flicker", "--model", str(bundle), "--out", str(tmp_path), "--clips", "1", "--frames", "4"]
    assert evaluate.main([*command, "--size", "32"]) == 0
    report = json.loads((tmp_path / "flicker.json").read_text())
    assert [row["method"].split(" quads, ")[0] for row in report["rows"]] == ["exact", "detected", "detected"]
    assert report["flicker frame by frame over smoothed"] == pytest.approx(
        report["rows"][1]["flicker"] / report["rows"][2]["flicker"], abs=0.01
    )
    assert (tmp_path / "flicker.jpg").is_file() and "| exact quads" in capsys.readouterr().out
    assert evaluate.main([*command[:-1], "2"]) == 2
