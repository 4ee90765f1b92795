"""What `wagi-rt invert` will read and write, decided and checked before any work."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from wagi_rt.commands.sources import STREAM, Source, Sources, find_sources
from wagi_rt.decoding import READ_SUFFIXES
from wagi_rt.errors import UserError
from wagi_rt.pictures import WRITTEN

_MARK = "-wagi"  # of outputs beside their inputs


class Job(NamedTuple):
    """One image: where it comes from, where it and its naive inversion go ("-" is a stream)."""

    source: str
    target: str
    suffix: str
    naive: str = ""  # not written

    @property
    def source_name(self) -> str:
        return "stdin" if self.source == STREAM else self.source

    @property
    def target_name(self) -> str:
        return "stdout" if self.target == STREAM else self.target


@dataclass
class Plan:
    """Everything decided before the model is opened.

    failures: inputs that cannot be read, with the reason; notes: what was left out of folders;
    places: option -> folders that it writes to.
    """

    jobs: list[Job]
    failures: list[tuple[str, UserError]]
    notes: list[str]
    sheet: Path | None
    places: dict[str, set[Path]] = field(default_factory=dict)


def make_plan(args: Namespace) -> Plan:
    """Inputs to outputs; refuses clashes, existing files and places that cannot be written, by UserError."""
    sheet = Path(args.compare) if args.compare else None
    if sheet and sheet.suffix.lower() not in WRITTEN:
        raise UserError(f"--compare {sheet}: must end in {', '.join(WRITTEN)}", status=2)
    outputs = [path for path in (args.output, args.naive) if path and path != STREAM]
    found = find_sources(args.inputs, args.recursive, outputs)
    jobs = _jobs(found, args.output, f".{args.format}" if args.format else "")
    if any(job.target == STREAM for job in jobs):
        _require_stdout(args.json)
    if args.naive:
        jobs = _with_naive(jobs, found, Path(args.naive))
    _refuse_clashes(jobs, sheet)
    if args.skip_existing:
        done = [job for job in jobs if all(os.path.lexists(path) for path in _files(job))]
        jobs = [job for job in jobs if job not in done]
        found.notes += [f"{len(done)} of {len(done) + len(jobs)} have their output already"] if done else []
    elif not args.overwrite:
        _refuse_existing([path for job in jobs for path in _files(job)])
    if sheet and jobs and not args.overwrite:
        _refuse_existing([str(sheet)])
    return Plan(jobs, found.failures, found.notes, sheet, _places(jobs, sheet, args))


def make_places(plan: Plan) -> None:
    """Make the output folders and try to write in each: better to fail now than at the first output."""
    for option, folders in plan.places.items():
        for folder in sorted(folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".wagi-rt.{os.getpid()}.tmp"
                probe.touch()
                probe.unlink()
            except OSError as error:
                reason = error.strerror or error
                raise UserError(
                    f"{option}: cannot write there ({reason}); choose another place", status=2
                ) from None


def _require_stdout(json: bool) -> None:
    if json:
        raise UserError("--json and -o -: both want stdout; write the image to a file", status=2)
    if sys.stdout.isatty():
        raise UserError("-o -: stdout is a terminal; redirect it to a file or name one", status=2)


def _jobs(found: Sources, output: str | None, suffix: str) -> list[Job]:
    """The outputs of all inputs: beside them, on stdout, in one file or in a folder."""
    names = [source.path for source in found.files]
    if names.count(STREAM) > 1:
        raise UserError("-: stdin can be given only once", status=2)
    total = len(names) + len(found.failures)
    own = "" if output is None else Path(output).suffix.lower()
    if output == STREAM:
        if total > 1:
            raise UserError(f"-o -: stdout takes one image, there are {total}; name a folder", status=2)
        return [Job(name, STREAM, suffix or ".png") for name in names]
    if output is not None and not os.path.isdir(output) and own in WRITTEN:
        if total > 1:
            raise UserError(f"-o {output}: is one file for {total} images; name a folder", status=2)
        if suffix and suffix.replace("jpeg", "jpg") != own.replace("jpeg", "jpg"):
            raise UserError(f"-o {output}: does not fit --format {suffix[1:]}; give one of the two", status=2)
        return [Job(name, output, own) for name in names]
    if output is not None and not os.path.isdir(output) and own in READ_SUFFIXES:
        raise UserError(f"-o {output}: pictures are written as {', '.join(WRITTEN)}; choose one", status=2)
    suffix = suffix or ".png"
    targets = _targets(found, output, suffix)
    return [Job(name, target, suffix) for name, target in zip(names, targets, strict=True)]


def _targets(found: Sources, output: str | None, suffix: str) -> list[str]:
    """Files named like their inputs; by the whole name where two differ only in how they end."""
    short, full = [], []
    for source in found.files:
        folder, mark = (Path(output) / source.below, "") if output is not None else _beside(source)
        path = Path("stdin" if source.path == STREAM else source.path)
        short.append(folder / f"{path.stem}{mark}{suffix}")
        full.append(folder / f"{path.name}{mark}{suffix}")
    count = Counter(short)
    best = [str(s if count[s] == 1 else f) for s, f in zip(short, full, strict=True)]
    streams = [source.path == STREAM and output is None for source in found.files]
    return [STREAM if stream else target for stream, target in zip(streams, best, strict=True)]


def _beside(source: Source) -> tuple[Path, str]:
    """The folder and the mark in the name of an output for which no place was named."""
    if source.folder is None:
        return Path(source.path).parent, _MARK
    name = Path(source.folder).name
    if not name or name == "..":
        raise UserError(f"{source.folder}: name a folder for its results with -o", status=2)
    return Path(source.folder).with_name(name + _MARK) / source.below, ""


def _with_naive(jobs: list[Job], found: Sources, folder: Path) -> list[Job]:
    """The outputs' names, so that a folder and its naive folder can be compared file by file."""
    names = [f"stdin{job.suffix}" if job.target == STREAM else Path(job.target).name for job in jobs]
    return [
        job._replace(naive=str(folder / source.below / name))
        for job, source, name in zip(jobs, found.files, names, strict=True)
    ]


