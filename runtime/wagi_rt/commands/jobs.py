"""The plan of `wagi-rt invert`: everything that it will read and write, checked before any work."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from wagi_rt.commands.sources import STREAM, ByText, Source, Sources, find_sources
from wagi_rt.decoding import READ_SUFFIXES
from wagi_rt.errors import UserError
from wagi_rt.pictures import WRITTEN

_MARK = "-wagi"  # of outputs beside their inputs


class Job(NamedTuple):
    """One image: where it comes from, where it and its naive inversion go ("-" is a stream).

    faces: where the squares of a photo's faces go, less "-NUMBER.png". edits: of this image alone, each as
    after --set. by_text: its edit by text, if it has one.
    """

    source: str
    target: str
    suffix: str
    naive: str = ""  # not written
    faces: str = ""  # not written
    latents: str = ""  # not written
    edits: tuple[str, ...] = ()
    by_text: ByText | None = None

    @property
    def source_name(self) -> str:
        return "stdin" if self.source == STREAM else self.source

    @property
    def target_name(self) -> str:
        return "stdout" if self.target == STREAM else self.target


class Plan(NamedTuple):
    """Everything decided before the model is opened.

    failures: inputs that cannot be read, with the reason; notes: what was left out of folders;
    places: option -> folders that it writes to.
    """

    jobs: list[Job]
    failures: list[tuple[str, UserError]]
    notes: list[str]
    sheet: Path | None
    places: dict[str, set[Path]]


def make_plan(
    args: Namespace,
    also: tuple[str, ...] = (),
    read: Collection[str] = READ_SUFFIXES,
    found: Sources | None = None,
) -> Plan:
    """Inputs (or those `found` already) to outputs; refuses clashes and existing files by UserError."""
    sheet = Path(args.compare) if args.compare else None
    if sheet and sheet.suffix.lower() not in WRITTEN:
        raise UserError(f"--compare {sheet}: must end in {', '.join(WRITTEN)}", status=2)
    found = found or find_sources(args.inputs, args.recursive, output_folders(args), read)
    suffixes = _suffixes(found, f".{args.format}" if args.format else "", keep=args.fit == "face")
    jobs = _jobs(found, args.output, f".{args.format}" if args.format else "", suffixes, (*WRITTEN, *also))
    if any(job.target == STREAM for job in jobs):
        _require_stdout(args.json)
    if args.naive:
        targets = _named_alike(jobs, found, Path(args.naive))
        jobs = [job._replace(naive=target) for job, target in zip(jobs, targets, strict=True)]
    if args.latents:
        jobs = _with_latents(jobs, found, Path(args.latents))
    if args.faces_out:
        targets = _named_alike(jobs, found, Path(args.faces_out))
        jobs = [
            job._replace(faces=target.removesuffix(job.suffix))
            for job, target in zip(jobs, targets, strict=True)
        ]
    _refuse_clashes(jobs, sheet)
    if args.skip_existing:
        left = [job for job in jobs if not all(os.path.lexists(path) for path in files_of(job))]
        if done := len(jobs) - len(left):
            found.notes.append(f"{done} of {len(jobs)} have their output already")
        jobs = left
    elif not args.overwrite:
        refuse_existing([path for job in jobs for path in files_of(job)])
    if sheet and jobs and not args.overwrite:
        refuse_existing([str(sheet)])
    return Plan(jobs, found.failures, found.notes, sheet, _places(jobs, sheet, args))


def output_folders(args: Namespace) -> list[str]:
    """Places of outputs, which are not searched for inputs."""
    return [path for path in (args.output, args.naive, args.faces_out) if path and path != STREAM]


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


def _suffixes(found: Sources, suffix: str, keep: bool) -> list[str]:
    """The ending of each output without one: as asked, like its input if `keep`, else .png."""
    own = (Path(source.path).suffix.lower() if keep else "" for source in found.files)
    return [suffix or (end if end in WRITTEN else ".png") for end in own]


def _jobs(
    found: Sources, output: str | None, suffix: str, suffixes: list[str], written: tuple[str, ...]
) -> list[Job]:
    """The outputs of all inputs: beside them, on stdout, in one file or in a folder."""
    names = [source.path for source in found.files]
    if names.count(STREAM) > 1:
        raise UserError("-: stdin can be given only once", status=2)
    total = len(names) + len(found.failures)
    own = "" if output is None else Path(output).suffix.lower()
    if output == STREAM:
        if total > 1:
            raise UserError(f"-o -: stdout takes one image, there are {total}; name a folder", status=2)
        return [Job(name, STREAM, end) for name, end in zip(names, suffixes, strict=True)]
    if output is not None and not os.path.isdir(output) and own in written:
        if total > 1:
            raise UserError(f"-o {output}: is one file for {total} images; name a folder", status=2)
        if suffix and suffix.replace("jpeg", "jpg") != own.replace("jpeg", "jpg"):
            raise UserError(f"-o {output}: does not fit --format {suffix[1:]}; give one of the two", status=2)
        return [Job(name, output, own) for name in names]
    if output is not None and not os.path.isdir(output) and own in READ_SUFFIXES:
        raise UserError(f"-o {output}: pictures are written as {', '.join(written)}; choose one", status=2)
    targets = _targets(found, output, suffixes)
    return [
        Job(source.path, target, end, edits=source.edits, by_text=source.by_text)
        for source, target, end in zip(found.files, targets, suffixes, strict=True)
    ]


def _targets(found: Sources, output: str | None, suffixes: list[str]) -> list[str]:
    """Files named like their inputs; by the whole name where two differ only in how they end."""
    short, full = [], []
    for source, suffix in zip(found.files, suffixes, strict=True):
        folder, mark = (Path(output) / source.below, "") if output is not None else _beside(source)
        path = Path("stdin" if source.path == STREAM else source.path)
        short.append(folder / f"{source.name or path.stem}{mark}{suffix}")
        full.append(folder / f"{source.name or path.name}{mark}{suffix}")
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


def _named_alike(jobs: list[Job], found: Sources, folder: Path) -> list[str]:
    """The outputs' names in another folder, so that both can be compared file by file."""
    names = [f"stdin{job.suffix}" if job.target == STREAM else Path(job.target).name for job in jobs]
    return [str(folder / source.below / name) for source, name in zip(found.files, names, strict=True)]


