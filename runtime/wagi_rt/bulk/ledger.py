"""Rows of images in a file that only grows while a run writes it: what is done survives any kill.

Each line is one JSON object: a row, or the outputs that were begun. A later row of an image replaces an
earlier one; the end of a run leaves the last row of each. A run holds the file, another one is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from wagi_rt import files
from wagi_rt.commands.jobs import Job
from wagi_rt.errors import UserError

Row = dict[str, Any]
Id = tuple[str, str | None]  # input, output
_BEGUN = "begun"
_BESIDE = re.compile(r"\.(.+)\.\d+\.tmp")  # what files.write_beside leaves where it was killed


class Ledger:
    """done: input and output of every image without an error => the settings that it was made with."""

    def __init__(self, path: Path, anew: bool = False) -> None:
        """anew: forget the rows that are there. UserError while another run holds the file."""
        self.path = path
        self.done: dict[Id, str] = {}
        self._failed: set[Id] = set()
        self._begun: set[str] = set()  # outputs without a row
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = open(path, "a+", encoding="utf-8")
            _hold(self.stream.fileno(), path)
            if anew:
                self.stream.truncate(0)
        except OSError as error:
            raise _unwritable(path, error) from None
        for row in self._read():
            self._take(row)

    def knows(self, job: Job) -> bool:
        """True where a file at the job's place is ours, though it may be no result."""
        place = job.source, job.target
        return place in self.done or place in self._failed or job.target in self._begun

    def begin(self, jobs: Iterable[Job]) -> None:
        """Say whose files may be there from now on."""
        self.add([{_BEGUN: [job.target for job in jobs]}])

    def add(self, rows: list[Row]) -> None:
        """Rows of images that are done or failed."""
        for row in rows:
            self._take(row)
        try:
            self.stream.write("".join(map(_line, rows)))
            self.stream.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def sweep(self) -> None:
        """Remove pieces that killed processes left beside outputs; not while a worker writes."""
        folders: dict[Path, set[str]] = defaultdict(set)
        for place in (*self._begun, *(target for _, target in (*self.done, *self._failed) if target)):
            folders[Path(place).parent].add(Path(place).name[:200])
        for folder, names in folders.items():
            with suppress(OSError):
                for entry in os.scandir(folder):
                    if (found := _BESIDE.fullmatch(entry.name)) and found[1] in names:
                        os.unlink(entry)

    def close(self) -> None:
        """One row for each image, as they came, and what was begun; no file where there is neither."""
        with self.stream:
            lines = {_id(row): _line(row) for row in self._read() if _BEGUN not in row}
            begun = [_line({_BEGUN: sorted(self._begun)})] if self._begun else []
            if lines or begun:
                files.write_atomic(self.path, "".join([*lines.values(), *begun]).encode())
            else:
                self.path.unlink()

    def _take(self, row: Row) -> None:
        if _BEGUN in row:
            self._begun.update(row[_BEGUN])
            return
        self._begun.discard(row.get("output"))
        self.done.pop(_id(row), None)
        self._failed.discard(_id(row))
        if row.get("error") is None:
            self.done[_id(row)] = row.get("settings", "")
        else:
            self._failed.add(_id(row))

    def _read(self) -> Iterator[Row]:
        """Every whole line; a kill may have cut one off, and the next one must not grow onto it."""
        self.stream.seek(0)
        line = "\n"
        for line in self.stream:
            try:
                row = json.loads(line)
            except ValueError:
                row = {} if line.startswith("{") else None
            if not isinstance(row, dict) or (row and not {_BEGUN, "input"} & set(row)):
                raise UserError(f"{self.path}: is no report of bulk; choose another --report", status=2)
            if row:
                yield row
        if not line.endswith("\n"):
            self.stream.write("\n")


def _id(row: Row) -> Id:
    return row["input"], row.get("output")


def _line(row: Row) -> str:
    return f"{json.dumps(row)}\n"


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written ({error.strerror or error}); choose another place")


def _hold(descriptor: int, path: Path) -> None:
    """Lock the file until it is closed, or the process dies."""
    try:
        import fcntl
    except ImportError:  # Windows: nobody watches
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(descriptor).st_ino == path.stat().st_ino  # it may just have been replaced
    except BlockingIOError:
        held = False
    if not held:
        raise UserError(f"{path}: another run is writing it; wait for it, or choose another -o and --report")
