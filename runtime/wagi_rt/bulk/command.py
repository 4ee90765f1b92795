"""`wagi-rt bulk`: what is left to do, worker processes that do it, a row for every image."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from wagi_rt import files, manifest
from wagi_rt.bulk import inputs, table
from wagi_rt.bulk.cluster import started
from wagi_rt.bulk.ledger import Ledger
from wagi_rt.bulk.pool import Pool
from wagi_rt.bulk.progress import Progress, counted
from wagi_rt.bulk.wording import Wording
from wagi_rt.commands.edit import read_edits
from wagi_rt.commands.invert import check_face_options
from wagi_rt.commands.jobs import Job, Plan, files_of, make_places, make_plan, output_folders, refuse_existing
from wagi_rt.console import say, unwind_on_signals
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest
from wagi_rt.pictures import WRITTEN

ROWS, TABLE = ".jsonl", ".parquet"
# Options that decide what an output looks like, besides the model, its own edits and its ending.
_DECIDING = ("fit", "faces", "quads", "paste", "strip", "set", "direction")
Settings = Callable[[Job], str]


def bulk(args: Namespace) -> int:
    """The command. Returns 0, or 1 when at least one image failed (the others are still done)."""
    report = _check(args)
    args.threads = args.threads or 1
    bundle = manifest.read(args.model)
    common = read_edits(bundle, args.set, args.direction)
    wording = Wording(bundle, args)
    found = inputs.find(
        args.inputs, args.recursive, output_folders(args), lambda edit: read_edits(bundle, [edit]), wording
    )
    wording.check()
    args.editing = bool(common or any(source.edits or source.by_text for source in found.files))
    plan = make_plan(Namespace(**vars(args) | {"overwrite": True}), found=found)
    with closing(Ledger(report.with_suffix(ROWS), anew=args.overwrite)) as ledger:
        status = _run(args, plan, ledger, _settings(bundle, args))
    if report.suffix == TABLE and ledger.path.exists():
        table.write(ledger.path, report)
    return status


def _check(args: Namespace) -> Path:
    """The report's path; UserError (status 2) for options that do not go together."""
    check_face_options(args)
    if Path(args.output).suffix.lower() in WRITTEN and not os.path.isdir(args.output):
        raise UserError(f"-o {args.output}: must be a folder", status=2)
    if args.device and ":" in args.device:
        raise UserError(f"--device {args.device}: each worker has its own GPU; use --device cuda", status=2)
    report = Path(args.report or os.path.join(args.output, f"report{ROWS}"))
    if report.suffix not in (ROWS, TABLE):
        raise UserError(f"--report {report}: must end in {ROWS} or {TABLE}", status=2)
    if report.suffix == TABLE:
        table.require()
    return report


def _settings(bundle: Manifest, args: Namespace) -> Settings:
    """A short key of everything that an image's result depends on but its input."""
    model = files.file_sha256(bundle.folder / "manifest.json")
    shared = [model, *(getattr(args, name) for name in _DECIDING)]
    return lambda job: files.key(*shared, job.edits, *(job.by_text or ()))[:12]


def _run(args: Namespace, plan: Plan, ledger: Ledger, settings: Settings) -> int:
    left = _left(plan.jobs, ledger, settings, args.overwrite)
    total = len(plan.jobs) + len(plan.failures)
    progress = Progress(total, len(plan.jobs) - len(left), args.quiet)
    for note in [] if args.quiet else plan.notes:
        say(f"note: {note}")
    unread = [{"input": name, "output": None, "error": str(error)} for name, error in plan.failures]
    ledger.add(unread)
    progress.add(unread)
    try:
        if left:
            _work(args, plan, left, ledger, progress, settings)
    except (KeyboardInterrupt, SystemExit):
        progress.end(str(ledger.path))
        raise
    progress.end(str(args.report or ledger.path))
    if plan.jobs:
        return int(progress.failed > 0)
    return max((error.status for _, error in plan.failures), default=0)


def _left(jobs: list[Job], ledger: Ledger, settings: Settings, overwrite: bool) -> list[Job]:
    """Images to be made. UserError (status 2) where others, or somebody else, wrote their files."""
    made = [(job, ledger.done.get((job.source, job.target))) for job in jobs]
    other = sum(key is not None and key != settings(job) for job, key in made)
    if other:
        raise UserError(
            f"{ledger.path}: {other} of these images were made with another model or other options; "
            "choose another -o, or make them again with --overwrite",
            status=2,
        )
    left = [job for job, key in made if key is None or not all(map(os.path.lexists, files_of(job)))]
    if not overwrite:
        refuse_existing(
            [path for job in left if not ledger.knows(job) for path in files_of(job)], "--overwrite"
        )
    return left


def _work(
    args: Namespace, plan: Plan, left: list[Job], ledger: Ledger, progress: Progress, settings: Settings
) -> None:
    """All that is left through workers."""
    make_places(plan)
    ledger.sweep()
    by_place = {job.target: job for job in left}
    gpu = args.backend == "trt" or (args.device or "").startswith("cuda")
    unwind_on_signals()
    if not args.quiet:
        say("starting Ray")
    with started(args.ray, args.threads, 1 / args.per_gpu if gpu else 0, args.actors) as cluster:
        workers = args.actors or cluster.room()
        pool = Pool(cluster, workers, args.batch, (os.getcwd(), args), say)
        opened = False
        for rows in pool.run(left, ledger.begin):
            if pool.opened and not opened:
                opened = True
                number = counted(min(workers, len(left)), "worker")
                progress.begin(f"{number} with {cluster.asked} each: {pool.opened[0]}")
            ledger.add([row | {"settings": settings(by_place[row["output"]])} for row in rows])
            progress.lost = pool.lost
            progress.add(rows)
    if pool.lost:
        ledger.sweep()
