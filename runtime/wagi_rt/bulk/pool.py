"""Images handed to workers in chunks; a worker that dies costs time, and no image is tried for ever.

Ray restarts and retries by itself, but would send a picture that kills its worker round without an end. Here
the images of a chunk that failed are tried again one by one, and what fails alone becomes a row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from wagi_rt.bulk.cluster import Cluster, Died, Raised
from wagi_rt.bulk.ledger import Row
from wagi_rt.bulk.worker import Worker, failed
from wagi_rt.commands.jobs import Job
from wagi_rt.errors import UserError

_TRIES = 3  # of an image: with others, then alone
_MOST_DEATHS = 3  # one after the other, while a model is opened
_MOST_BATCHES = 16  # of a chunk
_SHARES = 4  # a worker's share of what is left comes in so many chunks at least


class Pool:
    """A number of workers. lost: how many died. opened: descriptions of those that work."""

    def __init__(
        self,
        cluster: Cluster,
        workers: int,
        batch: int,
        opening: tuple[object, ...],
        tell: Callable[[str], None],
    ) -> None:
        """opening: the arguments of Worker.open. batch: images that run together. tell: what went wrong."""
        self._cluster, self._workers, self._batch, self._opening = cluster, workers, batch, opening
        self._tell = tell
        self.lost = 0
        self.opened: list[str] = []
        self._queue, self._again = deque[Job](), deque[Job]()
        self._failures: dict[str, list[str]] = {}  # output -> why each try failed
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, list[Job]]] = {}  # call -> worker, its images; none: it opens
        self._deaths = 0

    def run(self, jobs: list[Job], begin: Callable[[list[Job]], None]) -> Iterator[list[Row]]:
        """Rows as they come, an empty list about every second without; `begin` is told before a chunk starts.

        UserError when the model cannot be opened.
        """
        self._queue.extend(jobs)
        for _ in range(min(self._workers, -(-len(jobs) // self._batch))):
            self._hire()
        while self._queue or self._again or any(chunk for _, chunk in self._busy.values()):
            while self._idle and (chunk := self._next()):
                begin(chunk)
                worker = self._idle.pop()
                self._busy[self._cluster.call(worker, "work", chunk)] = worker, chunk
            yield [row for call in self._cluster.wait(list(self._busy)) for row in self._settle(call)]

    def _hire(self) -> None:
        worker = self._cluster.hire(Worker)
        self._busy[self._cluster.call(worker, "open", *self._opening)] = worker, []

    def _next(self) -> list[Job]:
        """A chunk: smaller ones towards the end, so that all workers end together; what failed comes last."""
        if not self._queue:
            return [self._again.popleft()] if self._again else []
        share = len(self._queue) // (self._batch * self._workers * _SHARES)
        count = self._batch * max(1, min(_MOST_BATCHES, share))
        return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]

    def _settle(self, call: Any) -> list[Row]:
        """The rows of a call that ended."""
        worker, chunk = self._busy.pop(call)
        try:
            found = self._cluster.result(call)
        except (Died, Raised) as error:
            if isinstance(error, Raised) and chunk:
                self._idle.append(worker)
            else:
                self.lost += 1
                self._cluster.dismiss(worker)
                self._hire()
            return self._try_again(chunk, str(error))
        if isinstance(found, UserError):
            raise found
        self._idle.append(worker)
        self._deaths = 0
        if not chunk:
            self.opened.append(found)
            return []
        for row in found:
            if why := self._failures.get(row["output"]):
                row["notes"] = [*row["notes"], f"tried again after: {', '.join(why)}"]
        return found

    def _try_again(self, chunk: list[Job], why: str) -> list[Row]:
        """Put the images back, each alone; rows for those that had all their tries."""
        if not chunk:
            self._deaths += 1
            if self._deaths >= _MOST_DEATHS:
                raise UserError(f"workers do not open the model ({why}); try fewer --actors")
        self._tell(
            f"{why}: its {len(chunk)} images one by one" if chunk else f"{why} while opening the model"
        )
        rows = []
        for job in chunk:
            tries = self._failures.setdefault(job.target, [])
            tries.append(why)
            if len(tries) < _TRIES:
                self._again.append(job)
            else:
                rows.append(failed(job, f"{job.source}: failed {len(tries)} times ({why})"))
        return rows
