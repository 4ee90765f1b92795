"""`wagi-rt edit`: directions from the command line, then the stages of `invert` with edits in the middle."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from wagi_rt import decoding, directions, face, latents, manifest, values, videos
from wagi_rt.commands.animations import SUFFIXES, write_animation
from wagi_rt.commands.invert import (
    announce,
    check_face_options,
    face_finder,
    measure_later,
    open_session,
    require_precision,
    work,
)  # fmt: skip
from wagi_rt.commands.jobs import Job, make_places, make_plan
from wagi_rt.commands.report import Report
from wagi_rt.commands.sources import STREAM
from wagi_rt.commands.stages import Image, Render, Square, Stages
from wagi_rt.console import put, unwind_on_signals
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.chain import Tensors
    from wagi_rt.directions import Direction
    from wagi_rt.face import Wanted
    from wagi_rt.faces.quads import Finder
    from wagi_rt.manifest import Manifest
    from wagi_rt.results import Result
    from wagi_rt.session import Session
    from wagi_rt.worded import Texts

CAPTIONS = ("Input", "Naive edit", "Edit")
_MOST_FRAMES = 64


def edit(args: Namespace) -> int:
    """The command. Returns 0, or 1 when at least one image failed (the others are still done)."""
    bundle = manifest.read(args.model)
    if args.list:
        for line in listing(bundle):
            put(line)
        return 0
    if args.max_pixels:
        decoding.allow_pixels(args.max_pixels)
    args.inputs = _inputs(args)
    wanted = read_edits(bundle, args.set, args.direction)
    wanted += _by_text(bundle, args)
    sweep = _sweep(bundle, args.sweep) if args.sweep else None
    if not wanted and not sweep:
        ways = "--set NAME=STRENGTH, --direction FILE=STRENGTH, --text TEXT or --sweep"
        raise UserError(f"nothing to edit; use {ways}", status=2)
    check_face_options(args)
    if videos.is_moving(args.inputs, None if sweep else args.output):
        from wagi_rt.commands.clips import edit_clip

        return edit_clip(args, wanted)
    for name in ("frames", "smoothing", "fps", "preview"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name}: goes with a clip or numbered pictures", status=2)
    plan = make_plan(
        args, also=SUFFIXES if sweep else (), read=(latents.SUFFIX,) if args.kept else decoding.READ_SUFFIXES
    )
    report = Report(args, plan, CAPTIONS)
    if not plan.jobs:
        return report.end()
    if any(videos.is_clip(job.target) for job in plan.jobs):
        from wagi_rt.videos.clips import import_av

        import_av()  # before any work, because it may be missing
    finder = face_finder(args)
    with open_session(args, bool(args.compare or args.naive), editing=True) as session:
        require_precision(session, args.half)
        unwind_on_signals()
        make_places(plan)
        if not args.quiet:
            announce(session)
        if args.warm:
            warm_up(session, min(args.batch, len(plan.jobs)))
        stages = _stages(session, plan.jobs, args, finder, frames(wanted, sweep))
        work(plan.jobs, args.batch, stages, report)
    measure_later(session, args.quiet)
    return report.end()


def _stages(
    session: Session, jobs: list[Job], args: Namespace, finder: Finder | None, edits: list[Wanted]
) -> Stages:
    """The stages for squares, or for whole photos."""
    if finder is None:
        return EditStages(session, jobs, args, Edits(session, edits), args.verbose)
    from wagi_rt.commands.whole import PhotoStages

    render = Edits(session, edits, based=args.paste != "replace")
    return PhotoStages(session, jobs, args, render, finder, args.verbose)


def warm_up(session: Session, batch: int) -> None:
    """Edit grey pictures once, so that no picture pays for the engine's first run."""
    kept = session.encode(np.zeros((batch, 3, session.size, session.size), np.float32))
    session.edit(kept, kept["ws"])


def listing(bundle: Manifest) -> list[str]:
    """The directions of a bundle: name, unit, range, and what they were measured to do."""
    if not bundle.directions:
        return [f"{bundle.name} holds no directions; use --direction FILE=STRENGTH"]
    return [_described(packed.facts) for _, packed in sorted(bundle.directions.items())]


