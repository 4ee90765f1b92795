"""`--fit face`: the stages for whole photos. Each face is aligned, goes through the model and is put back."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wagi_rt import pictures
from wagi_rt.commands.jobs import Job
from wagi_rt.commands.stages import Image, Square, Stages, put_file
from wagi_rt.errors import UserError
from wagi_rt.faces.alignment import Alignment
from wagi_rt.faces.photos import Photo, read
from wagi_rt.faces.quads import Finder, Found

if TYPE_CHECKING:
    from wagi_rt.session import Session


@dataclass
class PhotoImage(Image):
    """A photo with its faces; a square for each."""

    photo: Photo | None = None
    faces: list[Found] = field(default_factory=list)
    squares_out: list[str] = field(default_factory=list)  # written by --faces-out

    @property
    def notes(self) -> list[str]:
        assert self.photo is not None
        about = [f"face {n}: {note}" for n, face in enumerate(self.faces, 1) for note in face.notes()]
        return self.photo.notes + about

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
    """`Stages` for whole photos; `edit` overrides what a face becomes."""

    def __init__(
        self, session: Session, jobs: list[Job], args: Namespace, measured: bool, finder: Finder
    ) -> None:
        self.finder = finder
        self.difference, self.strip = args.paste == "difference", args.strip
        super().__init__(session, jobs, args.fit, args.batch, measured)

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
        return PhotoImage(job, squares, photo=photo, faces=faces)

    def _write(self, image: Image) -> None:
        assert isinstance(image, PhotoImage) and image.photo is not None
        results = [square.result for square in image.squares if square.result is not None]
        self._put_back(image, [result.image for result in results], image.job.target)
        if image.job.naive:
            naives = [result.naive for result in results if result.naive is not None]
            self._put_back(image, naives, image.job.naive)
        if image.job.faces:
            for number, result in enumerate(results, 1):
                target = f"{image.job.faces}-{number}.png"
                put_file(target, pictures.encode(result.image, Path(target).suffix))
                image.squares_out.append(target)

    def _put_back(self, image: PhotoImage, after: list[np.ndarray], target: str) -> None:
        """The whole photo with these squares in place of its faces."""
        assert image.photo is not None
        places = [Alignment(face.quad, self.session.size) for face in image.faces]
        results = [square.result for square in image.squares if square.result is not None]
        before = [result.input for result in results] if self.difference else None
        photo = image.photo.with_faces(places, after, before)
        put_file(target, photo.encode(image.job.suffix, self.strip))
