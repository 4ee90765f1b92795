"""benchmarks/layers.py divides a run by ONNX Runtime's own profile, and loses nothing of it."""

import json

import pytest
from tiny_bundle import error_line, write_tiny_bundle

from benchmarks import floor, layers


def event(name: str, op: str, begin: int, us: int, reads=(), writes=()) -> dict:
    args = {"op_name": op}
    for side, shapes in (("input", reads), ("output", writes)):
        args[f"{side}_type_shape"] = [{"float": shape} for shape in shapes]
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": begin, "dur": us, "args": args}


def profile() -> list[dict]:
    """A run that does not count, and two of 100 and 120 us, in ONNX Runtime's words."""
    events = []
    for begin, us, first in ((0, 900, 800), (1000, 100, 40), (2000, 120, 60)):
        events += [
            {"cat": "Session", "name": "model_run", "ts": begin, "dur": us},
            event("a", "Conv", begin + 1, first, [[1, 4, 8, 8], [8, 4, 3, 3], [8]], [[1, 8, 8, 8]]),
            event("b", "Conv", begin + 900, 10, [[1, 8, 8, 8], [8, 1, 4, 4]], [[1, 8, 7, 7]]),
            event("c", "Mul", begin + 920, 20, [[1, 8, 7, 7], [1, 8, 1, 1]], [[1, 8, 7, 7]]),
            event("d", "NoSuchOp", begin + 950, 5),
        ]
    return events


def test_nodes_are_medians_of_the_runs_that_count():
    found, whole = layers.nodes(profile())
    assert whole == pytest.approx(0.110)
    assert {n.name: (n.group, n.ms) for n in found} == {
        "a": ("Conv", pytest.approx(0.050)), "b": ("FIR", 0.01), "c": ("elementwise", 0.02),
        "d": ("other", 0.005),
    }  # fmt: skip
    assert found[2].values == 2 * 392 + 8 and found[0].shapes == "1x4x8x8 8x4x3x3 1x8x8x8"


def test_groups_stand_beside_their_own_floor():
    """In floors of the whole graph; the rest of a run is between the nodes."""
    found, whole = layers.nodes(profile())
    work = [floor.Layer(2_000_000, 0, 0), floor.Layer(500_000, 0, 0, "FIR")]
    report = layers.divide(found, whole, work, floor.Rates(gflops=100, gbytes=1))  # 40 us and 10 us
    groups = report["groups"]
    assert report["floor_multiple"] == pytest.approx(0.110 / 0.050)
    assert (groups["Conv"]["floors"], groups["Conv"]["needed"]) == (1.0, 0.8)
    assert (groups["FIR"]["floors"], groups["FIR"]["needed"]) == (0.2, 0.2)
    assert groups["elementwise"]["needed"] == pytest.approx(792 * 4e-6 / 0.050, rel=1e-3)
    assert groups["between nodes"]["share"] == pytest.approx(0.025 / 0.110, rel=1e-3)
    assert sum(row["share"] for row in groups.values()) == pytest.approx(1, abs=1e-3)
    assert groups["elementwise"]["operators"] == {"Mul": pytest.approx(0.1818)}


def test_a_bundle_from_profile_to_table(tmp_path, capsys):
    """A real profile: every layer of the graph is in it, all shares together are the run."""
    bundle, out = write_tiny_bundle(tmp_path / "tiny", pipeline=True, default="pipeline"), tmp_path / "l.json"
    words = ["--bundle", str(bundle), "--rounds", "2", "--threads", "1", "--out", str(out)]
    assert layers.main(words) == 0
    report = json.loads(out.read_text())
    assert sum(row["share"] for row in report["groups"].values()) == pytest.approx(1, abs=0.01)
    counted = floor.layers(bundle / "pipeline.onnx", 1)
    assert sum(report["groups"][g]["nodes"] for g in layers.LAYERS if g in report["groups"]) == len(counted)
    assert "| whole |  | 100 % |" in capsys.readouterr().out


def test_wrong_usage_is_one_line(tmp_path, capsys):
    bare = write_tiny_bundle(tmp_path / "bare")
    for words, message in (
        (["--size", "100"], "--size 100: choose from 32"),
        (["--size", "32", "--bundle", str(bare)], "--bundle: not together with --size"),
        (["--rounds", "0"], "--rounds"),
        (["--bundle", str(bare)], "has no graph `pipeline`"),
    ):
        assert layers.main(words) in (1, 2)
        assert message in error_line(capsys.readouterr().err)