def _described(found: Direction) -> str:
    parts = [f"{found.name:<16} unit {found.unit or 'unknown'}"]
    if found.range:
        parts.append(f"{found.range[0]:g} to {found.range[1]:g}")
    if found.effect is not None:
        parts.append(f"effect {found.effect:.2f} standard deviations per unit")
    if found.leakage:
        name, value = max(found.leakage.items(), key=lambda item: abs(item[1]))
        parts.append(f"most leakage {value:+.2f} into {name}")
    if found.auc is not None:
        parts.append(f"AUC {found.auc:.2f}")
    return ", ".join([*parts, *([found.note] if found.note else [])])


def _inputs(args: Namespace) -> list[str]:
    """Pictures, or files of --latents; one of the two."""
    if args.kept and args.inputs:
        raise UserError("--from: takes the place of INPUT; give one of the two", status=2)
    if args.format in ("gif", "mp4") and not args.sweep:
        raise UserError(f"--format {args.format}: is an animation; add --sweep NAME=FROM:TO:COUNT", status=2)
    if args.format == "mp4" and args.output == STREAM:
        raise UserError("--format mp4: is written to a file only; name one with -o", status=2)
    if args.sweep and args.verbose:
        raise UserError("--verbose: measures single pictures; leave --sweep out", status=2)
    for option, value in (("--from", args.kept), ("--sweep", args.sweep)) if args.fit == "face" else ():
        if value:
            raise UserError(
                f"{option}: goes with one square of a photo; use --fit crop, pad or stretch", status=2
            )
    if not args.kept and not args.inputs:
        raise UserError("nothing to edit; name an INPUT, or --from FILE.npz", status=2)
    return list(args.kept or args.inputs)


# ---------------------------------------------------------------------------------------------- what to edit


def read_edits(bundle: Manifest, texts: Sequence[str], files: Sequence[str] = ()) -> Wanted:
    """All of --set NAME=STRENGTH and --direction FILE=STRENGTH; UserError (status 2) for what is neither."""
    return [*from_bundle(bundle, texts), *_from_files(bundle, files)]


def from_bundle(bundle: Manifest | Session, texts: Sequence[str]) -> Wanted:
    """--set NAME=STRENGTH; a session reads each direction once."""
    return [
        (bundle.direction(name), _strength("--set", text, value))
        for text, name, value in _split("--set", texts)
    ]


def _from_files(bundle: Manifest, texts: Sequence[str]) -> Wanted:
    """--direction FILE=STRENGTH."""
    found = []
    for text, path, value in _split("--direction", texts):
        direction = directions.read(path)
        bundle.require_fit(direction, path)
        found.append((direction, _strength("--direction", text, value)))
    return found


def _by_text(bundle: Manifest, args: Namespace) -> Wanted:
    """--text TEXT, and what belongs to it."""
    if args.text is None:
        if args.neutral is not None or args.text_threshold is not None:
            raise UserError("--neutral, --text-threshold: go with --text TEXT", status=2)
        return []
    from wagi_rt import worded

    given = args.text, args.neutral, args.text_threshold
    return [(worded.alone(bundle, args.backend).direction(*given), args.text_strength)]


def _split(option: str, texts: Sequence[str]) -> list[tuple[str, str, str]]:
    """(the text, what stands before its last '=', what behind)."""
    parts = []
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name:
            raise UserError(
                f"{option} {text}: must be like {'smile' if option == '--set' else 'FILE'}=+1", status=2
            )
        parts.append((text, name, value))
    return parts


def _strength(option: str, text: str, value: str) -> float:
    number = values.finite(value)
    if number is None:
        raise UserError(f"{option} {text}: the strength must be a number", status=2)
    return number


