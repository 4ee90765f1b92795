"""A face is cut out as FFHQ does it and comes back to its place; judged by scikit-image."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.transform import AffineTransform, SimilarityTransform, warp

from wagi_rt.errors import UserError
from wagi_rt.faces.alignment import Alignment, Landmarks, weights

ASTRONAUT = Landmarks(
    np.array([[204.3, 102.3], [246.4, 104.6]]), np.array([[201.8, 139.2], [245.0, 141.0]])
)  # eyes and mouth corners on scikit-image's astronaut, from its published annotation


def smooth(height: int, width: int, blur: float = 12, seed: int = 0) -> Image.Image:
    """A picture without detail finer than `blur` px, so that every good resampling gives the same."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    field = gaussian_filter(noise, (blur, blur, 0), mode="reflect")
    return Image.fromarray(np.rint(128 + field / np.abs(field).max() * 120).astype(np.uint8))


def turned(landmarks: Landmarks, angle: float, scale: float, shift: tuple[float, float]) -> Landmarks:
    move = SimilarityTransform(scale=scale, rotation=np.radians(angle), translation=shift)
    return Landmarks(move(landmarks.eyes), move(landmarks.mouth))


def quad(centre: tuple[float, float], side: float, angle: float) -> np.ndarray:
    """A square about `centre`, its right edge pointing `angle` degrees downwards."""
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]]) * side
    return SimilarityTransform(rotation=np.radians(angle), translation=centre)(corners)


def test_the_quad_is_ffhqs():
    """Numbers of FFHQ's own formula on these landmarks."""
    found = Alignment(ASTRONAUT.quad(), 64)
    assert found.side == pytest.approx(168.7, abs=0.1)
    np.testing.assert_allclose(found.quad.mean(0), [225.2, 107.1], atol=0.1)
    right = found.quad[3] - found.quad[0]
    assert np.degrees(np.arctan2(right[1], right[0])) == pytest.approx(3.0, abs=0.5)


@pytest.mark.parametrize("angle", (-170, -40, 0, 25, 90))
def test_a_quad_goes_with_its_face(angle):
    """A turned, scaled and moved face has the turned, scaled and moved quad."""
    move = SimilarityTransform(scale=1.7, rotation=np.radians(angle), translation=(31, -7))
    expected = move(ASTRONAUT.quad())
    np.testing.assert_allclose(turned(ASTRONAUT, angle, 1.7, (31, -7)).quad(), expected, atol=1e-9)


