"""`wagi-rt invert` as its user sees it: a line or a JSON object per image, the sheet, the status."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from wagi_rt import files, pictures
from wagi_rt.commands.jobs import Plan
from wagi_rt.commands.stages import Image
from wagi_rt.console import put, say
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from wagi_rt.commands.compare import Row


class Report:
    """Images in the order of the inputs; those that the plan could not find come first."""

    def __init__(self, args: Namespace, plan: Plan, captions: tuple[str, str, str] | None = None) -> None:
        """captions: of the sheet's columns; None: those of an inversion."""
        self.json, self.quiet, self.sheet = args.json, args.quiet, plan.sheet
        self.total = len(plan.jobs) + len(plan.failures)
        self.written = 0
        self.status = 0
        self.rows: list[Row] = []
        self.captions = captions
        self._squares = 0
        for note in [] if self.quiet else plan.notes:
            say(f"note: {note}")
        self._missing = 0
        for source, error in plan.failures:
            self.failed(source, error)
            self.status = max(error.status, self.status)
        if plan.jobs and plan.failures:
            self.status = 1

    def failed(self, source: str, error: UserError | None) -> None:
        """An image that ended with an error."""
        self._missing += 1
        self.status = max(1, self.status)
        say(f"error: {error}")
        if self.json:
            put(json.dumps({"input": source, "error": str(error)}))

    def done(self, image: Image, ms: float) -> None:
        """An image that was written."""
        self.written += 1
        job, notes = image.job, image.notes
        if self.json:
            put(json.dumps(image.record() | {"ms": round(ms, 3)} | ({"notes": notes} if notes else {})))
        if self.sheet:
            self._add_rows(image)
        if not self.quiet:
            for note in notes:
                say(f"note: {job.source_name}: {note}")
            detail = "".join(
                f", l2 {metrics['wagi']['l2']:.4f} (naive {metrics['naive']['l2']:.4f})"
                for metrics in (square.metrics for square in image.squares)
                if metrics
            )
            count = f"[{self.written + self._missing}/{self.total}] "
            say(f"{count}{job.source_name} -> {job.target_name} ({ms:.0f} ms{detail})")

    def end(self) -> int:
        """The sheet and the sum; returns the exit status."""
        if self.sheet and self.rows:
            self._write_sheet(self.sheet)
        if self._missing and self.total > 1:
            say(f"{self._missing} of {self.total} images failed, {self.written} written")
        return self.status

    def _add_rows(self, image: Image) -> None:
        from wagi_rt.commands.compare import MAX_ROWS, make_row

        self._squares += len(image.squares)
        for title, square in zip(image.titles(), image.squares, strict=True):
            result, values = square.result, square.metrics
            if len(self.rows) < MAX_ROWS and result is not None and result.naive is not None:
                naive, wagi = (
                    f"L2 {values[k]['l2']:.4f}  SSIM {values[k]['ssim']:.3f}" if values else ""
                    for k in ("naive", "wagi")
                )
                self.rows.append(make_row((result.input, result.naive, result.image), (title, naive, wagi)))

    def _write_sheet(self, path: Path) -> None:
        from wagi_rt.commands.compare import COLUMNS, draw_sheet

        files.write_atomic(
            path, pictures.encode(draw_sheet(self.rows, self.captions or COLUMNS), path.suffix.lower())
        )
        if not self.quiet:
            part = (
                f" (the first {len(self.rows)} of {self._squares})" if len(self.rows) < self._squares else ""
            )
            say(f"comparison sheet: {path}{part}")
