"""The process around a command: lines on stderr, results on stdout, streams that are closed, signals."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress

from wagi_rt import TYPE_CHECKING
from wagi_rt.errors import UserError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import NoReturn


def say(line: str) -> None:
    """One line on stderr, escaped where a terminal could not show or would obey it; no stderr is no error."""
    with suppress(OSError, ValueError, AttributeError):
        encoding = sys.stderr.encoding or "utf-8"
        line = printable(line).encode(encoding, "backslashreplace").decode(encoding)
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def put(line: str) -> None:
    """One line on stdout, escaped like `say`'s. Raises UserError, or BrokenPipeError when the reader left."""
    with _stdout():
        sys.stdout.write(f"{printable(line)}\n")
        sys.stdout.flush()


def put_bytes(content: bytes) -> None:
    """A file's contents on stdout. Errors as `put`."""
    with _stdout():
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def flush() -> None:
    """Write out all that is still buffered. Errors as `put`."""
    with _stdout():
        sys.stdout.flush()


@contextmanager
def _stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"stdout: {error.strerror or error}; check where it goes") from None


def open_closed_streams() -> None:
    """Give stdin, stdout and stderr something where the caller closed them.

    Otherwise the next file that is opened gets their number, and whatever is printed. Reading and results
    fail then, when they are wanted; lines to stderr are lost.
    """
    wanted = (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))
    for number, (name, access, mode) in enumerate(wanted):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, access)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))


def unwind_on_signals() -> None:
    """From now on Ctrl-C and SIGTERM raise exceptions, so that begun files are finished or removed.

    Until then they end the process at once: an exception in the middle of imports is a page of text.
    """
    with suppress(ValueError):  # not in the main thread
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
