"""The error that a user is meant to read, and how commands end."""

import sys
from collections.abc import Callable
from typing import Any


class UserError(Exception):
    """One line: the option or file, what is wrong, what to do next.

    `status` is the exit status: 2 for wrong usage, 1 for work that failed.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def run_command(
    work: Callable[[], int | None], interrupted: str, errors: tuple[type[Any], ...] = (UserError,)
) -> int:
    """The exit status of a command's work; an error or Ctrl-C ends in one line on stderr, no traceback.

    `interrupted` says what an interrupted command leaves. `errors` are classes with a `status`.
    """
    try:
        return work() or 0
    except errors as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"error: interrupted{interrupted}", file=sys.stderr)
        return 1
