"""docs/architecture.md tells the truth: its floors are the import arrows, and every path it names is there.

CONTRIBUTING.md's paths too. Imports are read from the sources, wherever they stand in a file; those for type
checkers only, and a package's own front door (its `__init__`), are no arrows.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from checkout import ROOT, files

DOCUMENTS = ("docs/architecture.md", "CONTRIBUTING.md")
PACKAGES = {"wagi": ROOT / "wagi", "wagi_rt": ROOT / "runtime" / "wagi_rt", "export": ROOT / "export"}
SUFFIXES = "py md toml json h cu cpp txt onnx bin safetensors yml".split()
FLOORS = re.compile(r"^```text\n(wagi|wagi_rt)\n(.*?)^```", re.M | re.S)


# --------------------------------------------------------------------------------------------- imports


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name; a package under its own."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imported(source: str, known: set[str]) -> Iterator[str]:
    """Those of `known` that a source imports, by statement or by name (`import_module("a.b")`)."""
    tree = ast.parse(source)
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if node in guarded:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in whole]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        yield from (name for name in names if name in known and "." in name)


def graph() -> dict[str, set[str]]:
    """Module -> modules of the packages that it imports."""
    known = set(MODULES)
    return {
        name: set(imported(path.read_text(), known)) - {name}
        for name, path in MODULES.items()
        if name not in PACKAGES
    }


GRAPH = graph()


def test_the_scan_sees_imports_inside_functions_and_by_name():
    source = "from a import b\nfrom a.c import d\nif TYPE_CHECKING:\n  import a.e\ndef f():\n  import a.g\n"
    source += "TABLE = {'x': 'a.h'}\n"
    known = {"a", "a.b", "a.c", "a.e", "a.g", "a.h"}
    assert set(imported(source, known)) == {"a.b", "a.c", "a.g", "a.h"}
    assert len(MODULES) > 100 and "wagi.networks.swagan" in GRAPH["wagi.model"]


def test_no_circles():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        raise AssertionError(f"modules that import one another: {' -> '.join(error.args[1])}") from None


# ---------------------------------------------------------------------------------------------- floors


def floors(package: str) -> dict[str, int]:
    """Room -> floor, the lowest 0, as the document draws them; after # are words."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = {found[1]: found[2].split("\n") for found in FLOORS.finditer(text)}
    lines = [line.partition("#")[0].split() for line in drawn[package] if line.strip()]
    return {room.rstrip("/"): len(lines) - 1 - floor for floor, rooms in enumerate(lines) for room in rooms}


def room(module: str) -> str:
    """`networks` of wagi.networks.swagan."""
    return module.split(".")[1]


@pytest.mark.parametrize("package", ["wagi", "wagi_rt"])
def test_arrows_run_down_the_floors(package):
    where = floors(package)
    rooms = {room(name) for name in MODULES if name.startswith(f"{package}.")}
    assert rooms == set(where), f"not drawn: {rooms - set(where)}; not there: {set(where) - rooms}"
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in sorted(others)
        if name.startswith(f"{package}.") and other.startswith(f"{package}.")
        and room(name) != room(other) and where[room(other)] >= where[room(name)]
    ]  # fmt: skip
    assert not wrong, "these run up or sideways: " + "; ".join(wrong)


# ----------------------------------------------------------------------------------------------- paths


def paths(text: str) -> list[str]:
    """What a text quotes as a path: with a slash or a known suffix, and no other sign."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    names = [q for q in quoted if re.fullmatch(r"[\w./-]+", q)]
    return linked + [q for q in names if "/" in q or q.rsplit(".", 1)[-1] in SUFFIXES]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_is_there(document):
    """From the root, from the document's own folder, or, without a slash, a file of that name anywhere."""
    base, found = (ROOT / document).parent, paths((ROOT / document).read_text())
    names = {path.name for path in files()}
    missing = [p for p in found if not (ROOT / p).exists() and not (base / p).exists() and p not in names]
    assert len(found) > 10 and not missing, f"{document}: {missing}"


def test_the_tests_that_contributing_runs_exist():
    """Of every `pytest FILE -k WORD` there, the file, and a test in it whose name has the word."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    runs = re.findall(r"pytest (?:-m \w+ )?(tests/\S+)(?: -k (\w+))?", text)
    assert len(runs) >= 3 and any(word for _, word in runs)
    for name, word in runs:
        tests = re.findall(r"^def (test_\w+)", (ROOT / name).read_text(), re.M)
        assert any(word in test for test in tests), f"{name}: no test with {word}"


def test_a_missing_path_is_noticed():
    text = "`wagi/model.py`, `no/such.py`, [a](gone.md#x), `python -m x`, `N/8`\n```\n`in/block.py`\n```\n"
    assert paths(text) == ["gone.md", "wagi/model.py", "no/such.py", "N/8"]
