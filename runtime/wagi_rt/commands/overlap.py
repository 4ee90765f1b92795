"""Batches through three stages that overlap: read, run, write. Results come in the order of the batches.

While a batch runs, the one after it is read and the one before it written, each in a thread of its own
(Pillow and the engines let go of Python's lock). At most one batch waits at each end, so memory does not grow
with the number of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from operator import length_hint
from typing import Any, TypeVar

Batch = TypeVar("Batch")
Ready = TypeVar("Ready")
Outcome = TypeVar("Outcome")
Done = TypeVar("Done")


def overlap(
    batches: Iterable[Batch],
    read: Callable[[Batch], Ready],
    run: Callable[[Ready], Outcome],
    write: Callable[[Outcome], Done],
) -> Iterator[Done]:
    """`write(run(read(batch)))` for every batch. `run` is called in this thread, as is `batches` itself.

    A single batch, if the iterable tells its length, needs no threads and gets none. The first exception of
    a stage ends everything, once what had begun is finished.
    """
    with ExitStack() as stack:
        ahead, behind = _threads(stack) if length_hint(batches, 2) > 1 else (_at_once, _at_once)
        following = iter(batches)
        reading = _started(ahead, read, following)
        writing: Callable[[], Done] | None = None
        while reading is not None:
            ready = reading()
            reading = _started(ahead, read, following)
            outcome = run(ready)
            if writing is not None:
                yield writing()
            writing = behind(write, outcome)
        if writing is not None:
            yield writing()


def _started(
    ahead: Callable[..., Callable[[], Ready]], read: Callable[[Batch], Ready], batches: Iterator[Batch]
) -> Callable[[], Ready] | None:
    """The next batch's reading, begun; None after the last."""
    for batch in batches:
        return ahead(read, batch)
    return None


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
