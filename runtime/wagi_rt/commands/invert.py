"""`wagi-rt invert`: the plan in batches, each image written as a whole or not at all, failures reported."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wagi_rt import decoding, files, pictures
from wagi_rt.commands.jobs import Job, make_places, make_plan
from wagi_rt.commands.overlap import overlap
from wagi_rt.commands.report import Report
from wagi_rt.commands.sources import STREAM
from wagi_rt.console import put_bytes, say, unwind_on_signals
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.session import Result, Session


@dataclass
class Image:
    """One job on its way: ready for the model, inverted, written; or the error that ended it."""

    job: Job
    prepared: pictures.Prepared | None = None
    result: Result | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    error: UserError | None = None


@dataclass
class Batch:
    """Images that run together, and the time of the stages behind them; waiting does not count."""

    images: list[Image]
    seconds: float

    @property
    def ms(self) -> float:
        """Milliseconds of each image."""
        return self.seconds * 1000 / len(self.images)


def invert(args: Namespace) -> int:
    """The command. Returns 0, or 1 when at least one image failed (the others are still done)."""
    if args.max_pixels:
        decoding.allow_pixels(args.max_pixels)
    plan = make_plan(args)
    report = Report(args, plan)
    if not plan.jobs:
        return report.end()
    from wagi_rt.engines.base import EngineChoice
    from wagi_rt.session import Session

    choice = EngineChoice(args.backend, args.device, args.threads, args.precision)
    with Session(args.model, choice, naive=bool(args.compare or args.naive)) as session:
        require_precision(session, args.half)
        unwind_on_signals()
        make_places(plan)
        if not args.quiet:
            announce(session)
        if args.warm:
            session.warm_up(min(args.batch, len(plan.jobs)))
        measured = bool(args.json or args.compare or args.verbose)
        stages = Stages(session, plan.jobs, args.fit, measured)
        batches = [plan.jobs[start : start + args.batch] for start in range(0, len(plan.jobs), args.batch)]
        for batch in overlap(batches, stages.read, stages.run, stages.write):
            for image in batch.images:
                if image.error is not None or image.result is None:
                    report.failed(image.job.source, image.error)
                else:
                    report.done(image.job, image.result, image.metrics, batch.ms)
    return report.end()


def announce(session: Session) -> None:
    """Say what runs, and after `--backend auto` what was passed over."""
    for reason in session.passed_over:
        say(f"--backend auto: not {reason}")
    say(session.description)


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


class Stages:
    """Read, run and write for `overlap`. An image that fails in one of them spoils no other."""

    def __init__(self, session: Session, jobs: list[Job], fit: str, measured: bool) -> None:
        self.session, self.fit, self.measured = session, fit, measured
        self.stdin: bytes | UserError | None = None
        if any(job.source == STREAM for job in jobs):  # now and here: a signal interrupts only this thread
            try:
                self.stdin = decoding.read_stream(sys.stdin.buffer, "stdin")
            except UserError as error:
                self.stdin = error

    def read(self, jobs: list[Job]) -> Batch:
        """Decode and fit."""
        began = time.perf_counter()
        images = [Image(job) for job in jobs]
        for image in images:
            try:
                image.prepared = self._prepare(image.job)
            except UserError as error:
                image.error = error
        return Batch(images, time.perf_counter() - began)

    def _prepare(self, job: Job) -> pictures.Prepared:
        if isinstance(self.stdin, UserError) and job.source == STREAM:
            raise self.stdin
        content = self.stdin if job.source == STREAM else job.source
        return self.session.prepare(content, self.fit, name=job.source_name)  # type: ignore[arg-type]

    def run(self, batch: Batch) -> Batch:
        """The readable ones through the model."""
        began = time.perf_counter()
        self._invert([image for image in batch.images if image.prepared is not None])
        return Batch(batch.images, batch.seconds + time.perf_counter() - began)

    def _invert(self, images: list[Image]) -> None:
        """If the whole fails, one by one, so that one image cannot spoil the others."""
        import numpy as np

        prepared = [image.prepared for image in images if image.prepared is not None]
        if not prepared:
            return
        try:
            restored = self.session.restore(np.stack([one.image for one in prepared]))
            for image, result in zip(images, self.session.results(restored, prepared), strict=True):
                image.result = result
        except UserError as error:
            if len(images) == 1:
                images[0].error = UserError(f"{images[0].job.source_name}: {error}")
                return
            for image in images:
                self._invert([image])

    def write(self, batch: Batch) -> Batch:
        """Encode, write and measure; a place that cannot be written is that image's failure only."""
        began = time.perf_counter()
        for image in batch.images:
            if image.result is not None:
                try:
                    self._write(image.job, image.result)
                    if self.measured:
                        image.metrics = _measure(image.result, self.session.resolution)
                except UserError as error:
                    image.error = error
        return Batch(batch.images, batch.seconds + time.perf_counter() - began)

    def _write(self, job: Job, result: Result) -> None:
        content = pictures.encode(result.image, job.suffix)
        if job.target == STREAM:
            put_bytes(content)
        else:
            files.write_atomic(Path(job.target), content)
        if job.naive and result.naive is not None:
            files.write_atomic(Path(job.naive), pictures.encode(result.naive, job.suffix))


def _measure(result: Result, resolution: int) -> dict[str, dict[str, float | None]]:
    """Metrics of the written pixels at the residual's resolution, which is papers' 256 for large models."""
    import numpy as np

    from wagi_rt import metrics
    from wagi_rt.chain import area_resize

    def small(pixels: np.ndarray) -> np.ndarray:
        return area_resize(pictures.to_float(pixels[None]), resolution)

    both = np.concatenate([small(result.naive_r), small(result.image)])
    naive, wagi = metrics.measure(both, np.broadcast_to(small(result.input), both.shape))
    return {"naive": _finite(naive), "wagi": _finite(wagi)}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity: the PSNR of equal images is null."""
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}
