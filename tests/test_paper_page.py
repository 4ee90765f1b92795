"""docs/paper.md keeps its word: every command parses, every path is there, nothing is left out."""

import contextlib
import importlib
import io
import json
import re
import shlex

import pytest
from checkout import ROOT
from test_project_rules import COMMANDS, parser_of

from wagi.experiments import EXPERIMENTS
from wagi.experiments.paper import STEPS

PAGE = (ROOT / "docs" / "paper.md").read_text()
CELLS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not re.fullmatch(r"[|\- ]+", line)
]
ROWS = [cells for cells in CELLS if cells[0] != "of the paper"]
WORDS = [word for word in re.findall(r"`([^`]+)`", "\n".join(" ".join(cells) for cells in ROWS))]
LINES = sorted({word for word in WORDS if word.startswith(("python ", "wagi-rt "))})
SHORT = {name: re.search(rf"`\${name}` +(?:stands )?for\s+`([^`]+)`", PAGE) for name in ("TABLES", "TABLE1")}


def parse(line: str) -> None:
    """argparse takes the words; SystemExit when it does not."""
    for name, found in SHORT.items():
        assert found, name
        line = line.replace(f"${name}", found[1])
    words = shlex.split(line)
    if words[:3] == ["python", "-m", "wagi.evaluate"] and words[3] in EXPERIMENTS:
        importlib.import_module(EXPERIMENTS[words[3]]).parser().parse_args(words[4:])
        return
    start = max((name for name in COMMANDS if line.startswith(name)), key=len)
    parser_of(start).parse_args(words[len(start.split()) :])


@pytest.mark.parametrize("line", LINES)
def test_commands_parse(line):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            parse(line)
        except SystemExit:
            pytest.fail(f"{line}\n{said.getvalue()}")


def test_a_mistyped_command_is_noticed():
    with contextlib.redirect_stderr(io.StringIO()), pytest.raises(SystemExit):
        parse("python -m wagi.evaluate figure9 --nothing --out OUT")


def test_paths_are_there():
    paths = [word for word in WORDS if re.fullmatch(r"[\w./]+(\.py|\.md|/)", word)]
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


def test_nothing_is_left_out():
    """All figures, tables and the systems that the paper compares with; each row has a verdict."""
    names = " ".join(cells[0] for cells in ROWS)
    figures = {
        int(n) for text in re.findall(r"Figures? ([\d\w ,and]+)", names) for n in re.findall(r"\d+", text)
    }
    assert figures >= set(range(1, 13))
    assert all(f"Table {n}" in names for n in range(1, 5))
    assert all(re.search(rf"eqs?\. .*\({n}\)", names) for n in range(1, 10))
    systems = (
        "Theorem 1|Lemma 1.1|pSp|e4e|ReStyle|HyperStyle|HFGI|SWAGAN|StyleGAN2|InterFaceGAN|StyleCLIP|ArcFace"
    )
    for name in f"{systems}|LPIPS|FFHQ|CelebA-HQ|PTI|IntereStyle".split("|"):
        assert name in names, name
    assert not [cells[0] for cells in ROWS if len(cells) != 4 or not cells[3]]


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "figure1", "figure8", "figure9"])
def test_verdicts_are_those_of_the_numbers(name):
    """The first words of a row are what `evaluate paper` says of the committed report: yes, no, in part."""
    report = ROOT / "docs" / "results" / f"{name}.json"
    if not report.is_file():
        pytest.skip(f"{name} is not measured yet")
    (step,) = (step for step in STEPS if step.name == name)
    judged = [claim.judge(json.loads(report.read_text()))[1] for claim in step.claims if claim.judge]
    held = set(judged) - {None}
    (row,) = (c for c in ROWS if c[0].startswith(("Table", "Figure")) and f"evaluate {name} " in c[2])
    expected = {(True,): "yes", (False,): "no"}.get(tuple(held), "in part")
    assert re.match(rf"{expected}\b", row[3]), (expected, judged, row[3])
