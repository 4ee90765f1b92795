"""Batches through three stages that overlap: read, run, write. Results come in the order of the batches.

While a batch runs, the one after it is decoded and the one before it encoded and written, each in a thread of
its own (Pillow and the engines let go of Python's lock). At most one batch waits at each end, so memory does
not grow with the number of images. A single batch needs no threads and gets none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from wagi_rt.commands.jobs import STREAM, Job
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.session import Result, Session

Prepared = list[tuple[Any, list[str]]]  # what Session.prepare gives
Finish = Callable[[Job, "Result"], dict[str, Any]]  # writes an image => its metrics


class Done:
    """One image that came through: its result and metrics, or the error that ended it."""

    def __init__(self, job: Job, result: Result | None = None, error: UserError | None = None) -> None:
        self.job, self.result, self.error = job, result, error
        self.metrics: dict[str, Any] = {}
        self.ms = 0.0  # the stages' time for its batch, divided by the batch; waiting does not count


class _Batch:
    def __init__(self) -> None:
        self.jobs: list[Job] = []  # that could be read
        self.prepared: Prepared = []
        self.done: list[Done] = []  # that could not be read
        self.seconds = 0.0


def run_stages(session: Session, batches: list[list[Job]], fit: str, finish: Finish) -> Iterator[Done]:
    """Every image of every batch, as soon as its batch is written. `finish` runs in one thread, in order."""

    def read(jobs: list[Job], stdin: bytes | None) -> _Batch:
        return _read(session, jobs, stdin, fit)

    with ExitStack() as stack:
        if len(batches) > 1:
            ahead, behind = _threads(stack)
        else:
            ahead = behind = _at_once
        reading = ahead(read, batches[0], _stdin(batches[0]))
        writing: Callable[[], list[Done]] | None = None
        for following in [*batches[1:], None]:
            batch = reading()
            if following is not None:
                reading = ahead(read, following, _stdin(following))
            finished = _run(session, batch)
            if writing is not None:
                yield from writing()
            writing = behind(_write, batch, finished, finish)
        if writing is not None:
            yield from writing()


def _threads(stack: ExitStack) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two ways to start work, each in its own thread => a function that waits for the result."""
    from concurrent.futures import ThreadPoolExecutor

    ways = []
    for _ in range(2):
        pool = ThreadPoolExecutor(max_workers=1)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        ways.append(lambda work, *arguments, pool=pool: pool.submit(work, *arguments).result)
    return ways[0], ways[1]


def _at_once(work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """The same without a thread."""
    result = work(*arguments)
    return lambda: result


def _stdin(jobs: list[Job]) -> bytes | None:
    """Read in the main thread, which a signal can interrupt."""
    return sys.stdin.buffer.read() if any(job.source == STREAM for job in jobs) else None


def _read(session: Session, jobs: list[Job], stdin: bytes | None, fit: str) -> _Batch:
    """Decode and fit; what cannot be read is done already, with its error."""
    began = time.perf_counter()
    batch = _Batch()
    for job in jobs:
        try:
            data = stdin if job.source == STREAM and stdin is not None else job.source
            batch.prepared.append(session.prepare(data, fit, name=job.source_name))
            batch.jobs.append(job)
        except UserError as error:
            batch.done.append(Done(job, error=error))
    batch.seconds = time.perf_counter() - began
    return batch


def _run(session: Session, batch: _Batch) -> list[Done]:
    """The batch through the model."""
    began = time.perf_counter()
    results = _results(session, batch.jobs, batch.prepared) if batch.jobs else []
    batch.seconds += time.perf_counter() - began
    return results


def _results(session: Session, jobs: list[Job], prepared: Prepared) -> list[Done]:
    """If the whole fails, one by one, so that one image cannot spoil the others."""
    import numpy as np

    try:
        restored = session.restore(np.stack([pixels for pixels, _ in prepared]))
        results = session.results(restored, prepared)
        return [Done(job, result) for job, result in zip(jobs, results, strict=True)]
    except UserError as error:
        if len(jobs) == 1:
            return [Done(jobs[0], error=UserError(f"{jobs[0].source_name}: {error}"))]
        return [
            done
            for job, item in zip(jobs, prepared, strict=True)
            for done in _results(session, [job], [item])
        ]


def _write(batch: _Batch, results: list[Done], finish: Finish) -> list[Done]:
    """Encode, write and measure each; a place that cannot be written is that image's failure only."""
    began = time.perf_counter()
    for done in results:
        if done.result is not None:
            try:
                done.metrics = finish(done.job, done.result)
            except UserError as error:
                done.result, done.error = None, error
    everything = [*batch.done, *results]
    seconds = batch.seconds + time.perf_counter() - began
    for done in everything:
        done.ms = seconds * 1000 / len(everything)
    return everything
