"""Inputs of `wagi-rt bulk`: those of `invert`, globs, lists of paths, tables with edits for each picture."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from glob import iglob
from pathlib import Path

from wagi_rt.bulk.wording import COLUMNS, Wording
from wagi_rt.commands.sources import STREAM, Source, Sources, find_sources
from wagi_rt.decoding import READ_SUFFIXES
from wagi_rt.errors import UserError

LIST, TABLE = ".txt", ".csv"
_PATH, _NAME, _SET = "path", "name", "set"  # columns of a table, and COLUMNS; every other one is a direction
_MAGIC = "*?["

Check = Callable[[str], object]


def find(inputs: list[str], recursive: bool, outputs: list[str], check: Check, wording: Wording) -> Sources:
    """All pictures in the order of the inputs; whether a listed one can be read is seen when it is.

    check: raises UserError for an edit such as "smile=+1" that the model does not know. wording: the edit by
    text of each.
    """
    found = Sources([], [], [])
    for name in inputs:
        kind = os.path.splitext(name)[1].lower()
        if name == STREAM:
            raise UserError("-: bulk reads files; name them, a folder, a list.txt or a table.csv", status=2)
        if kind in (LIST, TABLE) and os.path.isfile(name):
            found.files.extend(_listed(name) if kind == LIST else _table(name, check, wording))
        elif any(sign in name for sign in _MAGIC) and not os.path.lexists(name):
            _match(name, found)
        else:
            part = find_sources([name], recursive, outputs)
            found.files.extend(part.files)
            found.failures.extend(part.failures)
            found.notes.extend(part.notes)
    common = wording.row({})
    found.files[:] = [one if one.by_text else one._replace(by_text=common) for one in found.files]
    return found


def _match(pattern: str, found: Sources) -> None:
    """The pictures that a glob names, with their folders below its fixed part; ** stands for any folders."""
    parts = Path(pattern).parts
    fixed = Path(*parts[: [any(sign in part for sign in _MAGIC) for part in parts].index(True)])
    before = len(found.files)
    for path in sorted(iglob(pattern, recursive=True)):
        if os.path.splitext(path)[1].lower() in READ_SUFFIXES and os.path.isfile(path):
            found.files.append(Source(path, str(fixed), Path(path).parent.relative_to(fixed)))
    if len(found.files) == before:
        found.failures.append((pattern, UserError(f"{pattern}: matches no images", status=2)))


def _listed(name: str) -> list[Source]:
    """A path in each line."""
    return [_source(name, line) for line in _lines(name) if line.strip()]


def _table(name: str, check: Check, wording: Wording) -> list[Source]:
    """A row for each output: path, and as columns directions, `set` ("smile=+1 yaw=-0.3"), texts, `name`."""
    rows = csv.reader(_lines(name))
    try:
        header = [title.strip() for title in next(rows, [])]
        if header[:1] != [_PATH] or len(set(header)) < len(header):
            raise UserError(f"{name}: its first line must name columns: {_PATH}, then each once", status=2)
        for title in header[1:]:
            if title in COLUMNS:
                _of_text(name, title, check, wording)
            elif title not in (_NAME, _SET):
                check(f"{title}=0")
        found = []
        for cells in filter(any, rows):
            where = f"{name}:{rows.line_num}"
            if len(cells) > len(header):
                raise UserError(f"{where}: has {len(cells)} cells for {len(header)} columns", status=2)
            values = dict(zip(header, map(str.strip, cells), strict=False))
            found.append(_row(name, where, values, check, wording))
        return found
    except csv.Error as error:
        raise UserError(f"{name}:{rows.line_num}: is no CSV ({error})", status=2) from None


def _of_text(name: str, title: str, check: Check, wording: Wording) -> None:
    """UserError for a column of texts in a table for a model without a text model, or for a name of two."""
    try:
        check(f"{title}=0")
    except UserError:
        try:
            return wording.allow_columns()
        except UserError as error:
            raise UserError(f"{name}: column {error}", error.status) from None
    line = f"column {title}: this model has a direction of that name; write {title}=STRENGTH into `set`"
    raise UserError(f"{name}: {line}", status=2)


def _row(name: str, where: str, values: dict[str, str], check: Check, wording: Wording) -> Source:
    plain = (_PATH, _NAME, _SET, *COLUMNS)
    own = {title: text for title, text in values.items() if title not in plain and text}
    edits = (*(f"{title}={text}" for title, text in own.items()), *values.get(_SET, "").split())
    if not values[_PATH]:
        raise UserError(f"{where}: has no path", status=2)
    try:
        for edit in edits:
            check(edit)
        by_text = wording.row(values)
    except UserError as error:
        raise UserError(f"{where}: {error}", error.status) from None
    source = _source(name, values[_PATH])
    below, stem = os.path.split(values.get(_NAME, ""))
    if os.path.isabs(below) or ".." in Path(below).parts:
        raise UserError(f"{where}: name {values[_NAME]}: must lie below -o", status=2)
    place = Path(below) if stem else source.below
    return source._replace(edits=edits, by_text=by_text, name=stem, below=place)


def _source(name: str, path: str) -> Source:
    """A listed picture, relative to its list; below OUT it keeps the folders of its path."""
    folders = Path(os.path.normpath(path)).parent
    below = Path(*(part for part in folders.parts if part not in (folders.anchor, "..")))
    return Source(os.path.join(os.path.dirname(name), path), os.path.dirname(name), below)


def _lines(name: str) -> Iterator[str]:
    try:
        with open(name, encoding="utf-8-sig", newline="") as stream:
            for line in stream:
                if "\0" in line:
                    raise UserError(f"{name}: is not UTF-8 text; save it as UTF-8", status=2)
                yield line.rstrip("\r\n") if name.lower().endswith(LIST) else line
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error}); check it", status=2) from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: is not UTF-8 text; save it as UTF-8", status=2) from None
