"""Files written whole or not at all, and those that save time: $WAGI_CACHE, else ~/.cache/wagi.

A cache that cannot be read or written is no error; point WAGI_CACHE at /dev/null to have none.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wagi_rt.errors import UserError

# Above this size of all files a model is "large": memory counts, and the start is reading weights.
SMALL = 64_000_000
READ_AGAIN = 4_000_000  # files up to this size are hashed at every start
KIND_LIMIT = 4_000_000_000  # all entries of one kind together; those used longest ago go first
_DAY = 86_400


def root() -> Path:
    """The folder of all caches; it may not exist."""
    chosen = os.environ.get("WAGI_CACHE")
    if chosen:
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "wagi"
    except RuntimeError:  # no HOME, and a user whom the system does not know
        return Path(os.devnull)


def key(*parts: object) -> str:
    """A folder name that differs whenever a part does."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


def has_room(wanted: int) -> bool:
    """True when `wanted` bytes may go into the cache: no more than half of what the disk has left."""
    import shutil  # a cold start needs it only once, when the cache is filled

    place = root()
    while not os.path.exists(place):
        place = place.parent
    return wanted <= min(KIND_LIMIT, shutil.disk_usage(place).free) // 2


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hex, read in pieces (external weights may be gigabytes)."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def passes(path: Path, test: Callable[[Path], bool], *what: object, thorough: bool = False) -> bool:
    """The result of `test(path)`. A large file that passed is not read again until it changes.

    Reading a gigabyte of weights takes half as long as an inversion. What stands for the file's contents is
    its place, size, times of change and inode, for the test `what`; `thorough` reads it whatever is
    remembered. OSError as open.
    """
    status = path.stat()
    seen = (str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    stamp = root() / "verified" / key(*seen, *what) if status.st_size > READ_AGAIN else None
    if stamp is not None and not thorough and os.path.isfile(stamp):
        return True
    good = test(path)
    if good and stamp is not None:
        with suppress(OSError):
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    return good


def matches(path: Path, sha256: str, thorough: bool = False) -> bool:
    """True when the file has this hash, see `passes`."""
    return passes(path, lambda path: file_sha256(path) == sha256, sha256, thorough=thorough)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; at the end it becomes `path`, after an error it is gone.

    So a file is whole or not there, also after Ctrl-C. OSError if it fails.
    """
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        yield part
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink()


def write_beside(path: Path, content: bytes, lasting: bool = False) -> None:
    """A whole file, see `beside`; lasting: also after a power cut, which costs a wait for the disk."""
    with beside(path) as part, open(part, "wb") as stream:
        stream.write(content)
        if lasting:
            stream.flush()
            os.fsync(stream.fileno())


def write_atomic(path: Path, content: bytes) -> None:
    """`write_beside`, or UserError."""
    try:
        write_beside(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another -o") from None


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def seal(path: Path) -> None:
    """Wait until the file is on the disk, and put its hash beside it. OSError if it fails."""
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())
    write_beside(_seal_of(path), file_sha256(path).encode())


def is_sealed(path: Path) -> bool:
    """True when the file is there as it was sealed: a power cut or a bad disk may have damaged it."""
    try:
        return matches(path, _seal_of(path).read_bytes().decode(errors="replace"))
    except OSError:
        return False


def processor() -> str:
    """The CPU as engines generate code for it: optimised graphs and kernels do not fit another one."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:12]
    import platform  # brings subprocess, which a cold start does not need

    return platform.processor() or platform.machine()


def may_have_bf16() -> bool:
    """False where the system lists the CPU's instructions, and none for bf16 or its conversion."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return "bf16" in text or "avx_ne_convert" in text


def prune(kind: Path) -> None:
    """Delete the entries that were used longest ago until the rest fits, and what crashes left."""
    import shutil

    with suppress(OSError):
        entries = sorted(kind.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for entry in entries:
            left = entry.name.endswith(".tmp") and entry.stat().st_mtime < time.time() - _DAY
            files = entry.rglob("*") if entry.is_dir() else [entry]
            total += sum(path.stat().st_size for path in files if path.is_file())
            if left or total > KIND_LIMIT:
                shutil.rmtree(entry, ignore_errors=True)
