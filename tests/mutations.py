"""Single-line faults put into a copy of the checkout, one at a time: the named tests must notice each.

    python tests/mutations.py [WORD]     # only those that contain WORD; default: all, some minutes

Exit status 0 when every mutation is caught. It is an error of the list when an old text is not in its file
exactly once, or when the tests fail without any mutation.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from checkout import copy_to
from faults import FAULTS
from faults_export import EXPORT_FAULTS

# Loaded once, before processes fork; nothing of ours, so that each process reads the mutated files.
PRELOADED = ("torch", "torch._dynamo", "numpy", "scipy.signal", "skimage.metrics", "pywt", "onnxruntime")


class Mutation(NamedTuple):
    """`old` becomes `new` in `file`; of `tests` (pytest arguments below tests/), at least one must fail."""

    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [Mutation(file, *fault) for file, faults in (FAULTS | EXPORT_FAULTS).items() for fault in faults]


def pytest_status(folder: Path, tests: list[str]) -> int:
    """Exit status of pytest on these tests of the copy in `folder`, in a process forked from this one."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        here = Path(__file__).resolve().parent
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
        sys.modules.pop("checkout")
        with open(os.devnull, "w") as nothing:
            for stream in (1, 2):
                os.dup2(nothing.fileno(), stream)
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-m", "", "-p", "no:cacheprovider", *tests])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def arguments(tests: str) -> list[str]:
    return [f"tests/{test}" for test in tests.split()]


def misfit(folder: Path, mutation: Mutation) -> str:
    """The reason why this mutation cannot be made, or nothing."""
    path = folder / mutation.file
    count = path.read_text().count(mutation.old) if path.is_file() else 0
    return "" if count == 1 else f"ERROR: the old text is there {count} times, must be once"


def verdict(folder: Path, mutation: Mutation) -> str:
    """`caught`, or what is wrong with the tests or with the mutation."""
    if reason := misfit(folder, mutation):
        return reason
    path = folder / mutation.file
    text = path.read_text()
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        status = pytest_status(folder, arguments(mutation.tests))
    finally:
        path.write_text(text)
    return {0: "SURVIVED", 1: "caught"}.get(status, f"ERROR: pytest ended with status {status}")


def check(folder: Path, mutations: list[Mutation]) -> int:
    """Try each mutation in the copy at `folder`, one line each; the exit status."""
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(folder / "runtime")])
    if pytest_status(folder, sorted({test for m in mutations for test in arguments(m.tests)})):
        print("ERROR: the tests fail, or there are none, without any mutation")
        return 1
    failures = 0
    for mutation in mutations:
        start = time.monotonic()
        result = verdict(folder, mutation)
        failures += result != "caught"
        change = f"{mutation.file}: {mutation.old!r} -> {mutation.new!r}"
        print(f"{result:<8} {time.monotonic() - start:5.1f} s  {change}", flush=True)
    print(f"{len(mutations) - failures} of {len(mutations)} mutations caught")
    return int(failures > 0)


def main(word: str = "") -> int:
    for name in PRELOADED:
        __import__(name)
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        folder = copy_to(Path(scratch) / "checkout")
        return check(folder, [m for m in MUTATIONS if any(word in text for text in m)])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