def _with_latents(jobs: list[Job], found: Sources, place: Path) -> list[Job]:
    """The files of --latents: the one that was named, or one for each output in a folder."""
    if place.suffix.lower() == ".npz":
        if len(jobs) + len(found.failures) > 1:
            raise UserError(f"--latents {place}: is one file for several images; name a folder", status=2)
        return [job._replace(latents=str(place)) for job in jobs]
    targets = [Path(name).with_suffix(".npz") for name in _named_alike(jobs, found, place)]
    return [job._replace(latents=str(target)) for job, target in zip(jobs, targets, strict=True)]


def files_of(job: Job) -> list[str]:
    """The files that a job writes, as far as is known before; of a photo with faces the first square."""
    first = f"{job.faces}-1.png" if job.faces else ""
    return [path for path in (job.target, job.naive, job.latents, first) if path and path != STREAM]


def _places(jobs: list[Job], sheet: Path | None, args: Namespace) -> dict[str, set[Path]]:
    places: dict[str, set[Path]] = {}
    for job in jobs:
        if job.target != STREAM:
            folder = Path(job.target).parent
            places.setdefault(f"-o {args.output or folder}", set()).add(folder)
        if job.naive:
            places.setdefault(f"--naive {args.naive}", set()).add(Path(job.naive).parent)
        if job.latents:
            places.setdefault(f"--latents {args.latents}", set()).add(Path(job.latents).parent)
        if job.faces:
            places.setdefault(f"--faces-out {args.faces_out}", set()).add(Path(job.faces).parent)
    if sheet and jobs:
        places[f"--compare {sheet}"] = {sheet.parent}
    return places


def _refuse_clashes(jobs: list[Job], sheet: Path | None) -> None:
    inputs = {os.path.realpath(job.source) for job in jobs if job.source != STREAM}
    targets: dict[str, str] = {}
    planned = [(job.target, job.source) for job in jobs if job.target != STREAM]
    planned += [(job.naive, "--naive") for job in jobs if job.naive]
    planned += [(job.latents, "--latents") for job in jobs if job.latents]
    planned += [(f"{job.faces}-1.png", "--faces-out") for job in jobs if job.faces]
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


def refuse_existing(paths: list[str], remedy: str = "--overwrite or --skip-existing") -> None:
    """UserError (status 2) for the first one that is there."""
    for path in paths:
        if os.path.lexists(path):
            raise UserError(f"{path}: exists already; choose another -o, or add {remedy}", status=2)
