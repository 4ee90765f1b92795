"""`wagi-rt invert`: run the plan in batches, write each image as a whole or not at all, report failures."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wagi_rt.console import say
from wagi_rt.errors import UserError
from wagi_rt.plan import STREAM, Job, make_places, make_plan

if TYPE_CHECKING:
    from wagi_rt.compare import Row
    from wagi_rt.session import Result, Session


@dataclass
class Tally:
    """What a run did so far."""

    total: int
    done: int = 0
    failed: int = 0
    rows: list[Row] = field(default_factory=list)


def invert(args: Namespace) -> int:
    """The command. Returns 0, or 1 when at least one image failed (the others are still done)."""
    from wagi_rt.session import Session

    plan = make_plan(args)
    with Session(args.model, args.backend, args.device, args.threads) as session:
        require_precision(session, args.half)
        make_places(plan)
        if not args.quiet:
            say(session.description)
        tally = Tally(len(plan.jobs))
        for start in range(0, len(plan.jobs), args.batch):
            _batch(session, plan.jobs[start : start + args.batch], args, tally)
    if plan.sheet and tally.rows:
        _write_sheet(plan.sheet, tally, args.quiet)
    if tally.failed and tally.total > 1:
        say(f"{tally.failed} of {tally.total} images failed, {tally.done} written")
    return 1 if tally.failed else 0


def require_precision(session: Session, half: bool) -> None:
    """--fp16 asks for a half-precision bundle (weights at least); it does not convert one."""
    if half and session.manifest.precision == "fp32":
        raise UserError(
            f"--fp16: {session.manifest.folder} is {session.manifest.precision}; "
            "export one with: python export/to_onnx.py --checkpoint C -o BUNDLE --fp16",
            status=2,
        )


def _batch(session: Session, jobs: list[Job], args: Namespace, tally: Tally) -> None:
    """Read, run and write some images; each failure is reported and leaves the others alone."""
    began = time.perf_counter()
    ready, prepared = [], []
    for job in jobs:
        try:
            data = sys.stdin.buffer.read() if job.source == STREAM else job.source
            prepared.append(session.prepare(data, args.fit, name=job.source_name))
            ready.append(job)
        except UserError as error:
            _failed(job, error, args, tally)
    for part in _run(session, ready, prepared, args, tally):
        elapsed = (time.perf_counter() - began) * 1000 / len(jobs)
        for job, result in part:
            try:
                _finish(session, job, result, elapsed, args, tally)
            except UserError as error:
                _failed(job, error, args, tally)


def _run(
    session: Session, jobs: list[Job], prepared: list, args: Namespace, tally: Tally
) -> Iterator[list[tuple[Job, Result]]]:
    """The batch through the model; if that fails, one by one, so that one image cannot spoil the others."""
    import numpy as np

    if not jobs:
        return
    try:
        results = session.results(session.run(np.stack([pixels for pixels, _ in prepared])), prepared)
        yield list(zip(jobs, results, strict=True))
    except UserError as error:
        if len(jobs) == 1:
            _failed(jobs[0], UserError(f"{jobs[0].source_name}: {error}"), args, tally)
            return
        for job, item in zip(jobs, prepared, strict=True):
            yield from _run(session, [job], [item], args, tally)


def _finish(
    session: Session, job: Job, result: Result, elapsed: float, args: Namespace, tally: Tally
) -> None:
    from wagi_rt import image as pictures

    content = pictures.encode(result.image, job.suffix)
    if job.target == STREAM:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        pictures.write_atomic(Path(job.target), content)
    tally.done += 1
    metrics = _measure(session, result) if args.json or args.compare or args.verbose else {}
    if args.json:
        record = {"input": job.source, "output": job.target, "metrics": metrics, "ms": round(elapsed, 3)}
        print(json.dumps(record | ({"notes": result.notes} if result.notes else {})), flush=True)
    if args.compare:
        _add_row(job, result, metrics, tally)
    if not args.quiet:
        for note in result.notes:
            say(f"note: {job.source_name}: {note}")
        detail = f", l2 {metrics['wagi']['l2']:.4f} (naive {metrics['naive']['l2']:.4f})" if metrics else ""
        count = f"[{tally.done + tally.failed}/{tally.total}] "
        say(f"{count}{job.source_name} -> {job.target_name} ({elapsed:.0f} ms{detail})")


def _measure(session: Session, result: Result) -> dict[str, dict[str, float | None]]:
    """Metrics of the written pixels at the residual's resolution, which is papers' 256 for large models."""
    import numpy as np

    from wagi_rt import image as pictures
    from wagi_rt import metrics

    both = pictures.to_float(np.stack([result.naive, result.image]))
    source = pictures.to_float(result.input[None])
    both, source = (pictures.area_resize(x, session.resolution) for x in (both, source))
    naive, wagi = metrics.measure(both, np.broadcast_to(source, both.shape))
    return {"naive": _finite(naive), "wagi": _finite(wagi)}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity: the PSNR of equal images is null."""
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}


def _add_row(job: Job, result: Result, metrics: dict, tally: Tally) -> None:
    from wagi_rt.compare import MAX_ROWS, make_row

    if len(tally.rows) < MAX_ROWS:
        naive, wagi = (f"L2 {metrics[k]['l2']:.4f}  SSIM {metrics[k]['ssim']:.3f}" for k in ("naive", "wagi"))
        tally.rows.append(
            make_row((result.input, result.naive, result.image), (Path(job.source_name).name, naive, wagi))
        )


def _write_sheet(path: Path, tally: Tally, quiet: bool) -> None:
    from wagi_rt import image as pictures
    from wagi_rt.compare import draw_sheet

    pictures.write_atomic(path, pictures.encode(draw_sheet(tally.rows), path.suffix.lower()))
    if not quiet:
        part = f" (the first {len(tally.rows)} of {tally.done})" if len(tally.rows) < tally.done else ""
        say(f"comparison sheet: {path}{part}")


def _failed(job: Job, error: UserError, args: Namespace, tally: Tally) -> None:
    tally.failed += 1
    say(f"error: {error}")
    if args.json:
        print(json.dumps({"input": job.source, "error": str(error)}), flush=True)
