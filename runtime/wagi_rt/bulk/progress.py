"""The state of a bulk run for its user: a line every few seconds, the first errors, a summary."""

from __future__ import annotations

import time

from wagi_rt.bulk.ledger import Row
from wagi_rt.commands.progress import duration
from wagi_rt.console import say

_EVERY = 5.0  # seconds between lines
_MOST_ERRORS = 10  # said one by one; the report has all


class Progress:
    """Counts of images, and of workers that were lost.

    The clock starts with `begin`: opening models is no work on images.
    """

    def __init__(self, total: int, before: int, quiet: bool) -> None:
        """before: images that earlier runs did."""
        self._total, self._before, self._quiet = total, before, quiet
        self.written = self.failed = self.lost = 0
        self._began = self._said = time.monotonic()
        self._running = False

    def begin(self, description: str) -> None:
        """The first worker is ready."""
        self._running, self._began = True, time.monotonic()
        if not self._quiet:
            say(description)

    def add(self, rows: list[Row]) -> None:
        """Rows that came just now, perhaps none."""
        for row in rows:
            if row["error"] is None:
                self.written += 1
                continue
            self.failed += 1
            if self.failed <= _MOST_ERRORS:
                say(f"error: {row['error']}")
            if self.failed == _MOST_ERRORS:
                say("further errors are in the report only")
        if not self._quiet and time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            say(self._line())

    def end(self, report: str) -> None:
        """The summary."""
        if self._quiet and not self.failed:
            return
        parts = [f"{self.written + self._before} of {self._total} images done"]
        parts += [f"{self._before} of them by earlier runs"] if self._before else []
        parts += [f"{self.failed} failed"] if self.failed else []
        if self.written:
            parts.append(f"{duration(self._seconds())}, {self._rate():.3g} images/s")
        if self.lost:
            parts.append(f"{counted(self.lost, 'worker')} died and had to be replaced")
        say(f"{', '.join(parts)}; report: {report}")

    def _line(self) -> str:
        done = self.written + self.failed
        line = f"[{done + self._before}/{self._total}]" + (f" {self.failed} failed," if self.failed else "")
        if not self._running:
            return f"{line} waiting for a worker to open the model"
        left = f", {duration((self._total - self._before - done) / self._rate())} left" if done else ""
        return f"{line} {self._rate():.3g} images/s{left}"

    def _seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-3)

    def _rate(self) -> float:
        return (self.written + self.failed) / self._seconds()


def counted(number: int, thing: str) -> str:
    """1 worker, 2 workers."""
    return f"{number} {thing}{'s' * (number != 1)}"
