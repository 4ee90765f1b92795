"""Inputs of `wagi-rt bulk`: globs, lists and tables, where their outputs go, and faults by file and line."""

from argparse import Namespace
from pathlib import Path

import pytest

from wagi_rt.bulk.inputs import find
from wagi_rt.bulk.wording import Wording
from wagi_rt.errors import UserError

WORDING = Wording(None, Namespace(text=None, neutral=None, text_strength=1.0, text_threshold=None))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """data/a.png, data/deep/b.JPG, data/deep/er/a.png, data/notes.md, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/a.png", "data/deep/b.JPG", "data/deep/er/a.png", "data/notes.md"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def known(edit: str) -> None:
    name, _, value = edit.partition("=")
    if name not in ("smile", "yaw"):
        raise UserError(f"direction '{name}' is unknown", status=2)
    try:
        float(value)
    except ValueError:
        raise UserError(f"--set {edit}: the strength must be a number", status=2) from None


def places(*inputs: str) -> list[tuple[str, str]]:
    """(path, where below OUT) of everything that is found."""
    found = find(list(inputs), False, [], known, WORDING)
    assert not found.failures
    return [(source.path, str(source.below)) for source in found.files]


def test_a_glob_keeps_the_folders_below_its_fixed_part():
    all_of_them = [("data/a.png", "."), ("data/deep/b.JPG", "deep"), ("data/deep/er/a.png", "deep/er")]
    assert places("data/**/*") == all_of_them
    assert places("data/d*/*") == [("data/deep/b.JPG", "deep")]
    assert find(["data/*.tif"], False, [], known, WORDING).failures[0][0] == "data/*.tif"


def test_a_file_may_be_called_like_a_glob():
    Path("data/x[1].png").touch()
    assert places("data/x[1].png") == [("data/x[1].png", ".")]


def test_a_list_is_relative_to_itself(tmp_path):
    Path("data/list.txt").write_text(f"\ufeffa.png\r\n\ndeep/b.JPG\n../data/a.png\n{tmp_path}/x/gone.png\n")
    assert places("data/list.txt") == [
        ("data/a.png", "."),
        ("data/deep/b.JPG", "deep"),
        ("data/../data/a.png", "data"),
        (f"{tmp_path}/x/gone.png", f"{tmp_path}/x"[1:]),
    ]


def test_a_table_has_a_column_for_each_direction():
    Path("t.csv").write_text(
        'path, smile,set,name\n"data/a.png",0.5,yaw=-1 smile=2,new/one.more\ndata/a.png,,\n'
    )
    first, second = find(["t.csv"], False, [], known, WORDING).files
    assert first.edits == ("smile=0.5", "yaw=-1", "smile=2") and second.edits == ()
    assert (first.name, str(first.below)) == ("one.more", "new")
    assert (second.name, str(second.below)) == ("", "data")


@pytest.mark.parametrize(
    "text, line",
    [
        ("", "t.csv: its first line must name columns: path"),
        ("smile,path\n", "t.csv: its first line must name columns: path"),
        ("path,smile,smile\n", "then each once"),
        ("path,grin\n", "direction 'grin' is unknown"),
        ("path,smile\na.png,1\nb.png,much\n", "t.csv:3: --set smile=much: the strength must be a number"),
        ("path,set\na.png,grin=1\n", "t.csv:2: direction 'grin' is unknown"),
        ("path,smile\na.png,1,2\n", "t.csv:2: has 3 cells for 2 columns"),
        ("path,smile\n,1\n", "t.csv:2: has no path"),
        ("path,name\na.png,../up\n", "t.csv:2: name ../up: must lie below -o"),
        ("path,name\na.png,/up/x\n", "t.csv:2: name /up/x: must lie below -o"),
        ("path\n\0\n", "t.csv: is not UTF-8"),
        (b"path\n\xff\n", "t.csv: is not UTF-8"),
    ],
)
def test_a_fault_in_a_table_is_named_by_its_line(text, line):
    Path("t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        places("t.csv")
    assert line in str(error.value) and error.value.status == 2 and "\n" not in str(error.value)
