"""Clocks: candidates take turns in every round, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
# Threads of an engine spin for a few milliseconds after its work: the next candidate waits for them.
_PAUSE = 0.05


@dataclass
class Samples:
    """Milliseconds of every measured call: on the wall, and of all the process's threads together."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def statistics(self) -> dict[str, float]:
        """mean, std, min, p50, p90, p95, p99, max of the wall times."""
        return statistics(self.wall)


def statistics(values: list[float]) -> dict[str, float]:
    import numpy as np

    p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99))
    found = {
        "mean": np.mean(values), "std": np.std(values), "min": min(values), "p50": p50,
        "p90": p90, "p95": p95, "p99": p99, "max": max(values),
    }  # fmt: skip
    return {name: round(float(value), 4) for name, value in found.items()}


def interleave(
    works: Mapping[Key, Callable[[], object]],
    rounds: int,
    warmup: int,
    report: Callable[[str], None] = lambda text: None,
) -> dict[Key, Samples]:
    """Call every work once per round, every other round in reverse order; `warmup` rounds do not count."""
    samples = {key: Samples() for key in works}
    order = list(works)
    for number in range(warmup + rounds):
        report(
            f"warm-up {number + 1} of {warmup}"
            if number < warmup
            else f"round {number - warmup + 1} of {rounds}"
        )
        for key in order if number % 2 == 0 else reversed(order):
            time.sleep(_PAUSE)
            wall, cpu = time.perf_counter(), time.process_time()
            works[key]()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if number >= warmup:
                samples[key].wall.append(wall * 1000)
                samples[key].cpu.append(cpu * 1000)
    return samples
