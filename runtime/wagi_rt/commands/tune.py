"""`wagi-rt tune`: measure the engines, and keep what `auto` then goes by."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from wagi_rt import backends, measured, tuning
from wagi_rt.console import put, say, unwind_on_signals
from wagi_rt.engines.base import EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest, read
from wagi_rt.measured import Row

_LEVELS = {"--backend auto": None, "--backend auto --precision auto": backends.AUTO}


def tune(args: Namespace) -> int:
    """The command. Returns 0; UserError where nothing runs, or nothing can be kept."""
    backends.check(EngineChoice(backends.AUTO, None, args.threads))
    manifest = read(args.model)
    unwind_on_signals()
    if args.gently:
        tuning.be_gentle()
    with measured.turn(manifest, args.threads, wait=not args.gently) as ours:
        if args.gently and (not ours or measured.read(manifest, args.threads)):
            return 0
        rows, steady = tuning.measure(manifest, args.threads, args.budget or tuning.BUDGET)
        report = _report(manifest, args, rows)
        for line in [json.dumps(report)] if args.json else _lines(manifest, rows, report):
            put(line)
        if not report["chosen"]:
            line = "no engine here can run it; install one: pip install 'wagi[cpu]'"
            raise UserError(f"{manifest.folder}: {line}")
        if args.gently and not steady:
            return 0  # another time
        try:
            path = measured.write(manifest, args.threads, rows)
        except OSError as error:
            reason = f"cannot be written ({error.strerror or error})"
            raise UserError(f"{measured.folder(manifest)}: {reason}; set WAGI_CACHE to a folder") from None
    if not args.quiet:
        if not steady:
            say("note: the machine was busy, which favours some engines; measure again when it is not")
        say(f"kept for --backend auto: {path}")
    return 0


def _report(manifest: Manifest, args: Namespace, rows: list[Row]) -> dict[str, Any]:
    chosen = {}
    for words, precision in _LEVELS.items():
        found = backends.fastest(EngineChoice(backends.AUTO, None, args.threads, precision), rows)
        if found:
            chosen[words] = found.title(manifest.precision)
    return {
        "bundle": str(manifest.folder),
        "sha256": manifest.sha256,
        "threads": measured.threads_of(args.threads),
        "rows": [row._asdict() for row in rows],
        "chosen": chosen,
    }


def _lines(manifest: Manifest, rows: list[Row], report: dict[str, Any]) -> list[str]:
    lines = []
    for row in sorted(rows, key=lambda row: row.ms or float("inf")):
        found = f"not: {row.error}" if row.ms is None else f"{row.ms:.1f} ms"
        lines.append(f"{row.title(manifest.precision):<21} {found}")
    return lines + [f"{words}: {title}" for words, title in report["chosen"].items()]
