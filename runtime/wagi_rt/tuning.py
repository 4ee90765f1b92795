"""The fastest engine here: every one that can run a bundle is measured, in turns, on one image.

Each is open in a process of its own (wagi_rt.trial), which may crash or hang without harm. Those of a small
model are open together and take turns, so that whatever disturbs the machine disturbs all of them; large ones
come one after another, because of their memory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Protocol

from wagi_rt import backends, files, measured
from wagi_rt.engines.base import EngineChoice, parse_device
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest
from wagi_rt.measured import Row

BUDGET = 120.0  # seconds for all engines together; after them nothing more is tried
# Turns end after so many, or after so many seconds and the least number of them; later where times scatter,
# and earlier where each engine takes so many times as long as the next faster one.
_TURNS, _LEAST, _SECONDS, _LONGEST = 6, 2, 1.0, 4.0
_FEW, _APART = 4, 1.25
_ALIKE, _WAITING = 1.05, 0.1  # two runs; the share of a run that its threads may wait for a CPU
_AGAIN = 3600.0  # seconds after which a machine that was busy may be tried again
_GENTLY = 10  # the niceness of what nobody waits for


class Trial(Protocol):
    """One engine being measured. Its calls take at most so many seconds; UserError says what went wrong."""

    def ready(self, seconds: float) -> None: ...

    def run(self, seconds: float) -> tuple[float, float]:
        """Milliseconds of an inversion, and of those that its threads waited for a CPU, added up."""
        ...

    def close(self) -> None: ...


Launch = Callable[[EngineChoice], Trial]


class Process:
    """A Trial in a process."""

    def __init__(self, bundle: str, choice: EngineChoice) -> None:
        words = [*python("from wagi_rt.trial import main; main()"), json.dumps([bundle, *choice])]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answers: Queue[str] = Queue()
        Thread(target=self._listen, daemon=True).start()

    def ready(self, seconds: float) -> None:
        self._answer(seconds)

    def run(self, seconds: float) -> tuple[float, float]:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended; the missing answer says how
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        found = self._answer(seconds)
        return float(found["ms"]), float(found["waited"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put("")

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(seconds, 0.0))
        except Empty:
            raise UserError("not done in time; allow more by --budget") from None
        if not line:
            raise UserError(_ending(self._process.wait()))
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise UserError(found["error"])
        return found


def python(code: str) -> list[str]:
    """A Python that runs `code` and finds the modules that this one finds, and none in the working folder."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]


def _ending(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    with suppress(ValueError):
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process was ended by signal {-status}"


def measure(
    manifest: Manifest,
    threads: int | None = None,
    budget: float = BUDGET,
    launch: Launch | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Row], bool]:
    """Rows of every engine that there is, in the order of `backends.candidates`, and whether to trust them.

    Not where the two best runs of one are apart or had to wait: then something else took the machine's time.
    """
    wanted = backends.candidates(EngineChoice(backends.AUTO, None, threads, backends.AUTO))
    launch = launch or (lambda choice: _start(manifest, choice))
    end = clock() + budget
    together = manifest.total_bytes <= files.SMALL
    rows: dict[EngineChoice, Row] = {}
    steady = True
    for group in [wanted] if together else [[one] for one in wanted]:
        if clock() < end:
            found = _Turns(group, launch, end, clock)
            rows |= found.rows
            steady = steady and found.steady
        else:
            rows |= {one: _row(one, error=f"not tried, {budget:g} s were over") for one in group}
    return [rows[one] for one in wanted], steady


def _start(manifest: Manifest, choice: EngineChoice) -> Process:
    """A process; UserError where it is known without one that this machine lacks what the engine needs."""
    if choice.precision == "bf16" and not files.may_have_bf16():
        raise UserError("this CPU does not compute in it")
    if _kind(choice) == "cuda":
        if choice.backend == "trt":
            works, why = backends.engine_class("trt").available()
            if not works:
                raise UserError(why)
        elif (found := find_spec("onnxruntime")) and found.origin:
            if not list(Path(found.origin).parent.glob("capi/*onnxruntime_providers_cuda*")):
                raise UserError("this ONNX Runtime has no CUDA")
    return Process(str(manifest.folder), choice)


