"""Faces are found in any direction and size, nothing else is; scikit-image's photos, installed models.

The astronaut's eyes and mouth corners are annotated by hand. What enters an alignment, the eyes and the
middle of the mouth, is within 4 % of the eye distance everywhere, and so is the mean error of all four.
"""

import functools

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.transform import SimilarityTransform

from wagi_rt.faces import detection, models
from wagi_rt.faces.alignment import Landmarks

TRUTH = Landmarks(np.array([[204.3, 102.3], [246.4, 104.6]]), np.array([[201.8, 139.2], [245.0, 141.0]]))
DISTANCE = TRUTH.eye_distance

needs_models = pytest.mark.skipif(
    not models.installed(), reason="the face models are not installed; run: wagi-rt faces install"
)


@functools.cache
def detector() -> detection.Detector:
    return detection.Detector(threads=1)


def astronaut() -> Image.Image:
    return Image.fromarray(data.astronaut())


def worst(face: detection.Face, expected: Landmarks) -> float:
    """The largest error of what enters an alignment, or the mean of all landmarks', in eye distances."""
    found = face.landmarks
    entering = [found.eyes - expected.eyes, (found.mouth - expected.mouth).mean(0, keepdims=True)]
    every = np.concatenate([found.eyes - expected.eyes, found.mouth - expected.mouth])
    errors = np.hypot(*np.concatenate(entering).T).max(), np.hypot(*every.T).mean()
    return max(errors) / expected.eye_distance


def moved(move) -> Landmarks:
    """The truth after a change of coordinates."""
    return Landmarks(move(TRUTH.eyes), move(TRUTH.mouth))


@needs_models
@pytest.mark.parametrize("angle", (0, 20, 45, 90, 180))
def test_a_turned_face_is_found(angle):
    photo = astronaut()
    turned = photo.rotate(-angle, Image.Resampling.BICUBIC, expand=True, fillcolor=(128, 128, 128))
    back = SimilarityTransform(translation=(-256, -256)) + SimilarityTransform(rotation=np.radians(angle))
    move = back + SimilarityTransform(translation=np.array(turned.size) / 2)
    (face,) = detector().find(turned)
    assert worst(face, moved(move)) < 0.04 and face.notes() == []


@needs_models
@pytest.mark.parametrize("size", (100, 2000))
def test_small_and_large_photos(size):
    (face,) = detector().find(astronaut().resize((size, size), Image.Resampling.LANCZOS))
    assert worst(face, moved(lambda at: at * size / 512)) < 0.04
    assert face.notes() == (["small, 8 px between the eyes"] if size == 100 else [])


@needs_models
def test_two_faces_the_largest_first():
    small = astronaut().resize((400, 400), Image.Resampling.LANCZOS)
    photo = Image.new("RGB", (912, 512), "grey")
    photo.paste(small, (0, 50))
    photo.paste(astronaut(), (400, 0))
    first, second = detector().find(photo)
    assert worst(first, moved(lambda at: at + [400, 0])) < 0.04
    assert worst(second, moved(lambda at: at * 400 / 512 + [0, 50])) < 0.04


@needs_models
@pytest.mark.parametrize("name", ("chelsea", "coffee", "brick", "coins"))
def test_what_is_no_face_is_not_found(name):
    """A cat, a cup, bricks and coins."""
    assert detector().find(Image.fromarray(getattr(data, name)()).convert("RGB")) == []


@needs_models
def test_a_face_that_is_cut_off_says_so():
    (face,) = detector().find(astronaut().crop((205, 0, 512, 512)))
    assert face.notes() == ["cut off by the photo's border"]


@needs_models
def test_a_profile_says_so():
    """The cameraman looks to the side."""
    (face,) = detector().find(Image.fromarray(data.camera()).convert("RGB"))
    assert [note.partition(",")[0] for note in face.notes()] == ["small", "a profile"]


@needs_models
def test_openvino_finds_the_same(monkeypatch):
    from wagi_rt.engines import ort

    (expected,) = detector().find(astronaut())
    monkeypatch.setattr(ort.OrtEngine, "available", lambda: (False, "not here"))
    (found,) = detection.Detector(threads=1).find(astronaut())
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=0.05)


def test_yaw_is_the_angle_of_the_mesh():
    """A flat mesh that is turned about its vertical axis; independent of the models."""
    mesh = np.zeros((468, 3))
    mesh[:, :2] = np.random.default_rng(0).uniform(-50, 50, (468, 2))
    mesh[234], mesh[454] = (-60, 0, 0), (60, 0, 0)
    for angle in (-60, 0, 25):
        t = np.radians(angle)
        turn = np.array([[np.cos(t), 0, -np.sin(t)], [0, 1, 0], [np.sin(t), 0, np.cos(t)]])
        assert detection.yaw(mesh @ turn.T) == pytest.approx(angle)


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({}, None),
        ({"landmarks": Landmarks(TRUTH.eyes * 0.9, TRUTH.mouth)}, "small, 38 px"),
        ({"outside": 0.2}, "cut off"),
        ({"yaw": -50.0}, "a profile, turned by about 50"),
    ],
)
def test_notes(values, start):
    notes = detection.Face(**({"landmarks": TRUTH} | values)).notes()
    assert (notes == []) if start is None else (len(notes) == 1 and notes[0].startswith(start))


@pytest.mark.parametrize("size", ((512, 400), (3000, 1000), (900, 701)))
def test_tiles_cover_the_photo(size):
    """Every point of the photo lies in one tile, and above 700 px also in one of half the size."""
    tiles = detection._tiles(*size)
    spots = np.random.default_rng(1).uniform((0, 0), size, (200, 2))
    for some in [tiles[:1]] if max(size) <= 700 else [tiles[:1], tiles[1:]]:
        inside = [((spots >= tile.quad.min(0)) & (spots <= tile.quad.max(0))).all(1) for tile in some]
        assert np.any(inside, axis=0).all()
    assert len(tiles) == (1 if max(size) <= 700 else 10)
