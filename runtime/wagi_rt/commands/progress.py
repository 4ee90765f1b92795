"""The state of long work for whoever waits: now and then a line with the rate and the time that is left."""

from __future__ import annotations

import time

from wagi_rt.console import say

_EVERY = 2.0  # seconds between lines


class Progress:
    """A count of things that are done; the clock starts with the object."""

    def __init__(self, total: int, what: str, things: str, quiet: bool = False) -> None:
        """what: the name of the work; things: what is counted, in the plural."""
        self._total, self._what, self._things, self._quiet = total, what, things, quiet
        self._done = 0
        self._began = self._said = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._quiet or now - self._said < _EVERY:
            return
        self._said = now
        rate = self._done / (now - self._began)
        left = duration((self._total - self._done) / rate)
        say(f"{self._what} [{self._done}/{self._total}] {rate:.3g} {self._things}/s, {left} left")


def duration(seconds: float) -> str:
    """3 h 20 min, 3 min 20 s, or 12 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