def _sweep(bundle: Manifest, text: str) -> tuple[Direction, list[float]]:
    """--sweep NAME=FROM:TO:COUNT; NAME may be a direction's file."""
    ((_, name, value),) = _split("--sweep", [text])
    try:
        low, high, count = value.split(":")
        ends, steps = [float(low), float(high)], int(count)
    except ValueError:
        ends, steps = [math.nan], 0
    if not all(map(math.isfinite, ends)) or not 2 <= steps <= _MOST_FRAMES:
        raise UserError(
            f"--sweep {text}: must be like yaw=-0.4:0.4:9, with 2 to {_MOST_FRAMES} steps", status=2
        )
    if name.endswith(directions.SUFFIX):
        ((direction, _),) = _from_files(bundle, [f"{name}=0"])
    else:
        direction = bundle.direction(name)
    return direction, [float(step) for step in np.linspace(ends[0], ends[-1], steps)]


def frames(wanted: Wanted, sweep: tuple[Direction, list[float]] | None) -> list[Wanted]:
    """The edits of every picture: one, or one for each step of the sweep, with everything else in it."""
    return [wanted] if sweep is None else [[*wanted, (sweep[0], step)] for step in sweep[1]]


# ------------------------------------------------------------------------------------------------- the stages


class Edits(Render):
    """The edits of each side by side, as one wide picture."""

    def __init__(self, session: Session, edits: list[Wanted], based: bool = False) -> None:
        """based: fill in `Square.base`."""
        super().__init__(session)
        self.based = based
        self.shifts = [face.shift(session.manifest, wanted) for wanted in edits]
        self.notes = list(dict.fromkeys(note for wanted in edits for note in face.range_notes(wanted)))

    def __call__(self, squares: Sequence[Square]) -> list[Result]:
        prepared, kept = [square.prepared for square in squares], self._kept(squares)
        own = np.stack([square.own for square in squares if square.own is not None])

        def edit(shift: np.ndarray) -> list[Result]:
            return self.session.results(self.session.edit(kept, kept["ws"] + shift), prepared)

        edits = [edit(shift + own) for shift in self.shifts]
        if self.based:  # by the same graph, so that an edit that changes nothing is equal in every bit
            for square, base in zip(squares, edit(np.zeros_like(self.shifts[0])), strict=True):
                square.base = base
        for i, square in enumerate(squares):
            square.shown = kept["naive_r"][i], kept["image_r"][i]
        return [_beside(list(results)) for results in zip(*edits, strict=True)]

    def own(self, job: Job) -> np.ndarray:  # [n_latent, style_dim]
        try:
            wanted = from_bundle(self.session, job.edits)
            if job.by_text:
                text, neutral, strength, threshold = job.by_text
                wanted.append((self._texts.direction(text, neutral, threshold), strength))
        except UserError as error:
            raise UserError(f"{job.source_name}: {error}", error.status) from None
        return face.shift(self.session.manifest, wanted)

    @cached_property
    def _texts(self) -> Texts:
        from wagi_rt import worded

        return worded.of_session(self.session)

    def _kept(self, squares: Sequence[Square]) -> Tensors:
        read = [square.kept for square in squares if square.kept]
        if not read:
            return self.session.encode(np.stack([square.prepared.image for square in squares]))
        return self.session.resume({name: np.concatenate([one[name] for one in read]) for name in read[0]})


class EditStages(Stages):
    """The stages of `invert`, with kept pictures among the inputs and animations among the outputs."""

    def __init__(
        self, session: Session, jobs: list[Job], args: Namespace, edits: Edits, measured: bool = False
    ) -> None:
        super().__init__(session, jobs, args, edits, measured)
        self.resumed, self.frames = bool(args.kept), len(edits.shifts)

    def _prepare(self, job: Job) -> Image:
        if not self.resumed:
            return super()._prepare(job)
        kept, prepared = latents.read(job.source, self.session.manifest)
        return Image(job, [Square(prepared, kept)])

    def _write(self, image: Image) -> None:
        result = image.squares[0].result
        assert result is not None
        if image.job.suffix in SUFFIXES:
            write_animation(image.job.target, np.split(result.image, self.frames, axis=1))
        else:
            super()._write(image)


def _beside(results: list[Result]) -> Result:
    """The first, with the pictures of all from left to right."""
    first = results[0]
    if len(results) > 1:
        first.image = np.concatenate([one.image for one in results], axis=1)
        naive: list[Any] = [one.naive for one in results]
        first.naive = None if first.naive is None else np.concatenate(naive, axis=1)
    return first
