"""`wagi-rt invert`: the plan in batches, each image written as a whole or not at all, failures reported."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from wagi_rt import decoding
from wagi_rt.commands.jobs import Job, make_places, make_plan
from wagi_rt.commands.overlap import overlap
from wagi_rt.commands.report import Report
from wagi_rt.commands.stages import Inversions, Stages
from wagi_rt.console import say, unwind_on_signals
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.faces.quads import Finder
    from wagi_rt.session import Session


def invert(args: Namespace) -> int:
    """The command. Returns 0, or 1 when at least one image failed (the others are still done)."""
    if args.max_pixels:
        decoding.allow_pixels(args.max_pixels)
    if args.latents and args.fit == "face":
        raise UserError(
            "--latents: goes with one square of a photo; use --fit crop, pad or stretch", status=2
        )
    check_face_options(args)
    plan = make_plan(args)
    report = Report(args, plan)
    if not plan.jobs:
        return report.end()
    finder = face_finder(args)
    with open_session(args, naive=bool(args.compare or args.naive)) as session:
        require_precision(session, args.half)
        unwind_on_signals()
        make_places(plan)
        if not args.quiet:
            announce(session)
        if args.warm:
            session.warm_up(min(args.batch, len(plan.jobs)))
        work(plan.jobs, args.batch, _stages(session, plan.jobs, args, finder), report)
    measure_later(session, args.quiet)
    return report.end()


def work(jobs: list[Job], batch: int, stages: Stages, report: Report) -> None:
    """All jobs through the stages, each reported as soon as it is written."""
    batches = [jobs[start : start + batch] for start in range(0, len(jobs), batch)]
    for done in overlap(batches, stages.read, stages.run, stages.write):
        for image in done.images:
            if image.error is not None:
                report.failed(image.job.source, image.error)
            else:
                report.done(image, done.ms)


def check_face_options(args: Namespace) -> None:
    """UserError (status 2) for options that mean nothing without --fit face."""
    for name in ("faces", "quads", "paste", "faces_out", "strip") if args.fit != "face" else ():
        if getattr(args, name):
            raise UserError(f"--{name.replace('_', '-')}: needs --fit face", status=2)


def face_finder(args: Namespace) -> Finder | None:
    """The finder of faces of --fit face; before the model, because it may be missing."""
    if args.fit != "face":
        return None
    from wagi_rt.faces import limit
    from wagi_rt.faces.quads import Finder

    try:
        return Finder(args.quads, limit(args.faces or "all"), args.threads)
    except UserError as error:
        option = "--quads " if args.quads else "--fit face: "
        raise UserError(f"{option}{error}", error.status) from None


def _stages(session: Session, jobs: list[Job], args: Namespace, finder: Finder | None) -> Stages:
    """The stages for squares, or for whole photos."""
    measured = bool(args.json or args.compare or args.verbose)
    if finder is None:
        return Stages(session, jobs, args, Inversions(session), measured)
    from wagi_rt.commands.whole import PhotoStages

    return PhotoStages(session, jobs, args, Inversions(session), finder, measured)


def open_session(args: Namespace, naive: bool = False, editing: bool = False) -> Session:
    """The session that the options ask for, see wagi_rt.load."""
    from wagi_rt.engines.base import EngineChoice
    from wagi_rt.session import Session

    choice = EngineChoice(args.backend, args.device, args.threads, args.precision)
    return Session(args.model, choice, naive, editing)


def announce(session: Session) -> None:
    """Say what runs, and with `auto` what was passed over, and by which times it was chosen."""
    for reason in session.passed_over:
        say(f"--backend {session.choice.backend}: not {reason}")
    if session.reason:
        say(f"note: {session.reason}")
    say(session.description)


def measure_later(session: Session, quiet: bool) -> None:
    """After an `auto` that nothing was measured for: have it measured, for the next time."""
    if session.auto and session.measured is None:
        from wagi_rt import tuning

        if (line := tuning.afterwards(session.manifest, session.choice)) and not quiet:
            say(f"note: {line}")


def require_precision(session: Session, half: bool) -> None:
    """--fp16 asks for a bundle that computes in half precision; it does not convert one."""
    found = session.manifest.precision
    if half and found != "fp16":
        why = " (half weights, FP32 arithmetic)" if found == "fp16-weights" else ""
        raise UserError(
            f"--fp16: {session.manifest.folder} is {found}{why}; "
            "export one with: python export/to_onnx.py --checkpoint C -o BUNDLE --fp16",
            status=2,
        )
