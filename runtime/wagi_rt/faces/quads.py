"""Faces of a photo as JSON: what `--json` prints, and what `--quads` reads.

Either one object {photo: [face, ...]}, or for each photo a line {"input": photo, "faces": [face, ...]}. A
face is {"quad": four corners} or {"eyes": two points, "mouth": two corners}; coordinates and order are those
of wagi_rt.faces.alignment. A photo is named by its path, or by its file name alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wagi_rt.errors import UserError
from wagi_rt.faces.alignment import Alignment, Landmarks
from wagi_rt.faces.detection import Detector, Face
from wagi_rt.faces.photos import Photo

_DIGITS = 3  # of a px


class Found(NamedTuple):
    """A face of a photo, wherever it is known from."""

    quad: np.ndarray  # [4, 2] px
    face: Face | None = None  # where more is known than the quad

    @property
    def side(self) -> float:
        return Alignment(self.quad, 1).side

    def notes(self) -> list[str]:
        return [] if self.face is None else self.face.notes()

    def record(self) -> dict[str, Any]:
        """The face as JSON, which `Quads` reads again."""
        points = {"quad": self.quad}
        if self.face is not None:
            points |= {"eyes": self.face.landmarks.eyes, "mouth": self.face.landmarks.mouth}
        return {name: np.round(value, _DIGITS).tolist() for name, value in points.items()}


class Quads:
    """A file's faces by photo; a subclass may read other things of them (`parsed`)."""

    form = '{photo: [{"quad": [[x, y], ...]}, ...]}'

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """UserError in one line for a file that is not of the form above."""
        self._path = os.fspath(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            detail = getattr(error, "strerror", None) or "not UTF-8"
            raise UserError(f"{path}: cannot be read ({detail}); check the path", status=2) from None
        try:
            self._entries = {photo: self.parsed(faces) for photo, faces in _entries(text)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            detail = " ".join(str(error).split())
            raise UserError(f"{path}: not of the form {self.form} ({detail}); mend it", status=2) from None
        except UserError as error:
            raise UserError(f"{path}: {error}", status=2) from None

    def parsed(self, faces: Any) -> Any:
        """The faces of one photo; ValueError and the like, or UserError, for what is none."""
        return [parse(face) for face in faces]

    def entry(self, photo: str) -> Any:
        """The photo's faces as `parsed`; UserError when the file does not have it."""
        if photo in self._entries:
            return self._entries[photo]
        name = os.path.basename(photo)
        same = [faces for key, faces in self._entries.items() if os.path.basename(key) == name]
        if len(same) != 1:
            have = "several photos of this name" if same else "no faces of this photo"
            raise UserError(f"{photo}: {self._path} has {have}; name it there by its path")
        return same[0]

    def of(self, photo: str) -> list[Found]:
        """The photo's faces, the largest first. Errors as `entry`."""
        return sorted(self.entry(photo), key=lambda found: found.side, reverse=True)


class Finder:
    """The faces of photos: detected, or from a file; at most `most` of each photo, the largest first."""

    def __init__(
        self, quads: str | os.PathLike[str] | None = None, most: int | None = None, threads: int | None = None
    ) -> None:
        """UserError where there is neither a file of quads nor the models."""
        self._quads = None if quads is None else Quads(quads)
        self._detector = Detector(threads) if self._quads is None else None
        self._most = most

    def find(self, photo: Photo, name: str) -> list[Found]:
        """UserError when there are none."""
        if self._quads is not None:
            faces = self._quads.of(name)
        else:
            assert self._detector is not None
            faces = [Found(face.landmarks.quad(), face) for face in self._detector.find(photo.upright)]
        if not faces:
            raise UserError(f"{name}: no face found; name its quads with --quads, or leave it out")
        return faces[: self._most]


def _entries(text: str) -> Iterator[tuple[str, list[Any]]]:
    """(photo, faces) of either form; lines of photos that failed have no faces."""
    try:
        whole = json.loads(text)
        lines = [whole]
    except json.JSONDecodeError:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("it is empty")
    if len(lines) == 1 and "input" not in lines[0]:
        yield from lines[0].items()
    else:
        yield from ((line["input"], line["faces"]) for line in lines if "error" not in line)


def parse(face: dict[str, Any]) -> Found:
    """A face out of JSON; ValueError and the like, or UserError, for what is none."""
    known = None
    if "eyes" in face:
        eyes, mouth = (_points(face[name], 2, name) for name in ("eyes", "mouth"))
        known = Face(Landmarks(eyes, mouth))
    quad = _points(face["quad"], 4, "quad") if known is None or "quad" in face else known.landmarks.quad()
    return Found(Alignment(quad, 1).quad, known)


def _points(value: Any, count: int, name: str) -> np.ndarray:
    points = np.asarray(value, np.float64)
    if points.shape != (count, 2):
        raise ValueError(f"{name!r} must be {count} points")
    return points
