"""Read, run and write for `overlap`: images on their way through the model, each with a square or several."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wagi_rt import decoding, files, naive, pictures
from wagi_rt.commands.jobs import Job
from wagi_rt.commands.sources import STREAM
from wagi_rt.console import put_bytes
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from wagi_rt.chain import Tensors
    from wagi_rt.results import Result
    from wagi_rt.session import Session


class Square:
    """A picture as the model sees it, then its result.

    kept: what its edits start from, where that was read from a file. base: the inversion that the result is
    an edit of, where the difference is wanted. shown: the naive inversion and the picture, which may be
    larger. far: `naive.far` of them. own: `Render.own` of its job.
    """

    def __init__(self, prepared: pictures.Prepared, kept: Tensors | None = None) -> None:
        self.prepared, self.kept = prepared, kept
        self.result: Result | None = None
        self.base: Result | None = None
        self.shown: tuple[np.ndarray, np.ndarray] | None = None
        self.far = ""
        self.own: np.ndarray | None = None
        self.metrics: dict[str, Any] = {}


class Image:
    """One job on its way: its squares, or the error that ended it.

    advice: for squares whose naive inversion is far; about: notes on what is done to every image.
    """

    def __init__(self, job: Job, squares: Sequence[Square] = (), error: UserError | None = None) -> None:
        self.job, self.squares, self.error = job, squares, error
        self.advice = ""
        self.about: Sequence[str] = ()

    @property
    def notes(self) -> list[str]:
        """Notes for the user on how it was read and what came out."""
        (square,) = self.squares
        return [*square.prepared.notes, *self.missed(square), *self.about]

    def missed(self, square: Square) -> list[str]:
        """The note that the model does not know this picture, if so."""
        return [f"{square.far}: {self.advice}"] if square.far else []

    def record(self) -> dict[str, Any]:
        """The image as JSON."""
        return {"input": self.job.source, "output": self.job.target, "metrics": self.squares[0].metrics}

    def titles(self) -> list[str]:
        """The name of each square."""
        return ["stdin" if self.job.source == STREAM else Path(self.job.source).name]


class Render:
    """The way of squares that run together to their results. notes: for the user, on every image."""

    notes: Sequence[str] = ()

    def __init__(self, session: Session) -> None:
        self.session = session

    def own(self, job: Job) -> np.ndarray | None:
        """The step in the latents that this job alone gets; UserError for what the model does not know."""
        return None

    def __call__(self, squares: Sequence[Square]) -> list[Result]:
        """Their results; fills in what else a square is to know."""
        raise NotImplementedError


class Inversions(Render):
    """Their inversions."""

    def __call__(self, squares: Sequence[Square]) -> list[Result]:
        import numpy as np

        prepared = [square.prepared for square in squares]
        inversion = self.session.restore(np.stack([one.image for one in prepared]))
        for square, naive_r in zip(squares, inversion.naive_r, strict=True):
            square.shown = naive_r, square.prepared.image
        return self.session.results(inversion, prepared)


class Batch(NamedTuple):
    """Images that run together, and the time of the stages behind them; waiting does not count."""

    images: Sequence[Image]
    seconds: float

    @property
    def ms(self) -> float:
        """Milliseconds of each image."""
        return self.seconds * 1000 / len(self.images)


class Stages:
    """The three stages. An image that fails in one of them spoils no other."""

    def __init__(
        self, session: Session, jobs: list[Job], args: Namespace, render: Render, measured: bool = False
    ) -> None:
        """args: fit, threads, batch (squares that run together); measured: fill in `Square.metrics`."""
        self.session, self.fit, self.batch, self.threads = session, args.fit, args.batch, args.threads
        self.render, self.measured = render, measured
        self.stdin: bytes | UserError | None = None
        if any(job.source == STREAM for job in jobs):  # now and here: a signal interrupts only this thread
            try:
                self.stdin = decoding.read_stream(sys.stdin.buffer, "stdin")
            except UserError as error:
                self.stdin = error

    def read(self, jobs: list[Job]) -> Batch:
        """Decode and fit."""
        began = time.perf_counter()
        images = []
        for job in jobs:
            try:
                own = self.render.own(job)
                images.append(self._prepare(job))
                for square in images[-1].squares:
                    square.own = own
            except decoding.TooManyPixels as error:
                images.append(Image(job, error=UserError(f"{error}, or allow more with --max-pixels")))
            except UserError as error:
                images.append(Image(job, error=error))
        return Batch(images, time.perf_counter() - began)

    def _prepare(self, job: Job) -> Image:
        """A job with its squares, not yet run; UserError for what cannot be read."""
        prepared = self.session.prepare(self._content(job), self.fit, name=job.source_name)
        return Image(job, [Square(prepared)])

    def _content(self, job: Job) -> str | bytes:
        if job.source != STREAM:
            return job.source
        if isinstance(self.stdin, UserError):
            raise self.stdin
        assert self.stdin is not None
        return self.stdin

    def run(self, batch: Batch) -> Batch:
        """The squares of all readable images through the model."""
        began = time.perf_counter()
        squares = [(image, square) for image in batch.images for square in image.squares]
        for start in range(0, len(squares), self.batch):
            self._invert(squares[start : start + self.batch])
        return Batch(batch.images, batch.seconds + time.perf_counter() - began)

    def _invert(self, squares: list[tuple[Image, Square]]) -> None:
        """If the whole fails, one by one, so that one image cannot spoil the others."""
        try:
            for (_, square), result in zip(squares, self.render([one for _, one in squares]), strict=True):
                square.result = result
        except UserError as error:
            if len(squares) == 1:
                image = squares[0][0]
                image.error = UserError(f"{image.job.source_name}: {error}")
                return
            for one in squares:
                self._invert([one])

    def write(self, batch: Batch) -> Batch:
        """Encode, write and measure; a place that cannot be written is that image's failure only."""
        began = time.perf_counter()
        for image in batch.images:
            if image.error is None:
                try:
                    self._write(image)
                    self._judge(image)
                except UserError as error:
                    image.error = error
        return Batch(batch.images, batch.seconds + time.perf_counter() - began)

    def _write(self, image: Image) -> None:
        """The image's files; UserError when one cannot be written."""
        job, result = image.job, image.squares[0].result
        assert result is not None
        put_file(job.target, pictures.encode(result.image, job.suffix))
        if job.naive and result.naive is not None:
            put_file(job.naive, pictures.encode(result.naive, job.suffix))
        if job.latents:
            put_file(job.latents, self._latents(image.squares[0]))

    def _judge(self, image: Image) -> None:
        """Metrics where wanted, and whether the model knows the picture: here no engine waits for it."""
        for square in image.squares:
            assert square.result is not None and square.shown is not None
            square.far = naive.far(self.session.manifest, *square.shown)
            if self.measured:
                square.metrics = _measure(square.result, self.session.resolution)
        image.about = self.render.notes
        if any(square.far for square in image.squares):
            image.advice = self._advice(image)

    def _advice(self, image: Image) -> str:
        """A line for an image that the model does not know."""
        from wagi_rt.commands.whereabouts import advice

        placement = image.squares[0].prepared.placement
        return advice(self._content(image.job), image.job.source_name, placement, self.threads)

    def _latents(self, square: Square) -> bytes:
        """The file that later edits of the picture start from."""
        from wagi_rt import latents

        assert square.result is not None
        kept = {"ws": square.result.ws[None], "naive_r": square.result.naive_float[None]}
        return latents.content(self.session.manifest, kept, square.prepared)


def put_file(target: str, content: bytes) -> None:
    """A whole file, or stdout."""
    if target == STREAM:
        put_bytes(content)
    else:
        files.write_atomic(Path(target), content)


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
