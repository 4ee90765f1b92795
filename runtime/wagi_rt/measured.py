"""Times of this machine's engines for a bundle: cache/auto/KEY/THREADS.json.

KEY differs with everything that times depend on: the bundle, this package and the engines', processor, GPUs,
and the engines that were built for them. A file that cannot be used is none: it is measured again.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wagi_rt import __version__, files
from wagi_rt.engines import host

if TYPE_CHECKING:
    from wagi_rt.manifest import Manifest

_FORMAT = 1
_PACKAGES = ("onnxruntime", "openvino", "tensorrt", "cuda_bindings")  # all that begins so
_INSTALLED = ".dist-info"
_NVIDIA = Path("/proc/driver/nvidia")
_WHICH_CORE = ("model name", "CPU implementer", "CPU part")  # lines of /proc/cpuinfo


class Row(NamedTuple):
    """One engine. precision: what it was asked for, None for the bundle's own. ms: None where it failed."""

    backend: str
    device: str  # cpu or cuda
    precision: str | None
    ms: float | None
    error: str = ""

    def title(self, plain: str) -> str:
        """`openvino fp32`; plain: the bundle's precision."""
        where = "" if self.device == "cpu" else f" on {self.device}"
        return f"{self.backend} {self.precision or plain}{where}"


class Measured(NamedTuple):
    """The engines that were tried with so many threads (a number, or `all` of the machine's)."""

    rows: tuple[Row, ...]
    threads: str
    created: str

    def times(self, plain: str) -> dict[str, float]:
        """Title -> ms of what was measured, the fastest first."""
        done = sorted((row.ms, row.title(plain)) for row in self.rows if row.ms is not None)
        return {title: ms for ms, title in done}

    def reason(self, title: str, plain: str) -> str:
        """`auto chose openvino fp32 (14.2 ms; onnx fp32 19.8)`, with all that was measured."""
        times = self.times(plain)
        chosen = f"{times.pop(title):.1f} ms" if title in times else "not measured"
        others = ", ".join(f"{name} {ms:.1f}" for name, ms in times.items())
        return f"auto chose {title} ({chosen}{'; ' if others else ''}{others})"


def threads_of(threads: int | None) -> str:
    """The name of a number of threads in file names; None: those that an engine takes by itself."""
    return str(threads or host.limit() or "all")


def folder(manifest: Manifest) -> Path:
    """The folder of this bundle on this machine as it is now; it may not exist."""
    parts = (_FORMAT, __version__, _packages(), files.processor(), os.cpu_count(), _machine())
    return files.root() / "auto" / files.key(*parts, manifest.sha256)


def read(manifest: Manifest, threads: int | None) -> Measured | None:
    """The times, or None."""
    return _read(folder(manifest) / f"{threads_of(threads)}.json")


def read_all(manifest: Manifest) -> list[Measured]:
    """The times by number of threads."""
    found = (_read(path) for path in sorted(folder(manifest).glob("*.json")))
    return [one for one in found if one is not None]


def write(manifest: Manifest, threads: int | None, rows: Sequence[Row]) -> Path:
    """The file, whole or not at all. OSError where the cache cannot be written."""
    path = folder(manifest) / f"{threads_of(threads)}.json"
    content = {
        "bundle": manifest.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rows": [row._asdict() for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_beside(path, json.dumps(content, indent=1).encode())
    files.prune(path.parent.parent)
    return path


def _lock(manifest: Manifest, threads: int | None) -> Path:
    return folder(manifest) / f"{threads_of(threads)}.lock"


def tried(manifest: Manifest, threads: int | None) -> float:
    """The seconds since somebody began to measure; infinity where nobody did."""
    with suppress(OSError):
        return time.time() - _lock(manifest, threads).stat().st_mtime
    return math.inf


@contextmanager
def turn(manifest: Manifest, threads: int | None, wait: bool) -> Iterator[bool]:
    """The right to measure, True for one process at a time; wait: until it is ours.

    Two that measure at once measure one another. Where files cannot be locked, everybody may.
    """
    path = _lock(manifest, threads)
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "w")
    except (ImportError, OSError):
        yield True
        return
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True


def _read(path: Path) -> Measured | None:
    try:
        data = json.loads(path.read_bytes())
        rows = tuple(_row(row) for row in data["rows"])
        return Measured(rows, path.stem, str(data["created"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _row(data: Any) -> Row:
    """ValueError, KeyError or TypeError for what `write` would not have written."""
    row = Row(**data)
    words = (row.backend, row.device, row.error, "" if row.precision is None else row.precision)
    number = row.ms is None or (type(row.ms) is float and math.isfinite(row.ms) and row.ms > 0)
    if not number or not all(isinstance(word, str) for word in words):
        raise ValueError
    return row


def _packages() -> list[str]:
    """The engines' packages with their versions, as their folders are called.

    To import importlib.metadata takes ten times as long as to read the names.
    """
    found: set[str] = set()
    for place in sys.path:
        with suppress(OSError):
            names = os.listdir(place or os.curdir)
            found.update(name for name in names if name.startswith(_PACKAGES) and name.endswith(_INSTALLED))
    return sorted(found)


def _machine() -> list[str]:
    """Names that tell this machine from another one of the same instructions, read from files alone."""
    found: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found += sorted({line for line in lines if line.startswith(_WHICH_CORE)})
    with suppress(OSError):
        found.append((_NVIDIA / "version").read_text())
        found.append(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        for card in sorted((_NVIDIA / "gpus").glob("*/information")):
            found += [line for line in card.read_text().splitlines() if line.startswith("Model")]
        found += sorted(path.name for path in (files.root() / "engines").glob("*"))
    return found
