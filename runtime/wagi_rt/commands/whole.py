"""`--fit face`: the stages for whole photos. Each face is aligned, goes through the model and is put back."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wagi_rt import pictures
from wagi_rt.commands.jobs import Job
from wagi_rt.commands.stages import Image, Render, Square, Stages, put_file
from wagi_rt.errors import UserError
from wagi_rt.faces.alignment import Alignment
from wagi_rt.faces.photos import Photo, read
from wagi_rt.faces.quads import Finder, Found

if TYPE_CHECKING:
    from wagi_rt.results import Result
    from wagi_rt.session import Session


class PhotoImage(Image):
    """A photo with its faces; a square for each."""

    def __init__(self, job: Job, squares: Sequence[Square], photo: Photo, faces: Sequence[Found]) -> None:
        super().__init__(job, squares)
        self.photo, self.faces = photo, faces
        self.squares_out: list[str] = []  # written by --faces-out

    @property
    def notes(self) -> list[str]:
        found = []
        for number, (face, square) in enumerate(zip(self.faces, self.squares, strict=True), 1):
            found += [f"face {number}: {note}" for note in (*face.notes(), *self.missed(square))]
        return [*self.photo.notes, *found, *self.about]

    def record(self) -> dict[str, Any]:
        faces = []
        for number, (face, square) in enumerate(zip(self.faces, self.squares, strict=True)):
            out = {"output": self.squares_out[number]} if self.squares_out else {}
            faces.append(face.record() | {"metrics": square.metrics} | out)
        return {"input": self.job.source, "output": self.job.target, "faces": faces}

    def titles(self) -> list[str]:
        (name,) = super().titles()
        return [f"{name}, face {number}" for number in range(1, len(self.faces) + 1)]


class PhotoStages(Stages):
    """`Stages` for whole photos. Of an edit only the difference to the inversion is put back."""

    def __init__(
        self,
        session: Session,
        jobs: list[Job],
        args: Namespace,
        render: Render,
        finder: Finder,
        measured: bool = False,
    ) -> None:
        self.finder = finder
        self.difference, self.strip = args.paste == "difference", args.strip
        super().__init__(session, jobs, args, render, measured)

    def _prepare(self, job: Job) -> Image:
        photo = read(self._content(job), job.source_name)
        faces = self.finder.find(photo, job.source_name)
        squares = []
        for number, face in enumerate(faces, 1):
            try:
                square = np.asarray(Alignment(face.quad, self.session.size).cut(photo.upright))
            except UserError as error:
                raise UserError(f"{job.source_name}: face {number}: {error}") from None
            squares.append(Square(pictures.Prepared(pictures.to_float(square[None])[0])))
        return PhotoImage(job, squares, photo, faces)

    def _advice(self, image: Image) -> str:
        return "the model was not trained on such faces"

    def _write(self, image: Image) -> None:
        assert isinstance(image, PhotoImage)
        self._put_back(image, lambda result: result.image, image.job.target)
        if image.job.naive:
            self._put_back(image, _naive, image.job.naive)
        if image.job.faces:
            for number, square in enumerate(image.squares, 1):
                assert square.result is not None
                target = f"{image.job.faces}-{number}.png"
                put_file(target, pictures.encode(square.result.image, Path(target).suffix))
                image.squares_out.append(target)

    def _put_back(self, image: PhotoImage, of: Callable[[Result], np.ndarray], target: str) -> None:
        """The whole photo with one picture of each result in place of its faces."""
        places = [Alignment(face.quad, self.session.size) for face in image.faces]
        after, before = [], []
        for square in image.squares:
            assert square.result is not None
            after.append(of(square.result))
            if square.base is not None:
                before.append(of(square.base))
            elif self.difference:
                before.append(square.result.input)
        photo = image.photo.with_faces(places, after, before or None)
        put_file(target, photo.encode(image.job.suffix, self.strip))


def _naive(result: Result) -> np.ndarray:
    assert result.naive is not None
    return result.naive