@pytest.mark.parametrize("angle", (0, 25, -40, 130))
@pytest.mark.parametrize("side", (40, 100, 333))
def test_matrices_map_corners_and_back(angle, side):
    alignment = Alignment(quad((150, 120), side, angle), 64)
    square = np.array([[0, 0], [0, 64], [64, 64], [64, 0]], float)
    expected = AffineTransform.from_estimate(square, alignment.quad)
    np.testing.assert_allclose(alignment.matrix, expected.params, atol=1e-6)
    np.testing.assert_allclose(alignment.matrix @ alignment.inverse, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("angle", (0, 25, -40, 130))
@pytest.mark.parametrize("side", (40, 64, 100, 333))
def test_a_square_is_what_scikit_image_cuts(angle, side):
    """Up- and downscaling: skimage samples the same smooth picture at the same places."""
    photo = smooth(500, 600, max(8, side / 8))
    alignment = Alignment(quad((310.3, 240.7), side, angle), 64)
    centres = np.eye(3)
    centres[:2, 2] = 0.5  # skimage counts from pixel centres
    matrix = np.linalg.inv(centres) @ alignment.matrix @ centres
    expected = warp(np.asarray(photo, float), matrix, output_shape=(64, 64), order=3, mode="reflect")
    error = np.abs(np.asarray(alignment.cut(photo), float) - expected)
    assert error.max() < 2 and error.mean() < 0.4, (error.max(), error.mean())


def test_detail_that_a_square_cannot_hold_is_averaged():
    """A chequerboard of single pixels, at a third and at a ninth of its size: grey, no moire."""
    board = np.indices((600, 600)).sum(0) % 2 * 255
    photo = Image.fromarray(np.repeat(board[..., None], 3, 2).astype(np.uint8))
    for side in (192, 580):
        square = np.asarray(Alignment(quad((300, 300), side, 30 if side < 500 else 0), 64).cut(photo), float)
        assert np.abs(square - 127.5).max() < 16, side


def test_outside_of_the_photo_is_its_blurred_mirror_image():
    """FFHQ's border: near the edge a mirror image, far outside blurred and towards the median."""
    photo = smooth(300, 300, 10)
    alignment = Alignment(quad((40, 150), 200, 0), 100)  # 60 px of 200 are left of the photo
    square = np.asarray(alignment.cut(photo), float)
    inner = warp(
        np.asarray(photo, float), AffineTransform(scale=2, translation=(-59.5, 50.5)),
        output_shape=(100, 100), order=3, mode="symmetric",
    )  # fmt: skip
    assert np.abs(square[:, 45:] - inner[:, 45:]).max() < 6  # well inside nothing is changed
    near, far = (np.abs(square[10:90, a:b] - inner[10:90, a:b]).mean() for a, b in ((22, 30), (0, 8)))
    assert near < 6 < far
    assert square[:, :4].std() < 0.5 * inner[:, :4].std()
    outside = Alignment(quad((-500, 150), 200, 0), 100)
    with pytest.raises(UserError, match="outside of the photo"):
        outside.cut(photo)


@pytest.mark.parametrize("side", (40, 64, 100, 333))
def test_what_is_put_back_lies_where_it_was_cut(side):
    """Cut and put: the photo again where the square was, at all scales, whatever the values' range."""
    photo = smooth(500, 600, max(8, side / 8))
    alignment = Alignment(quad((310.3, 240.7), side, 25), 64)
    box = alignment.box(*photo.size)
    back = alignment.put(np.asarray(alignment.cut(photo), np.float32) * -3, box) / -3
    at = alignment.place(box)
    inside = (np.minimum(at, 1 - at).min(-1) > 0.06)[..., None]
    original = np.asarray(photo.crop(box), float)
    assert np.abs((back - original) * inside).max() < 5
    assert (np.abs(back - original) * inside).sum() / inside.sum() / 3 < 0.8


def test_weights_end_at_the_borders_and_share_what_overlaps():
    alone = Alignment(quad((100, 100), 80, 20), 64)
    ((box, mask),) = weights([alone], 300, 200)
    at = alone.place(box)
    outside = (at < 0).any(-1) | (at > 1).any(-1)
    assert outside.any() and not mask[outside].any()
    assert (mask[(np.abs(at - 0.5) < 0.39).all(-1)] == 1).all() and 0 < np.median(mask[~outside]) <= 1

    neighbour = Alignment(quad((150, 100), 80, -30), 64)
    total = np.zeros((200, 300))
    shares = []
    for (left, top, right, bottom), mask in weights([alone, neighbour], 300, 200):
        total[top:bottom, left:right] += mask
        shares.append(np.zeros((200, 300)))
        shares[-1][top:bottom, left:right] = mask
    assert total.max() <= 1 + 1e-6
    assert shares[0][100, 100] == 1 and shares[1][100, 150] == 1  # each centre is its own face's
    assert shares[0][100, 150] == 0 and shares[1][100, 100] == 0


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ([[0, 0], [0, 9], [9, 9]], "four corners"),
        ([[0, 0], [0, 9], [9, 9], [9, float("nan")]], "four corners"),
        ([[0, 0], [9, 0], [9, 9], [0, 9]], "upper left, lower left"),
        ([[0, 0], [0, 9], [14, 9], [9, 0]], "square or parallelogram"),
        ([[3, 3]] * 4, "upper left, lower left"),
    ],
)
def test_what_is_no_quad_is_refused(corners, reason):
    with pytest.raises(UserError, match=reason):
        Alignment(corners, 64)


def test_landmarks_in_one_place_are_refused():
    with pytest.raises(UserError, match="one place"):
        Landmarks(np.ones((2, 2)), np.ones((2, 2))).quad()
