"""`evaluate paper`: every statement is judged by the numbers of its report, and a stopped command goes on."""

import json

import pytest

from wagi import config, evaluate
from wagi.experiments import EXPERIMENTS, claims, paper, rows, table3


def report(**columns):
    """Rows A, B, C with these values by column."""
    rows = [
        {"row": row, **{name: {"mean": values[k]} for name, values in columns.items()}}
        for k, row in enumerate("ABC")
    ]
    return {"rows": rows}


def test_the_best_row():
    found = report(L2=(3.0, 2.0, 1.0), SSIM=(0.1, 0.9, 0.8))
    assert claims.best("C", ("L2",))(found)[1] and not claims.best("C", ("L2",), ("SSIM",))(found)[1]
    assert claims.best("C", ("L2",), ("SSIM",), apart=("B",))(found)[1]
    assert claims.best("C", ("L2", "LPIPS"))(found) == ("L2: A 3, B 2, C 1", True)  # what is there counts


def test_a_row_below_another():
    found = report(L2=(10.0, 8.0, 9.5))
    assert claims.less("L2", "B", "A", 0.15)(found) == ("L2: B 8, A 10 (-20.0%)", True)
    assert claims.less("L2", "C", "A", 0.15)(found)[1] is False
    assert claims.less("L2", "A", "B")(found)[1] is False
    assert claims.less("L2", "B", "A", at_most=0.1)(found)[1] is False
    assert claims.less("L2", "A", "D")(found) == ("D: not in this report", None)
    assert claims.best("D", ("L2",))(found) == ("D: not in this report", None)


def bands_report(l2, l1=None, ratio=30):
    """Lines of the finest level: norm -> method -> LL, LH, HL, HH; a coarser one that must not count."""
    lines = []
    for norm, methods in (("L2", l2), ("L1", l1 or l2)):
        for method, values in methods.items():
            line = {"method": method, "norm": norm, "LL / mean of the others": ratio}
            cells = dict(zip(("LL", "LH", "HL", "HH"), values, strict=True))
            lines += [{**line, "level": 0, **cells}, {**line, "level": 1, **dict.fromkeys(cells, 99)}]
    return {"rows": lines}


def test_bands_in_each_norm():
    """The least in every high band; LL does not count, and each norm stands for itself."""
    good, bad = {"HFGI": (1, 2, 2, 2), "WaGI": (9, 1, 1, 1)}, {"HFGI": (9, 2, 2, 0.5), "WaGI": (1, 1, 1, 1)}
    for norm, held in (("L2", True), ("L1", False)):
        assert claims.bands(norm)(bands_report(good, bad))[1] is held
        assert claims.bands(norm)(bands_report(bad, good))[1] is not held


def test_the_bias_of_high_rate_models():
    """LL must fall by more than a tenth and the high bands by no more, of HyperStyle and HFGI alike."""

    def held(hyper, hfgi):
        lines = {"ReStyle (e4e)": (10, 1, 1, 1), "HyperStyle": hyper, "HFGI": hfgi, "WaGI": (1, 0, 0, 0)}
        return claims.biased(bands_report(lines))[1]

    assert held((5, 1, 1, 0.9), (4, 1.5, 1, 1)) is True
    assert held((5, 1, 1, 0.9), (4, 0.5, 1, 1)) is False
    assert held((9.5, 1, 1, 1), (4, 1, 1, 1)) is False
    assert claims.biased(bands_report({"HFGI": (1, 1, 1, 1)}))[1] is None


def test_the_factor_thirty():
    lines = {"HFGI": (30, 1, 1, 1), "WaGI": (1, 1, 1, 1)}
    for norm in ("L1", "L2"):
        for ratio, held in ((30, True), (6, False)):
            assert claims.thirty(norm, ("HFGI",))(bands_report(lines, ratio=ratio))[1] is held
        assert claims.thirty(norm, ("HFGI", "HyperStyle"))(bands_report(lines))[1] is None, "one is not there"