class _Turns:
    """Engines that are open at the same time, each run in every turn => their rows."""

    def __init__(
        self, group: Sequence[EngineChoice], launch: Launch, end: float, clock: Callable[[], float]
    ) -> None:
        self._trials: dict[EngineChoice, Trial] = {}
        self._failed: dict[EngineChoice, str] = {}
        # (ms, ms of waiting) of each run, the best first
        self._runs: dict[EngineChoice, list[tuple[float, float]]] = {one: [] for one in group}
        with ExitStack() as closing:
            for one in sorted(group, key=_looks_for_a_gpu):
                with self._noting(one):
                    self._trials[one] = launch(one)
                    closing.callback(self._trials[one].close)
            for one, trial in self._trials.items():
                with self._noting(one):
                    trial.ready(end - clock())
            self._run(end, clock)

    def _run(self, end: float, clock: Callable[[], float]) -> None:
        began, turns = clock(), 0
        while working := [one for one in self._trials if one not in self._failed]:
            for one in working:
                with self._noting(one):
                    self._runs[one] = sorted([*self._runs[one], self._trials[one].run(end - clock())])
            turns, spent = turns + 1, clock() - began
            enough = turns >= _TURNS or (turns >= _LEAST and spent >= _SECONDS)
            enough = enough or (turns >= _FEW and self._apart)
            if clock() >= end or (enough and (self.steady or spent >= _LONGEST)):
                break

    @contextmanager
    def _noting(self, one: EngineChoice) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            self._failed[one] = str(error)

    @property
    def steady(self) -> bool:
        """True when the two best runs of each that works are alike, and did not wait for a CPU."""
        found = [runs[:2] for one, runs in self._runs.items() if one not in self._failed]
        return all(
            len(best) == 2
            and best[1][0] <= _ALIKE * best[0][0]
            and all(waited <= _WAITING * ms for ms, waited in best)
            for best in found
        )

    @property
    def _apart(self) -> bool:
        """True when no two engines are so near one another that further runs could change their order."""
        best = sorted(runs[0][0] for one, runs in self._runs.items() if one not in self._failed)
        return all(slower >= _APART * faster for faster, slower in pairwise(best))

    @property
    def rows(self) -> dict[EngineChoice, Row]:
        return {
            one: _row(one, error=self._failed[one]) if one in self._failed else _row(one, runs[0][0])
            for one, runs in self._runs.items()
        }


def _kind(choice: EngineChoice) -> str:
    """cpu or cuda."""
    return parse_device(choice.device or "cpu")[0]


def _looks_for_a_gpu(choice: EngineChoice) -> bool:
    """True where a look for a driver comes before its process: a tenth of a second, while others begin."""
    return _kind(choice) == "cuda"


def _row(choice: EngineChoice, ms: float | None = None, error: str = "") -> Row:
    return Row(choice.backend, _kind(choice), choice.precision, None if ms is None else round(ms, 3), error)


def afterwards(manifest: Manifest, choice: EngineChoice) -> str:
    """Begin to measure in the background, where that is small, kept and of use => a line on it, or "".

    The process is on its own: it neither holds up nor outlives anything that the caller has, runs with low
    priority, and only one at a time. A large model takes a minute and gigabytes, which nobody asked for.
    """
    if len(backends.candidates(choice)) < 2 or getattr(sys, "frozen", False):
        return ""
    options = ["-m", str(manifest.folder)]
    options += ["--threads", str(choice.threads)] if choice.threads else []
    if manifest.total_bytes > files.SMALL:
        return f"auto has not measured this model here; once: wagi-rt tune {' '.join(options)}"
    if measured.tried(manifest, choice.threads) < _AGAIN:
        return ""
    place = measured.folder(manifest)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    if not os.access(place, os.W_OK | os.X_OK):
        return ""
    words = [*python("from wagi_rt.__main__ import command; command()"), "tune", "--gently", "-q", *options]
    nowhere = subprocess.DEVNULL
    with suppress(OSError):
        subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
        return "auto measures the engines now, in the background, for later runs"
    return ""


def be_gentle() -> None:
    """Let everything else on this machine go first."""
    if hasattr(os, "nice"):
        with suppress(OSError):
            os.nice(_GENTLY)