def _files(job: Job) -> list[str]:
    """The files that a job writes."""
    return [path for path in (job.target, job.naive) if path and path != STREAM]


def _places(jobs: list[Job], sheet: Path | None, args: Namespace) -> dict[str, set[Path]]:
    places: dict[str, set[Path]] = {}
    for job in jobs:
        if job.target != STREAM:
            folder = Path(job.target).parent
            places.setdefault(f"-o {args.output or folder}", set()).add(folder)
        if job.naive:
            places.setdefault(f"--naive {args.naive}", set()).add(Path(job.naive).parent)
    if sheet and jobs:
        places[f"--compare {sheet}"] = {sheet.parent}
    return places


def _refuse_clashes(jobs: list[Job], sheet: Path | None) -> None:
    inputs = {os.path.realpath(job.source) for job in jobs if job.source != STREAM}
    targets: dict[str, str] = {}
    planned = [(job.target, job.source) for job in jobs if job.target != STREAM]
    planned += [(job.naive, "--naive") for job in jobs if job.naive]
    if sheet:
        planned.append((str(sheet), "--compare"))
    for target, source in planned:
        real = os.path.realpath(target)
        if real in targets:
            raise UserError(
                f"{targets[real]} and {source}: both would become {target}; rename one, or run them apart",
                status=2,
            )
        targets[real] = source
        if real in inputs:
            raise UserError(f"{target}: is also an input; choose another -o", status=2)
        if os.path.isdir(real):
            raise UserError(f"{target}: is a folder; choose another name", status=2)


def _refuse_existing(paths: list[str]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise UserError(
                f"{path}: exists already; choose another -o, or add --overwrite or --skip-existing", status=2
            )