def test_a_second_feature_level():
    """(e) against (a) and so on, where both are there."""
    for values, held in (((3, 4, 2, 3), True), ((3, 4, 2, 5), False)):
        rows = [{"row": f"({k}) lf", "L2": v} for k, v in zip("bcfg", values, strict=True)]
        assert claims.levels({"rows": rows})[1] is held
    assert claims.levels({"rows": [{"row": "(b) lf", "L2": 1}]})[1] is None


def test_wavelets_below_eleven():
    """(c) against (a) and (b), (g) against (e) and (f)."""
    for values, held in (((3, 4, 2, 9, 5, 6, 1, 0), True), ((3, 4, 2, 9, 0.5, 6, 1, 0), False)):
        rows = [{"row": f"({k}) lf", "L_wave": v} for k, v in zip("abcdefgh", values, strict=True)]
        assert claims.higher({"rows": rows})[1] is held


def test_spectra_and_octaves():
    def fits(l2, distance):
        rows = [
            {"generator": kind, "spectral loss": loss, "L2": l2[k], "spectral distance": distance[k]}
            for kind in ("stylegan2", "swagan")
            for k, loss in enumerate(("no", "yes"))
        ]
        return {"rows": rows, "notes": ["n"]}

    def alone(stylegan2, swagan):
        rows = [
            {"generator": kind, "spectral loss": term, "top octave [dB]": error if term == "no" else 0}
            for kind, error in (("stylegan2", stylegan2), ("swagan", swagan))
            for term in ("no", "yes")
        ]
        return claims.fitted({"rows": rows})[1]

    assert alone(20, 2) and not alone(20, 10) and not alone(2, 2)
    assert claims.spectral(fits((1, 2), (2, 1))) == ("n", True)
    assert not claims.spectral(fits((2, 1), (2, 1)))[1] and not claims.spectral(fits((1, 2), (1, 2)))[1]
    for values, held in (((1, 2, 4), True), ((1, 3, 4), False)):
        rows = [
            {"left out": "all levels down to it", "configuration": name, "l2": value}
            for name, value in zip("ABC", values, strict=True)
        ]
        assert claims.octaves({"rows": rows})[1] is held


def test_a_stopped_command_goes_on(tmp_path, monkeypatch):
    """Steps that are done are not run again; the page has each with its command and verdict."""
    chosen = [step for step in paper.STEPS if step.name in ("figure2a", "figure9")]
    monkeypatch.setattr(paper, "STEPS", tuple(chosen))
    words = ["paper", "--out", str(tmp_path), "--pictures", "portraits:5:1"]
    assert evaluate.main(words) == 0
    text = (tmp_path / "paper.md").read_text()
    assert "`python -m wagi.evaluate figure9 --data portraits:5:1 --out" in text
    assert "| little is lost from A to B, much from B to C | L2, all levels" in text
    assert "![Figure 2a: bands of a picture](figure2a.png)" in text
    monkeypatch.setattr(paper, "_experiment", None)
    assert evaluate.main(words) == 0
    assert (tmp_path / "paper.md").read_text() == text


def test_every_row_exists_at_the_default_size():
    """Nobody who tries the command reads that a row of tables 2 to 4 is missing."""
    args = paper.parser().parse_args(["--out", "x"])
    model, _ = config.settings(args.preset, "inversion")
    assert rows.possible(table3.rows_of(model), model)[1] == []
    assert not rows.layers("WaGI", model, "swagan", (7, 9, 11)).missing(model)


def test_every_experiment_of_the_paper_has_a_step():
    steps = {step.name for step in paper.STEPS}
    assert steps <= EXPERIMENTS.keys()
    others = {"paper", "edits", "samples", "ood", "detail", "flicker"}
    assert {name for name in EXPERIMENTS if name.startswith(("table", "figure"))} <= steps | others


@pytest.mark.slow
def test_the_whole_paper_at_a_tiny_budget(tmp_path):
    assert evaluate.main(["paper", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "paper.md").read_text()
    assert text.count("\n## ") == len(paper.STEPS) and "| - |" in text
    for step in paper.STEPS:
        assert (tmp_path / (step.picture or f"{step.name}.png")).is_file(), step.title
    assert json.loads((tmp_path / "table1.json").read_text())["rows"]
