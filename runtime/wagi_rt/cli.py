"""`wagi-rt`: the command line. Heavy modules are imported by the commands, so that --help is fast."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from contextlib import suppress

from wagi_rt import TYPE_CHECKING, __version__, console
from wagi_rt.console import say
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import Any, NoReturn

_STARTED = time.perf_counter()
_INTERRUPTED = 130
_EXAMPLES = """\
examples:
  wagi-rt invert photo.jpg                                     one image => photo-wagi.png beside it
  wagi-rt invert photo.jpg -o out.png --compare sheet.png      and a sheet: input, naive inversion, WaGI
  wagi-rt invert photos/ -o out/ -m BUNDLE --batch 4           a folder, with your own model
  wagi-rt invert party.jpg -o out/ --fit face                  every face of a photo, put back into it
  wagi-rt invert photos/ -o out/ --recursive --skip-existing   with its sub-folders, where a run was stopped
  wagi-rt invert *.jpg -o out/ --json > metrics.jsonl          one JSON object per image
  wagi-rt invert photos/ -o out/ --backend auto --warm         the fastest engine that works here
  wagi-rt edit photo.jpg -o out.png --set smile=+1             more of an attribute; --list shows which
  wagi-rt edit party.jpg -o out/ --fit face --set smile=+1     of every face of a photo
  wagi-rt bulk 'photos/**/*.jpg' -o out/                       very many, in all cores; again to go on
  wagi-rt invert - -o - < in.jpg > out.png                     in a pipe
  wagi-rt info -m BUNDLE                                       what a bundle holds, hashes checked
  wagi-rt tune -m BUNDLE                                       which engine is the fastest here, for auto
  wagi-rt page -o wagi.html --fetch                            a page with the model, for any browser
  wagi-rt bench --batch 1 --threads 2 > bench.json             latency on this machine

Results go to stdout, progress and errors to stderr.
Exit status: 0 done, 1 at least one image failed (the others are done), 2 wrong usage.
"""
_COMMANDS = {  # name: (for the list of commands, for the command's own --help)
    "invert": ("invert images", "Invert images."),
    "edit": ("edit images", "Edit images along directions in the model's latents."),
    "bulk": (
        "invert or edit very many images, on one machine or many",
        "Invert or edit very many images in several processes, on one machine or a Ray cluster. "
        "The same command goes on where a run was stopped.",
    ),
    "info": ("describe a bundle", "Describe a bundle, check its hashes."),
    "tune": (
        "measure which engine is the fastest here",
        "Measure the engines on this machine, and keep what --backend auto then goes by.",
    ),
    "bench": ("measure latency", "Measure whole inversions, file bytes to file bytes; prints JSON."),
    "faces": ("bring the models that find faces", "The models that find faces."),
    "page": (
        "make a page for the browser",
        "Write one HTML file with a bundle and what runs it; it needs no server.",
    ),
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Asks for the terminal's width itself: argparse would import shutil and its compressors for it."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        with suppress(OSError, ValueError, AttributeError):
            columns = columns or str(os.get_terminal_size(sys.stdout.fileno()).columns)
        super().__init__(prog, width=max(int(columns) if columns.isdecimal() else 80, 40) - 2)


class _Parser(argparse.ArgumentParser):
    """One line per mistake. A command's parser, of this kind too, gets its options when it is to parse.

    Nine of ten options are another command's, and to add them takes half of the time of `wagi-rt --help`.
    """

    def __init__(self, command: str = "", **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)
        self._command = command

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._command:
            from wagi_rt.options import ADD

            ADD[self._command](self)
            self._command = ""
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        say(f"error: {message}; see {self.prog} --help")
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    """Every command; its options come when it is parsed."""
    parser = _Parser(
        prog="wagi-rt",
        description="Invert photos with a WaGI model: wavelet-based GAN inversion without PyTorch.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"wagi-rt {__version__}")
    add = parser.add_subparsers(dest="command", metavar="COMMAND", required=True).add_parser
    for name, (text, description) in _COMMANDS.items():
        epilog = _EXAMPLES if name == "invert" else None
        add(name, command=name, help=text, description=description, epilog=epilog)
    return parser


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
    if args.command == "tune":
        from wagi_rt.commands.tune import tune

        return tune(args)
    if args.command == "faces":
        from wagi_rt.commands.faces import faces

        return faces(args)
    if args.command == "page":
        from wagi_rt.commands.page import page

        return page(args)
    from wagi_rt.commands.bench import bench

    return bench(args, _STARTED)
