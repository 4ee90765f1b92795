"""The log of a run: metrics.jsonl, TensorBoard, picture grids, one progress line on stderr."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from wagi.data import to_uint8
from wagi.errors import UserError
from wagi.files import contact_sheet, write_png, write_text


def save_grid(path: Path, images: Tensor, columns: int) -> None:  # N,3,S,S in [-1, 1]
    """Write images as one PNG, row by row."""
    write_png(path, contact_sheet(list(to_uint8(images)), columns))


def duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Log:
    """Running means of the scalars of each step, written every `log_every` steps by the first process."""

    def __init__(self, run: Path, step: int, images: int, total: int, images_per_step: int) -> None:
        self.run, self.total, self.images_per_step = run, total, images_per_step
        self.start_images = images
        self.path = run / "metrics.jsonl"
        self._forget_after(step)
        self.board = self._tensorboard()
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.last_step, self.last_time = step, time.monotonic()
        self.start_step, self.start_time = step, self.last_time

    def _forget_after(self, step: int) -> None:
        """Drop lines that a killed run wrote after its last checkpoint: those steps are done again."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text().splitlines(keepends=True):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except ValueError:  # a line cut off by the kill
                continue
        write_text(self.path, "".join(kept))

    def _tensorboard(self):  # type: ignore[no-untyped-def]
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print("TensorBoard is not installed: metrics go to metrics.jsonl only", file=sys.stderr)
            return None
        return SummaryWriter(str(self.run / "tensorboard"), purge_step=self.last_known)

    @property
    def last_known(self) -> int | None:
        if not self.path.is_file():
            return None
        lines = self.path.read_text().splitlines()
        return json.loads(lines[-1])["step"] + 1 if lines else None

    def add(self, scalars: dict[str, Tensor]) -> None:
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.detach().float().to(
                "cpu", non_blocking=True
            )
            self.counts[name] = self.counts.get(name, 0) + 1

    def check(self, step: int) -> None:
        """Refuse to go on from weights that are no longer numbers."""
        for name, value in self.sums.items():
            if not torch.isfinite(value):
                saved = self.run / "checkpoint.pt"
                resumes = f"goes on from {saved} (delete it if it diverges from there too)"
                remedy = resumes if saved.is_file() else "starts again: nothing is saved yet"
                raise UserError(
                    f"step {step}: {name} is not finite; the same command with a lower --lr, or --precision "
                    f"fp32, {remedy}"
                )

    def write(self, step: int) -> None:
        """One line of means since the last call, and the progress with the remaining time."""
        self.check(step)
        now = time.monotonic()
        rate = (step - self.last_step) * self.images_per_step / max(now - self.last_time, 1e-9)
        means = {name: round(float(value) / self.counts[name], 6) for name, value in self.sums.items()}
        self.record(step, {**means, "images_per_second": round(rate, 2)})
        left = (now - self.start_time) / max(step - self.start_step, 1) * (self.total - step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        print(
            f"step {step}/{self.total}  {self._kimg(step):.1f} kimg  {shown}  {rate:.1f} images/s  "
            f"left {duration(left)}",
            file=sys.stderr,
            flush=True,
        )
        self.sums, self.counts, self.last_step, self.last_time = {}, {}, step, now

    def _kimg(self, step: int) -> float:
        return (self.start_images + (step - self.start_step) * self.images_per_step) / 1000

    def record(self, step: int, scalars: dict[str, float]) -> None:
        entry = {
            "step": step,
            "kimg": round(self._kimg(step), 4),
            "time": round(time.time(), 1),
        }
        with open(self.path, "a") as file:
            file.write(json.dumps({**entry, **scalars}) + "\n")
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, step)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of an evaluation or a save out of the rate."""
        start = time.monotonic()
        yield
        self.last_time += time.monotonic() - start

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
