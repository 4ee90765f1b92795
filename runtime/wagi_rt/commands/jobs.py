"""What `wagi-rt invert` will read and write, decided and checked before any work."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wagi_rt.errors import UserError

STREAM = "-"
# The suffixes by which a folder's images are found (a file that is named is tried whatever its suffix).
READ_SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jfif .jpe .mpo .webp .bmp .dib .gif .tif .tiff .tga .ppm .pgm .pbm .pnm "
    ".jp2 .j2k .avif .ico .pcx .sgi .dds .psd".split()
)
WRITE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


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


class Plan(NamedTuple):
    """Everything decided before the model is opened."""

    jobs: list[Job]
    sheet: Path | None
    places: dict[str, Path]  # option -> folder that it writes to


def make_plan(args: Namespace) -> Plan:
    """Inputs to outputs; refuses clashes, existing files and places that cannot be written, by UserError."""
    sources = list(_sources(args.inputs))
    suffix = f".{args.format}" if args.format else ""
    jobs = _jobs(sources, args.output, suffix)
    if args.naive:
        jobs = [job._replace(naive=str(Path(args.naive) / _naive_name(job))) for job in jobs]
    sheet = Path(args.compare) if args.compare else None
    if args.json and args.output == STREAM:
        raise UserError("--json and -o -: both want stdout; write the image to a file", status=2)
    if args.output == STREAM and sys.stdout.isatty():
        raise UserError("-o -: stdout is a terminal; redirect it to a file or name one", status=2)
    if sheet and sheet.suffix.lower() not in WRITE_SUFFIXES:
        raise UserError(f"--compare {sheet}: must end in {', '.join(WRITE_SUFFIXES)}", status=2)
    _refuse_clashes(jobs, sheet, args.overwrite)
    places = {}
    if args.output != STREAM:
        places[f"-o {args.output}"] = Path(jobs[0].target).parent
    if args.naive:
        places[f"--naive {args.naive}"] = Path(args.naive)
    if sheet:
        places[f"--compare {sheet}"] = sheet.parent
    return Plan(jobs, sheet, places)


def make_places(plan: Plan) -> None:
    """Make the output folders and try to write in each: better to fail now than at the first output."""
    for option, folder in plan.places.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".wagi-rt.{os.getpid()}.tmp"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"{option}: cannot write there ({error.strerror or error}); choose another place", status=2
            ) from None


def _sources(inputs: list[str]) -> Iterator[str]:
    for name in inputs:
        path = Path(name)
        if name == STREAM or not os.path.isdir(name):
            yield name
            continue
        try:
            found = sorted(
                str(p) for p in path.iterdir() if p.suffix.lower() in READ_SUFFIXES and p.is_file()
            )
        except OSError as error:
            raise UserError(
                f"{name}: folder cannot be read ({error.strerror}); check its permissions"
            ) from None
        if not found:
            raise UserError(f"{name}: no images in this folder (sub-folders are not searched)", status=2)
        yield from found


def _jobs(sources: list[str], output: str, suffix: str) -> list[Job]:
    if sources.count(STREAM) > 1:
        raise UserError("-: stdin can be given only once", status=2)
    own = Path(output).suffix.lower()
    if output == STREAM:
        if len(sources) > 1:
            raise UserError(
                f"-o -: stdout takes one image, there are {len(sources)}; name a folder", status=2
            )
        return [Job(sources[0], STREAM, suffix or ".png")]
    if own in WRITE_SUFFIXES and not os.path.isdir(output):
        if len(sources) > 1:
            raise UserError(f"-o {output}: is one file for {len(sources)} images; name a folder", status=2)
        if suffix and suffix.replace("jpeg", "jpg") != own.replace("jpeg", "jpg"):
            raise UserError(f"-o {output}: does not fit --format {suffix[1:]}; give one of the two", status=2)
        return [Job(sources[0], output, own)]
    folder, suffix = Path(output), suffix or ".png"
    names = ((source, "stdin" if source == STREAM else Path(source).stem) for source in sources)
    return [Job(source, str(folder / f"{stem}{suffix}"), suffix) for source, stem in names]


def _naive_name(job: Job) -> str:
    """The output's name, so that a folder and its naive folder can be compared file by file."""
    return f"stdin{job.suffix}" if job.target == STREAM else Path(job.target).name


def _refuse_clashes(jobs: list[Job], sheet: Path | None, overwrite: bool) -> None:
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
        if not overwrite and os.path.lexists(target):
            raise UserError(f"{target}: exists already; choose another -o, or add --overwrite", status=2)
