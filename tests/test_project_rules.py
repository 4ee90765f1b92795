"""Rules about the project itself: sizes, versions, paths, and the help of every command."""

import argparse
import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import tomllib
from checkout import ROOT, files

CODE = (".py", ".cpp", ".cu", ".h", ".cmake", ".sh")
MEGABYTE = 1 << 20
ENTRY = re.compile(r"^if __name__ == .__main__.:", re.MULTILINE)
# What no `--help` may need: a user of the base install reads the help too.
HEAVY = ("torch", "onnx", "onnxscript", "onnxruntime", "cv2", "scipy", "skimage", "tensorboard", "tqdm")


def commands() -> dict[str, str]:
    """Every command: how it is written -> the Python that starts it. Found, not listed."""
    found = {"wagi-rt": "import sys; from wagi_rt.cli import main; sys.exit(main())"}
    for path in files(".py"):
        if path.parts[0] not in ("wagi", "export", "benchmarks"):
            continue
        if path.name != "__main__.py" and not ENTRY.search((ROOT / path).read_text()):
            continue
        if path.parts[0] == "wagi":
            module = ".".join(path.with_suffix("").parts).removesuffix(".__main__")
            found[f"python -m {module}"] = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
        else:
            found[f"python {path}"] = (
                f"import runpy, sys; sys.path.insert(0, {str(ROOT / path.parent)!r}); "
                f"runpy.run_path({str(ROOT / path)!r}, run_name='__main__')"
            )
    return found


COMMANDS = commands()


