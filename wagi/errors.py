"""The error that a user is meant to read, the option that it belongs to, and how commands end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wagi_rt.errors import UserError as UserError
from wagi_rt.errors import printable


@contextmanager
def option(name: str) -> Iterator[None]:
    """Say the option in front of an error about its value: library code knows values only."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name} {error}", error.status) from None


def run_command(work: Callable[[], int | None], interrupted: str, extra: str = "train") -> int:
    """The exit status of a command's work; an error or Ctrl-C ends in one line on stderr, no traceback.

    `interrupted` says what an interrupted command leaves. `extra` of this package has all that the command
    imports: a library that is not installed costs one line too.
    """
    try:
        return work() or 0
    except UserError as error:
        return _end(str(error), error.status)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("", "wagi", "wagi_rt", "export"):
            raise
        return _end(f"{library} is not installed; run: pip install 'wagi[{extra}]'", 1)
    except KeyboardInterrupt:
        return _end(f"interrupted{interrupted}", 1)


def _end(text: str, status: int) -> int:
    print(f"error: {printable(text)}", file=sys.stderr)
    return status
