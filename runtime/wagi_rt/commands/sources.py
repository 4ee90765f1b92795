"""Inputs of `wagi-rt invert`: files, folders and stdin as a list of pictures, and what is not among them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from wagi_rt.decoding import READ_SUFFIXES
from wagi_rt.errors import UserError

STREAM = "-"
# Photos that are not read: worth a note where a folder has them.
_OTHER_PHOTOS = frozenset(".heic .heif .hif .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .jxl".split())


class ByText(NamedTuple):
    """An edit by text (wagi_rt.worded): towards `text` from `neutral`, how far, and of which styles."""

    text: str
    neutral: str
    strength: float
    threshold: float


class Source(NamedTuple):
    """A picture: its path ("-" is stdin), the folder it was found in (None: was named), and where below.

    name: of its output, less the ending ("": as the picture's). edits: of this picture alone, as after --set.
    by_text: its edit by text, if any.
    """

    path: str
    folder: str | None = None
    below: Path = Path()
    name: str = ""
    edits: tuple[str, ...] = ()
    by_text: ByText | None = None


class Sources(NamedTuple):
    """Everything that the inputs name. failures: an input and why it cannot be read."""

    files: list[Source]
    failures: list[tuple[str, UserError]]
    notes: list[str]


def find_sources(
    inputs: list[str], recursive: bool, outputs: list[str], suffixes: Collection[str] = READ_SUFFIXES
) -> Sources:
    """The files in the order of the inputs, a folder's by name. Folders of `outputs` are not searched."""
    found = Sources([], [], [])
    ours = {os.path.realpath(path) for path in outputs}
    for name in inputs:
        if name == STREAM:
            found.files.append(Source(name))
        elif os.path.isdir(name):
            _search(name, recursive, ours, suffixes, found)
        elif os.path.exists(name):
            found.files.append(Source(name))
        else:
            found.failures.append((name, UserError(f"{name}: no such file; check the path")))
    return found


def _search(folder: str, recursive: bool, ours: set[str], suffixes: Collection[str], found: Sources) -> None:
    """A folder's pictures. Hidden files are passed over, such as the ._NAME that macOS leaves beside NAME."""
    before, left_out = len(found.files), Counter[str]()

    def unreadable(error: OSError) -> None:
        name = os.fsdecode(error.filename or folder)
        found.failures.append(
            (name, UserError(f"{name}: folder cannot be read ({error.strerror}); check its permissions"))
        )

    failures = len(found.failures)
    for place, folders, files in os.walk(folder, onerror=unreadable):
        below = Path(os.path.relpath(place, folder))
        visible = (path for path in map(Path, sorted(files)) if not path.name.startswith("."))
        for path in visible:
            if path.suffix.lower() in suffixes and os.path.isfile(os.path.join(place, path)):
                found.files.append(Source(str(Path(place) / path), folder, below))
            elif path.suffix.lower() in _OTHER_PHOTOS:
                left_out[f"{path.suffix.lower()} files (convert them to JPEG)"] += 1
        inner = [
            name for name in sorted(folders)
            if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) not in ours
        ]  # fmt: skip
        folders[:] = inner if recursive else []
        if inner and not recursive:
            left_out["sub-folders (searched with --recursive)"] += len(inner)
    if left_out:
        found.notes.append(f"{folder}: left out {_list(left_out.items())}")
    if len(found.files) == before and len(found.failures) == failures:
        found.failures.append((folder, UserError(f"{folder}: no images in this folder", status=2)))


def _list(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts)
