"""`wagi-rt invert`: run the plan in batches, write each image as a whole or not at all, report failures."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from wagi_rt.commands.jobs import STREAM, Job, make_places, make_plan
from wagi_rt.console import say
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.commands.compare import Row
    from wagi_rt.commands.overlap import Done
    from wagi_rt.session import Result, Session


class Tally:
    """What a run did so far."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self.failed = 0
        self.rows: list[Row] = []


def invert(args: Namespace) -> int:
    """The command. Returns 0, or 1 when at least one image failed (the others are still done)."""
    from wagi_rt.commands.overlap import run_stages
    from wagi_rt.session import Session

    plan = make_plan(args)
    options = (args.model, args.backend, args.device, args.threads, args.precision)
    with Session(*options, naive=bool(args.compare or args.naive)) as session:
        require_precision(session, args.half)
        make_places(plan)
        if not args.quiet:
            announce(session)
        if args.warm:
            session.warm_up(min(args.batch, len(plan.jobs)))
        tally = Tally(len(plan.jobs))
        batches = [plan.jobs[start : start + args.batch] for start in range(0, len(plan.jobs), args.batch)]
        finish = _Finish(session, measure=bool(args.json or args.compare or args.verbose))
        for done in run_stages(session, batches, args.fit, finish):
            _report(done, args, tally)
    if plan.sheet and tally.rows:
        _write_sheet(plan.sheet, tally, args.quiet)
    if tally.failed and tally.total > 1:
        say(f"{tally.failed} of {tally.total} images failed, {tally.done} written")
    return 1 if tally.failed else 0


def announce(session: Session) -> None:
    """Say what runs, and after `--backend auto` what was passed over."""
    for reason in session.passed_over:
        say(f"--backend auto: not {reason}")
    say(session.description)


def require_precision(session: Session, half: bool) -> None:
    """--fp16 asks for a half-precision bundle (on TensorRT: half arithmetic); it does not convert one."""
    enough = ("fp16",) if session.backend_name == "trt" else ("fp16", "fp16-weights")
    if half and session.manifest.precision not in enough:
        raise UserError(
            f"--fp16: {session.manifest.folder} is {session.manifest.precision}; "
            "export one with: python export/to_onnx.py --checkpoint C -o BUNDLE --fp16",
            status=2,
        )


class _Finish:
    """The last stage of an image: encode, write, measure => its metrics."""

    def __init__(self, session: Session, measure: bool) -> None:
        self.session, self.measure = session, measure

    def __call__(self, job: Job, result: Result) -> dict[str, dict[str, float | None]]:
        from wagi_rt import pictures

        content = pictures.encode(result.image, job.suffix)
        if job.target == STREAM:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            pictures.write_atomic(Path(job.target), content)
        if job.naive and result.naive is not None:
            pictures.write_atomic(Path(job.naive), pictures.encode(result.naive, job.suffix))
        return _measure(self.session, result) if self.measure else {}


def _report(done: Done, args: Namespace, tally: Tally) -> None:
    """One image, in the order of the inputs within what its batch allows: unreadable ones come first."""
    job, result, metrics = done.job, done.result, done.metrics
    if done.error is not None or result is None:
        tally.failed += 1
        say(f"error: {done.error}")
        if args.json:
            print(json.dumps({"input": job.source, "error": str(done.error)}), flush=True)
        return
    tally.done += 1
    if args.json:
        record = {"input": job.source, "output": job.target, "metrics": metrics, "ms": round(done.ms, 3)}
        print(json.dumps(record | ({"notes": list(result.notes)} if result.notes else {})), flush=True)
    if args.compare:
        _add_row(job, result, metrics, tally)
    if not args.quiet:
        for note in result.notes:
            say(f"note: {job.source_name}: {note}")
        detail = f", l2 {metrics['wagi']['l2']:.4f} (naive {metrics['naive']['l2']:.4f})" if metrics else ""
        count = f"[{tally.done + tally.failed}/{tally.total}] "
        say(f"{count}{job.source_name} -> {job.target_name} ({done.ms:.0f} ms{detail})")


def _measure(session: Session, result: Result) -> dict[str, dict[str, float | None]]:
    """Metrics of the written pixels at the residual's resolution, which is papers' 256 for large models."""
    import numpy as np

    from wagi_rt import metrics, pictures

    def small(pixels: np.ndarray) -> np.ndarray:
        return pictures.area_resize(pictures.to_float(pixels[None]), session.resolution)

    both = np.concatenate([small(result.naive_r), small(result.image)])
    naive, wagi = metrics.measure(both, np.broadcast_to(small(result.input), both.shape))
    return {"naive": _finite(naive), "wagi": _finite(wagi)}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity: the PSNR of equal images is null."""
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}


def _add_row(job: Job, result: Result, metrics: dict, tally: Tally) -> None:
    from wagi_rt.commands.compare import MAX_ROWS, make_row

    if len(tally.rows) < MAX_ROWS and result.naive is not None:
        naive, wagi = (f"L2 {metrics[k]['l2']:.4f}  SSIM {metrics[k]['ssim']:.3f}" for k in ("naive", "wagi"))
        tally.rows.append(
            make_row((result.input, result.naive, result.image), (Path(job.source_name).name, naive, wagi))
        )


def _write_sheet(path: Path, tally: Tally, quiet: bool) -> None:
    from wagi_rt import pictures
    from wagi_rt.commands.compare import draw_sheet

    pictures.write_atomic(path, pictures.encode(draw_sheet(tally.rows), path.suffix.lower()))
    if not quiet:
        part = f" (the first {len(tally.rows)} of {tally.done})" if len(tally.rows) < tally.done else ""
        say(f"comparison sheet: {path}{part}")
