"""The faces of a photo: BlazeFace finds them in any direction, FaceMesh gives their landmarks.

BlazeFace looks at the whole photo and, above 700 px, at tiles of half its size, each in the four right
angles; it alone is a tenth of the eye distance off. FaceMesh looks twice: at what BlazeFace found, then at
the face turned upright by its own eyes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from wagi_rt.faces import models
from wagi_rt.faces.alignment import Alignment, Landmarks, square

CONFIDENCE = 0.5  # of either model
SMALL = 40  # px between the eyes, below which a face is named small
_SIDE = 192  # of both models' input
_CELLS = 48  # BlazeFace has one candidate in each of 48 x 48 cells
_TILED = 700  # px of the longer side, above which there are tiles
_SAME = 0.3  # intersection over union from which on two boxes are one face
_ROI = 1.5  # the mesh's square, in sides of the face's box
# FaceMesh's points, numbered as published: the corners of the eyes, which lids do not move; of the mouth, on
# the lips' outer and inner line; the outline of the face; its left and right edges at the height of the eyes.
_EYES = ((33, 133), (362, 263))
_MOUTH = ((61, 78), (291, 308))
_OUTLINE = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
            148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
_EDGES = (234, 454)
_PROFILE = 45  # degrees by which a face is turned sideways and from which on it is named a profile
_CUT = 0.1  # of the outline's points outside of the photo, from which on a face is named cut off


class Face(NamedTuple):
    """One face of a photo."""

    landmarks: Landmarks
    score: float = 1.0  # FaceMesh's, 0 to 1
    yaw: float = 0.0  # degrees, turned sideways
    outside: float = 0.0  # the part of its outline that lies outside of the photo

    def notes(self) -> list[str]:
        """Notes for the user on how far this face's result can be trusted."""
        found = []
        if self.landmarks.eye_distance < SMALL:
            found.append(f"small, {self.landmarks.eye_distance:.0f} px between the eyes")
        if self.outside > _CUT:
            found.append("cut off by the photo's border")
        if abs(self.yaw) > _PROFILE:
            found.append(f"a profile, turned by about {abs(self.yaw):.0f} degrees")
        return found


class _Box(NamedTuple):
    """One face as BlazeFace reports it, in px of the photo."""

    score: float
    corners: np.ndarray  # [2, 2] least and greatest x, y
    eyes: np.ndarray  # [2, 2]


class Detector:
    """Both models, opened; `find(photo)`. Safe to use from several threads."""

    def __init__(self, threads: int | None = None) -> None:
        models.require()
        self._detector = models.open_model(models.DETECTOR, threads)
        self._mesh = models.open_model(models.MESH, threads)

    def find(self, photo: Image.Image) -> list[Face]:
        """The faces of an upright RGB photo, the largest first."""
        boxes: list[_Box] = []
        for tile in _tiles(*photo.size):
            boxes += self._look(photo, tile)
        faces: list[Face] = []
        for box in _distinct(boxes):
            face = self._refine(photo, box)
            if face is not None and not any(_is_same(face, other) for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: face.landmarks.eye_distance, reverse=True)

    def _look(self, photo: Image.Image, tile: Alignment) -> list[_Box]:
        """BlazeFace on one square of the photo, in its four right angles."""
        pixels = np.asarray(tile.cut(photo, mirror=False), np.float32).transpose(2, 0, 1) / 127.5 - 1
        turned = np.stack([np.rot90(pixels, k, axes=(1, 2)) for k in range(4)])
        found, scores = self._detector(np.ascontiguousarray(turned))
        boxes = []
        for k, (values, logits) in enumerate(zip(found, scores[..., 0], strict=True)):
            for cell in np.flatnonzero(logits > np.log(CONFIDENCE / (1 - CONFIDENCE))):
                centre = (np.array(divmod(int(cell), _CELLS))[::-1] + 0.5) * _SIDE / _CELLS
                middle, size = values[cell, :2] + centre, values[cell, 2:4]
                points = values[cell, 4:8].reshape(2, 2) + centre  # the eyes; then nose, mouth and ears
                corners = np.stack([middle - size / 2, middle + size / 2])
                here = _move(tile.matrix, _turn_back(np.concatenate([corners, points]), k))
                score = _sigmoid(logits[cell])
                boxes.append(_Box(score, np.stack([here[:2].min(0), here[:2].max(0)]), here[2:]))
        return boxes

    def _refine(self, photo: Image.Image, box: _Box) -> Face | None:
        """FaceMesh twice; None where it sees no face."""
        eyes, centre, side = box.eyes, box.corners.mean(0), float(np.ptp(box.corners, axis=0).max())
        for _ in range(2):
            if not _possible(eyes, centre, side, photo.size):
                return None
            roi = _upright(eyes, centre, side)
            picture = np.asarray(roi.cut(photo, mirror=False), np.float32).transpose(2, 0, 1)[None] / 255
            found, flag = self._mesh(np.ascontiguousarray(picture))
            score = _sigmoid(float(flag.ravel()[0]))
            if score < CONFIDENCE:
                return None
            mesh = found.reshape(-1, 3).astype(np.float64)
            points = _move(roi.matrix, mesh[:, :2])
            eyes, mouth = (points[np.array(pairs)].mean(1) for pairs in (_EYES, _MOUTH))
            centre, side = _extent(points, eyes)
        return Face(Landmarks(eyes, mouth), score, yaw(mesh), _outside(points, *photo.size))


