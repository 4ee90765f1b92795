"""`wagi-rt`: the command line. Heavy modules are imported by the commands, so that --help is fast."""

from __future__ import annotations

import io
import os
import sys
import time

from wagi_rt import TYPE_CHECKING, console
from wagi_rt.console import say
from wagi_rt.errors import UserError
from wagi_rt.parsers import build_parser

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import NoReturn

_STARTED = time.perf_counter()
_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Users see one line, never a traceback."""
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold what stdout cannot
    return _status(lambda: _dispatch(args))


def command() -> NoReturn:
    """The installed command: `main`, then the end of the process without the interpreter's tidying up.

    That takes a tenth of a cold start, and nothing is left to tidy: files are closed, threads joined.
    """
    console.open_closed_streams()
    try:
        status = main()
    except SystemExit as end:  # --help, wrong usage, SIGTERM
        status = end.code if isinstance(end.code, int) else 0
    os._exit(status or _status(_flush))  # after a failure all lines are out: `put` keeps none


def _flush() -> int:
    console.flush()
    return 0


def _status(work: Callable[[], int]) -> int:
    """The exit status of `work`, whose failures become one line."""
    try:
        return work()
    except UserError as error:
        say(f"error: {error}")
        return error.status
    except BrokenPipeError:
        # The reader of stdout is gone (`| head`): keep Python from complaining again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not error.filename:  # os.getcwd says no more
            say("error: the working directory no longer exists; change to another one")
        else:
            say(f"error: {error.filename or 'system'}: {error.strerror or error}; check it and try again")
        return 1
    except MemoryError:
        say("error: not enough memory; use a smaller --batch")
        return 1
    except KeyboardInterrupt:
        say("error: interrupted; outputs that are listed above are complete")
        return _INTERRUPTED


def _dispatch(args: Namespace) -> int:
    if args.command == "invert":
        from wagi_rt.commands.invert import invert

        return invert(args)
    if args.command == "edit":
        from wagi_rt.commands.edit import edit

        return edit(args)
    if args.command == "bulk":
        from wagi_rt.bulk.command import bulk

        return bulk(args)
    if args.command == "info":
        from wagi_rt.commands.info import info

        return info(args)
    if args.command == "faces":
        from wagi_rt.commands.faces import faces

        return faces(args)
    if args.command == "page":
        from wagi_rt.commands.page import page

        return page(args)
    from wagi_rt.commands.bench import bench

    return bench(args, _STARTED)
