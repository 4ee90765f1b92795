"""Promise: the tests see faults; `tests/mutations.py` puts some thirty into a copy, and each is caught."""

import subprocess
import sys
from pathlib import Path

import pytest
from mutations import MUTATIONS, misfit

HERE = Path(__file__).parent


def test_the_list_fits_the_code(root):
    """Each old text is in its file exactly once, and each test that is named is there."""
    unfit = [f"{m.file}: {m.old!r}" for m in MUTATIONS if misfit(root, m)]
    assert not unfit, "change these in tests/faults*.py, together with the code: " + "; ".join(unfit)
    for mutation in MUTATIONS:
        assert mutation.new != mutation.old
        for test in mutation.tests.split():
            name, *function = test.split("::")
            text = (HERE / name).read_text()
            assert all(f"def {part}(" in text for part in function), test
    assert len(MUTATIONS) >= 30


def check(folder: Path, *mutations: tuple[str, str, str, str]) -> subprocess.CompletedProcess:
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); from pathlib import Path; import mutations as m; "
        f"sys.exit(m.check(Path({str(folder)!r}), [m.Mutation(*x) for x in {mutations!r}]))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_what_survives_and_what_does_not_fit_are_errors(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "sums.py").write_text("def total(a, b):\n    return a + b\n\n\ndef unused():\n    return 1\n")
    good = "from sums import total\n\n\ndef test_total():\n    assert total(2, 3) == 5\n"
    (tmp_path / "tests" / "test_sums.py").write_text(good)
    caught = ("sums.py", "a + b", "a - b", "test_sums.py")
    others = {
        ("sums.py", "return 1", "return 2", "test_sums.py"): "SURVIVED",
        ("sums.py", "a * b", "a - b", "test_sums.py"): "ERROR: the old text is there 0 times",
        ("gone.py", "a", "b", "test_sums.py"): "ERROR: the old text is there 0 times",
        ("sums.py", "return", "return 1", "test_sums.py"): "ERROR: the old text is there 2 times",
    }
    done = check(tmp_path, caught, *others)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and lines[-1] == "1 of 5 mutations caught", done.stdout + done.stderr
    assert all(line.startswith(words) for line, words in zip(lines[1:], others.values(), strict=False))
    assert "a + b" in (tmp_path / "sums.py").read_text(), "the copy is mended after each"
    (tmp_path / "tests" / "test_sums.py").write_text(good.replace("== 5", "== 6"))
    done = check(tmp_path, caught)
    assert done.returncode == 1 and "without any mutation" in done.stdout


@pytest.mark.slow
def test_every_mutation_is_caught(root):
    done = subprocess.run([sys.executable, "tests/mutations.py"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
