"""The files of a bundle are those that its manifest names: all there, unchanged, and no others used."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from wagi_rt import files
from wagi_rt.errors import UserError, printable

REMEDY = "export the bundle again (export/to_onnx.py) or copy it again"
# How every ONNX library writes the name of a tensor's file: a string entry with the key "location", then the
# length of its value as a varint.
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]{0,2})([\x00-\x7f])")


def check(folder: Path, hashes: Mapping[str, str], graphs: Collection[str], thorough: bool) -> None:
    """UserError for the first file that is missing, changed, or used by a graph and not listed.

    hashes: file -> SHA-256 of everything; graphs: those of it that are ONNX files. Large files that passed
    once are not read again, see files.passes; `thorough` reads all.
    """
    for name, sha256 in hashes.items():
        path = folder / name
        if not os.path.isfile(path):
            raise UserError(f"{path}: the bundle is incomplete, this file is missing; {REMEDY}")
        try:
            if not files.matches(path, sha256, thorough):
                reason = "sha256 differs from the manifest, the file was changed or damaged"
                raise UserError(f"{path}: {reason}; {REMEDY}")
            if name in graphs:
                _check_external(path, PurePosixPath(name).parent, set(hashes) - set(graphs), thorough)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def _check_external(path: Path, place: PurePosixPath, listed: set[str], thorough: bool) -> None:
    unlisted: set[str] = set()

    def test(path: Path) -> bool:
        unlisted.update({str(place / name) for name in external(path)} - listed)
        return not unlisted

    if not files.passes(path, test, "external data", place, sorted(listed), thorough=thorough):
        name = printable(min(unlisted))[:80]
        raise UserError(f"{path}: uses {name}, which the manifest does not list under 'files'; {REMEDY}")


def external(path: Path) -> set[str]:
    """The files in which an ONNX file keeps tensors, by the names that stand in it."""
    names: set[str] = set()
    with open(path, "rb") as stream, suppress(ValueError):  # an empty file cannot be mapped
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for found in _LOCATION.finditer(data):
                high, low = found.groups()
                length = low[0] << 7 * len(high) | sum((byte & 127) << 7 * i for i, byte in enumerate(high))
                names.add(data[found.end() : found.end() + length].decode(errors="replace"))
    return names
