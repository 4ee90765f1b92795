"""The commands of the README are run as they stand, in one copy of the checkout, from top to bottom.

A block ```bash needs a marker in the line before it: `<!-- test -->`, `<!-- test: slow -->` (with
`pytest -m slow` only) or `<!-- not tested: reason -->`. Blocks of `make` commands alone need none: .ci/run
runs those.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from checkout import ROOT, copy_to

README = ROOT / "README.md"
MARKER = re.compile(r"<!-- *(test|test: slow|not tested: *\S.*?) *-->")


class Block(NamedTuple):
    """One fenced block: its first line in the README, the marker before it, the commands."""

    line: int
    marker: str | None
    text: str


def bash_blocks(text: str) -> list[Block]:
    """All ```bash (or sh, shell, console) blocks of a Markdown text, in order."""
    blocks: list[Block] = []
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        fence = re.match(r"\s*(`{3,}|~{3,})\s*(\w*)", lines[i])
        if not fence:
            i += 1
            continue
        end = i + 1
        while end < len(lines) and not re.fullmatch(rf"\s*{fence[1][0]}{{{len(fence[1])},}}\s*", lines[end]):
            end += 1
        if fence[2] in ("bash", "sh", "shell", "console"):
            marker = MARKER.fullmatch(lines[i - 1].strip()) if i else None
            blocks.append(Block(i + 1, marker[1] if marker else None, "\n".join(lines[i + 1:end]) + "\n"))
        i = end + 1
    return blocks


def only_make(block: Block) -> bool:
    """Whether every command of the block is a `make` quick start that .ci/run covers."""
    commands = [line.split("#")[0].strip() for line in block.text.splitlines()]
    return all(command in ("", "make demo", "make page", "make test") for command in commands)


def execute(blocks: list[Block], scratch: Path) -> None:
    """Run the blocks one after the other in a copy of the checkout, with the test's own interpreter first."""
    checkout = copy_to(scratch / "checkout")
    tools = scratch / "bin"
    tools.mkdir()
    own = Path(sys.executable).parent
    shims = {"python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'}
    if not (own / "wagi-rt").exists():  # the tests run in the checkout, which nobody installed
        shims["wagi-rt"] = f"#!{sys.executable}\nfrom wagi_rt.cli import command\ncommand()\n"
    for name, text in shims.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(tools), str(own), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(checkout), str(checkout / "runtime")]),
        "OMP_NUM_THREADS": "1",
    }
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text], cwd=checkout, env=env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        assert done.returncode == 0, f"README.md:{block.line}\n{block.text}\n{done.stdout[-4000:]}"


def test_the_parser_sees_blocks_and_markers(tmp_path):
    """Markers bind to the next line only; a failing command fails the run."""
    blocks = bash_blocks(
        "<!-- test -->\n```bash\necho a > made\n```\n<!-- test -->\n\n```sh\nls\n```\n"
        "```python\nx\n```\n<!-- not tested: needs a GPU -->\n```bash\nfalse\n```\n"
        "```bash\nmake demo  # x\n```\n"
    )
    assert [b.marker for b in blocks] == ["test", None, "not tested: needs a GPU", None]
    assert [only_make(b) for b in blocks] == [False, False, False, True]
    execute(blocks[:1], tmp_path / "good")
    assert (tmp_path / "good" / "checkout" / "made").read_text() == "a\n"
    with pytest.raises(AssertionError, match="README.md:"):
        execute([Block(1, "test", "true\nfalse\ntrue\n")], tmp_path / "bad")


def test_every_block_is_tested_or_says_why_not():
    blocks = bash_blocks(README.read_text())
    bare = [f"README.md:{b.line}" for b in blocks if b.marker is None and not only_make(b)]
    assert not bare, f"no marker before these blocks: {bare}"
    assert any(b.marker == "test" for b in blocks), "no block of the README is tested"


def test_the_demo_says_how_the_next_commands_are_found():
    """What `make demo` prints at its end is what the first block with `wagi-rt` begins with."""
    dry = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    said = re.search(r'export PATH=\\"(\S+):\\\$PATH', dry.stdout)
    assert said and f"{os.path.relpath(said[1], ROOT)}/wagi-rt invert" in dry.stdout
    first = next(b for b in bash_blocks(README.read_text()) if "wagi-rt" in b.text)
    assert first.text.startswith(f'export PATH="{said[1].replace(str(ROOT), "$PWD")}:$PATH"')


def test_the_commands_work(tmp_path):
    """The whole pipeline of the README at its small budget."""
    execute([b for b in bash_blocks(README.read_text()) if b.marker == "test"], tmp_path)


@pytest.mark.slow
def test_the_slow_commands_work(tmp_path):
    """All marked blocks together, because the slow ones may use what the others wrote."""
    blocks = [b for b in bash_blocks(README.read_text()) if b.marker in ("test", "test: slow")]
    if all(b.marker == "test" for b in blocks):
        pytest.skip("the README has no slow block")
    execute(blocks, tmp_path)
