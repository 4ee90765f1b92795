"""A process of `wagi-rt bulk`: one session, and rows for the images that it is given."""

from __future__ import annotations

import os
import platform
from argparse import Namespace

from wagi_rt import decoding
from wagi_rt.bulk.ledger import Row
from wagi_rt.commands.edit import Edits, read_edits
from wagi_rt.commands.invert import face_finder, open_session, require_precision
from wagi_rt.commands.jobs import Job
from wagi_rt.commands.overlap import overlap
from wagi_rt.commands.stages import Image, Inversions, Render, Stages
from wagi_rt.commands.whole import PhotoStages
from wagi_rt.errors import UserError


class Worker:
    """A Ray actor. Errors that a user is to read are returned: Ray wraps those that are raised."""

    def open(self, folder: str, args: Namespace) -> str | UserError:
        """Open the model => a description of what runs. folder: what paths are relative to, everywhere."""
        try:
            os.chdir(folder)
            self.batch: int = args.batch
            self.stages = _open(args)
            return self.stages.session.description
        except UserError as error:
            return UserError(f"{platform.node()}: {error}", error.status)
        except OSError as error:
            where = f"{platform.node()}: {error.filename or folder}: {error.strerror or error}"
            return UserError(f"{where}; every machine must see the same paths")

    def work(self, jobs: list[Job]) -> list[Row]:
        """A row for each job: its outputs are written, or its error is known."""
        batches = [jobs[start : start + self.batch] for start in range(0, len(jobs), self.batch)]
        done = overlap(batches, self.stages.read, self.stages.run, self.stages.write)
        return [_row(image, batch.ms / 1000) for batch in done for image in batch.images]


def failed(job: Job, error: str | None, seconds: float = 0.0) -> Row:
    """The row of an image without results."""
    found: Row = {"input": job.source, "output": job.target, "error": error, "seconds": round(seconds, 4)}
    if job.by_text:
        text, neutral, strength, _ = job.by_text
        found |= {"text": text, "neutral": neutral, "text_strength": strength}
    return found | {"edits": " ".join(job.edits), "notes": []}


def _row(image: Image, seconds: float) -> Row:
    if image.error is not None:
        return failed(image.job, str(image.error), seconds)
    return failed(image.job, None, seconds) | image.record() | {"notes": image.notes}


def _open(args: Namespace) -> Stages:
    """The stages of `invert` or `edit`, with their session; UserError as theirs."""
    if args.max_pixels:
        decoding.allow_pixels(args.max_pixels)
    finder = face_finder(args)
    session = open_session(args, editing=args.editing)
    require_precision(session, args.half)
    render: Render = Inversions(session)
    if args.editing:
        wanted = read_edits(session.manifest, args.set, args.direction)
        render = Edits(session, [wanted], based=finder is not None and args.paste != "replace")
    if finder is None:
        return Stages(session, [], args, render, measured=True)
    return PhotoStages(session, [], args, render, finder, measured=True)