def facts() -> dict[str, Any]:
    """The constants by which faces are found, as JSON, for the twin of this module in wagi_rt/page."""
    return {
        "confidence": CONFIDENCE, "small": SMALL, "side": _SIDE, "cells": _CELLS, "tiled": _TILED,
        "same": _SAME, "roi": _ROI, "eyes": _EYES, "mouth": _MOUTH, "outline": _OUTLINE, "edges": _EDGES,
        "profile": _PROFILE, "cut": _CUT,
    }  # fmt: skip


def yaw(mesh: np.ndarray) -> float:  # [468, 3]
    """Degrees by which a face is turned sideways: between its left and right edge, depth against width."""
    across, _, depth = mesh[_EDGES[1]] - mesh[_EDGES[0]]
    return float(np.degrees(np.arctan2(depth, across)))


def _outside(points: np.ndarray, width: int, height: int) -> float:
    """The part of the face's outline that lies outside of the photo."""
    outline = points[list(_OUTLINE)]
    return float(((outline < 0) | (outline > (width, height))).any(1).mean())


def _possible(eyes: np.ndarray, centre: np.ndarray, side: float, size: tuple[int, int]) -> bool:
    """A face that lies on the photo, has a size and two eyes; no comparison holds for what is no number."""
    return bool(np.hypot(*(eyes[1] - eyes[0])) > 0 and 2 < side < 4 * max(size)
                and (centre > 0).all() and (centre < size).all())  # fmt: skip


def _upright(eyes: np.ndarray, centre: np.ndarray, side: float) -> Alignment:
    """The mesh's square: its upper edge goes with the eyes."""
    along = eyes[1] - eyes[0]
    return Alignment(square(centre, along / np.hypot(*along) * side * _ROI / 2), _SIDE)


def _extent(points: np.ndarray, eyes: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and longer side of the box around the points that goes with the eyes."""
    right = (eyes[1] - eyes[0]) / max(np.hypot(*(eyes[1] - eyes[0])), 1e-9)
    axes = np.stack([right, [-right[1], right[0]]])
    along = points @ axes.T
    return (along.min(0) + along.max(0)) / 2 @ axes, float(np.ptp(along, axis=0).max())


def _tiles(width: int, height: int) -> list[Alignment]:
    """Squares that BlazeFace looks at: the whole photo; of a large one also nine overlapping halves."""
    longest = float(max(width, height))
    places = [(width / 2, height / 2, longest)]
    if longest > _TILED:
        places += [(width * x / 4, height * y / 4, longest / 2) for y in (1, 2, 3) for x in (1, 2, 3)]
    return [Alignment(square(np.array([x, y]), np.array([side / 2, 0])), _SIDE) for x, y, side in places]


def _turn_back(points: np.ndarray, k: int) -> np.ndarray:  # [..., 2] px of the model's input
    """From a square that np.rot90 has turned k times to the square itself."""
    for _ in range(k):
        points = np.stack([_SIDE - points[..., 1], points[..., 0]], -1)
    return points


def _move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] under a homogeneous matrix."""
    return np.asarray(points @ matrix[:2, :2].T + matrix[:2, 2])


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -80, 80))))


def _distinct(boxes: list[_Box]) -> list[_Box]:
    """The surest of the boxes that overlap."""
    kept: list[_Box] = []
    for box in sorted(boxes, key=lambda box: box.score, reverse=True):
        if all(_overlap(box.corners, other.corners) < _SAME for other in kept):
            kept.append(box)
    return kept


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [2, 2]."""
    shared = np.prod((np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])).clip(0))
    return float(shared / (np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared))


def _is_same(face: Face, other: Face) -> bool:
    """Two finds of one face: their middles are closer than half of an eye distance."""
    apart = face.landmarks.eyes.mean(0) - other.landmarks.eyes.mean(0)
    return float(np.hypot(*apart)) < 0.5 * max(face.landmarks.eye_distance, other.landmarks.eye_distance)
