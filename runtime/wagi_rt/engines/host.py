"""The part of the machine that is ours: CPU threads within our limits, memory only while it is needed."""

from __future__ import annotations

import ctypes
import math
import os
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
MEGABYTE = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_MADV_DONTNEED = 4


def limit(cgroup: Path = _CGROUP) -> int | None:
    """The number of CPUs this process is held to by affinity or by its control group; None if by neither.

    Engines start one thread per core of the machine. Under a quota these threads are paused together for
    most of each period, which is far slower than fewer threads.
    """
    everything = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everything
    quota = _quota(cgroup)
    least = min(allowed, quota) if quota else allowed
    return least if least < everything else None


def _quota(cgroup: Path) -> int | None:
    """CPUs of the control group, rounded up: "200000 100000" in cpu.max, or version 1's two files."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            folder = cgroup / "cpu"
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdecimal() and period.isdecimal() and int(period)):  # "max" or -1: no limit
        return None
    return max(1, math.ceil(int(quota) / int(period)))


def waited() -> float:
    """Milliseconds that threads of this process could have run and had no CPU, added up over the threads.

    0 on systems that do not tell.
    """
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has ended
            total += int(path.read_text().split()[1])
    return total / 1e6


def return_blocks(least: int = MEGABYTE) -> None:
    """Have the C library give every freed block of `least` bytes or more back to the system.

    glibc raises that limit to 32 MB by itself, and then keeps a second copy of a large model's weights after
    an engine has re-ordered them. Of smaller blocks it keeps 64 MB at most. Nothing happens on systems that
    are not glibc.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, least)
        library.mallopt(_M_TRIM_THRESHOLD, 64 * MEGABYTE)


def forget_mapped(path: Path) -> None:
    """Give back the memory of a file that an engine has mapped to read; read again, it comes from the file.

    Nothing happens on systems that are not Linux.
    """
    with suppress(OSError, AttributeError, TypeError):
        library, name = ctypes.CDLL(None), str(path.resolve())
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, rights, _, _, _, *rest = line.split(maxsplit=5)
            if rest == [name] and "w" not in rights:
                start, end = (int(side, 16) for side in span.split("-"))
                library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