def run_help(command: str, *arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """`command ... --help` in a fresh process in which some modules cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({without!r})); sys.argv[0] = {command!r}; "
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")])}
    return subprocess.run(
        [sys.executable, "-c", code + COMMANDS[command], *arguments, "--help"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60,
    )


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser whose help the command prints, taken while it prints it."""
    seen: list[argparse.ArgumentParser] = []
    path, argv, modules = list(sys.path), sys.argv, set(sys.modules)
    scripts = (str(ROOT / "export"), str(ROOT / "benchmarks"))
    patch = pytest.MonkeyPatch()
    patch.setattr(argparse.ArgumentParser, "print_help", lambda self, file=None: seen.append(self))
    try:
        sys.argv = [command, "--help"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            exec(COMMANDS[command], {})  # noqa: S102 - the same few words that start it in a process
    finally:
        patch.undo()
        sys.argv, sys.path[:] = argv, path
        for name in set(sys.modules) - modules:  # a script's siblings have names that others may use
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(scripts):
                del sys.modules[name]
    assert seen, f"{command} --help printed no argparse help"
    return seen[0]


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The sub-commands of a parser by name."""
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    found = {name: child for action in nested for name, child in action.choices.items()}
    for child in found.values():  # one may get its options only now
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            child.parse_args(["--help"])
    return found


def undocumented(parser: argparse.ArgumentParser) -> list[str]:
    """Options and sub-commands without a help text, in this parser and those below it."""
    missing = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            described = {choice.dest for choice in action._choices_actions if choice.help}
            missing += [f"{parser.prog} {name}" for name in action.choices if name not in described]
        elif not action.help or action.help == argparse.SUPPRESS:
            missing.append(f"{parser.prog} {'/'.join(action.option_strings) or action.dest}")
    for child in subparsers(parser).values():
        missing += undocumented(child)
    return missing


def test_the_commands_are_found():
    expected = {"wagi-rt", "python -m wagi.train", "python -m wagi.portraits", "python export/to_onnx.py",
                "python export/check_parity.py"}
    assert expected <= set(COMMANDS), f"not there: {sorted(expected - set(COMMANDS))}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_works_on_the_base_install(command):
    """Exit 0, a usage line, and no need of torch or any other extra."""
    done = run_help(command, without=HEAVY)
    assert done.returncode == 0 and "usage:" in done.stdout, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_is_documented(command):
    """A non-empty help text for each option and sub-command, and `--help` of each sub-command works."""
    parser = parser_of(command)
    missing = undocumented(parser)
    assert not missing, f"no help text: {missing}"
    for name, child in subparsers(parser).items():
        child.format_help()
        done = run_help(command, name, without=HEAVY)
        assert done.returncode == 0 and name in done.stdout, f"{command} {name} --help\n{done.stderr}"


def test_an_undocumented_option_is_noticed():
    parser = argparse.ArgumentParser(prog="p")
    commands_of = parser.add_subparsers()
    commands_of.add_parser("silent").add_argument("--mute")
    commands_of.add_parser("good", help="does good").add_argument("file", help="the file")
    assert undocumented(parser) == ["p silent", "p silent --mute"]


def test_files_stay_short():
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in files(*CODE)}
    long = {path: count for path, count in lengths.items() if count > 320}
    assert not long, f"over 320 lines: {long}"


def test_functions_stay_short():
    long = []
    for path in files(".py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 80:
                    long.append(f"{path}:{node.lineno} {node.name} ({length})")
    assert not long, f"over 80 lines: {long}"


def test_docstrings_begin_with_a_noun():
    """A docstring that begins with a question word reads as a riddle."""
    riddles, kinds = [], (ast.Module, ast.ClassDef, ast.FunctionDef)
    for path in (path for path in files(".py") if path.parts[0] != "tests"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            words = (ast.get_docstring(node) or "") if isinstance(node, kinds) else ""
            if re.match(r"(What|Which|Whether|How|Where)\b", words):
                riddles.append(f"{path}: {words.splitlines()[0]}")
    assert not riddles, riddles


def test_one_version():
    """The packages, their metadata and the first heading of the change log name the same version."""
    import wagi
    import wagi_rt

    heading = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading and heading[1] == wagi.__version__ == wagi_rt.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "wagi/__init__.py"
    assert "version" in project["project"]["dynamic"]


def test_the_base_install_stays_lean():
    """Nothing but numpy and Pillow, and no extra that asks for both ONNX Runtime wheels."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"base": project["dependencies"], **project["optional-dependencies"]}
    names = {group: {re.split(r"[<>=!~\[; ]", line)[0] for line in lines} for group, lines in groups.items()}
    assert names["base"] == {"numpy", "pillow"}
    assert not any({"onnxruntime", "onnxruntime-gpu"} <= found for found in names.values())


def test_committed_files_stay_small():
    sizes = {path: (ROOT / path).stat().st_size for path in files()}
    big = {str(path): f"{size / MEGABYTE:.1f} MiB" for path, size in sizes.items() if size > 12 * MEGABYTE}
    assert not big, f"over 12 MiB: {big}"
    demo = sum(size for path, size in sizes.items() if path.is_relative_to("runtime/wagi_rt/demo"))
    assert demo < 16_000_000, f"the embedded bundle has {demo / 1e6:.1f} MB, 16 are allowed"


def test_no_paths_of_one_machine():
    """Written in pieces here, so that this file does not hold what it forbids."""
    machine = re.compile("|".join(("/" + "work/", "/tmp/" + "bash_jobs", "/" + "root/")))
    found = []
    for path in files():
        data = (ROOT / path).read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if machine.search(line):
                found.append(f"{path}:{number}")
    assert not found, f"paths of one machine: {found}"


# Notes that a clone does not contain; written in pieces, so that this file does not hold what it forbids.
NOTES = re.compile(
    "|".join(
        (r"paper_vs_" + "references", r"\barchitectures[ .](md|\d)", r"\bdesign" + r"\.md",
         r"\bportraits" + r"\.md", r"\bperformance" + r"\.md", r"\btensorrt" + "11", r"\bpaper_" + "numbers",
         r"\b[Ii]ssue" + r" \d", r"\b[Oo]ur " + "sources")
    )
)  # fmt: skip
DECISION = re.compile(r"\bdecisions? (\d+)((?:(?:, | and | to |-)\d+)*)")


def lines() -> Iterator[tuple[str, str]]:
    """(path:number, line) of every text file of the checkout."""
    for path in files(*CODE, ".md", ".json", ".txt", ".toml", ".yml"):
        text = (ROOT / path).read_text(errors="replace")
        yield from ((f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), 1))


def cited(line: str) -> set[int]:
    """The decisions that a line names: "decisions 8, 40" are 8 and 40."""
    found = (re.findall(r"\d+", "".join(match.groups())) for match in DECISION.finditer(line))
    return {int(number) for numbers in found for number in numbers}


def test_nothing_cites_what_a_clone_does_not_contain():
    found = [where for where, line in lines() if NOTES.search(line)]
    assert not found, f"cite a number of docs/decisions.md instead: {found}"


def test_decisions_that_are_cited_exist():
    text = (ROOT / "docs" / "decisions.md").read_text()
    numbers = [int(number) for number in re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)), "docs/decisions.md counts from 1 without gaps"
    wrong = [(where, number) for where, line in lines() for number in cited(line) - set(numbers)]
    assert not wrong, f"no such decision: {wrong}"
    assert sum(bool(cited(line)) for _, line in lines()) > 20, "the search finds no citations"


def test_citations_are_recognised():
    assert cited("as it is (decision 7), see decisions 8, 40 and 41") == {7, 8, 40, 41}
    for text in ("paper_vs_" + "references 12", "architectures" + ".md", "Issue" + " 4", "Our " + "sources"):
        assert NOTES.search(text), text
    assert not NOTES.search("chooses the architectures unless told; docs/results.md; issue")
