"""The training warp against Pillow and RandomPerspective's limits; random colours against numpy."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tolerances import TOL
from wagi.training.warp import (
    homography,
    perspective,
    random_colours,
    random_corners,
    random_perspective,
    recolour,
)

SIZE = 48


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(n: int, size: int = SIZE) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    return torch.stack([torch.stack([torch.sin(4 * x + k), x * y, torch.cos(5 * y - k)]) for k in range(n)])


def test_homography_takes_moved_corners_to_the_corners():
    corners = random_corners(16, SIZE, SIZE, 0.3, generator())
    m = homography(corners, SIZE, SIZE)
    ones = torch.ones(16, 4, 1, dtype=torch.float64)
    mapped = torch.cat([corners, ones], dim=2) @ m.transpose(1, 2)
    mapped = mapped[..., :2] / mapped[..., 2:]
    last = SIZE - 1
    expected = torch.tensor([[0, 0], [last, 0], [last, last], [0, last]], dtype=torch.float64).expand(
        16, 4, 2
    )
    torch.testing.assert_close(mapped, expected, atol=1e-8, rtol=0)


def test_equals_pillow_perspective():
    """Pillow's PERSPECTIVE transform is the authority; its border rule differs, so the inside counts."""
    images = smooth(6)
    corners = random_corners(6, SIZE, SIZE, 0.3, generator(1))
    warped = perspective(images, corners)
    coefficients = homography(corners, SIZE, SIZE).reshape(6, 9)[:, :8].tolist()
    inside = 0
    for i in range(6):
        for c in range(3):
            source = Image.fromarray(images[i, c].numpy(), mode="F")
            expected = np.array(
                source.transform(
                    (SIZE, SIZE), Image.Transform.PERSPECTIVE, coefficients[i], Image.Resampling.BILINEAR
                )
            )
            valid = perspective(torch.ones(1, 1, SIZE, SIZE), corners[i : i + 1])[0, 0].numpy() > 0.999
            inside += valid.sum()
            np.testing.assert_allclose(warped[i, c].numpy()[valid], expected[valid], atol=2e-4)
    assert inside > 6 * 3 * SIZE * SIZE * 0.5


def test_corner_limits_and_distribution():
    """Whole pixels inwards, 0..int(d * R/2) inclusive, every value about equally often."""
    corners = random_corners(4000, 256, 256, 0.15, generator())
    last = 255.0
    base = torch.tensor([[0, 0], [last, 0], [last, last], [0, last]], dtype=torch.float64)
    sign = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    inwards = (corners - base) * sign
    counts = torch.bincount(inwards.long().flatten(), minlength=20)
    assert torch.equal(inwards, inwards.round())
    assert len(counts) == 20 and counts.min() > 0.9 * 32000 / 20 and counts.max() < 1.1 * 32000 / 20


def test_probability_zero_and_outside_is_zero():
    images = smooth(4) + 3
    assert torch.equal(random_perspective(images, 0.5, 0.0, generator()), images)
    warped = random_perspective(images, 0.5, 1.0, generator())
    assert (warped == 0).any() and not torch.equal(warped, images)


def test_no_displacement_is_the_identity():
    images = smooth(3)
    corners = random_corners(3, SIZE, SIZE, 0.0, generator())
    torch.testing.assert_close(perspective(images, corners), images, **TOL[torch.float32])


@pytest.mark.parametrize("per_sample", [True, False])
def test_one_warp_per_image_or_per_batch(per_sample):
    images = smooth(1).expand(5, -1, -1, -1)
    warped = random_perspective(images, 0.4, 1.0, generator(3), per_sample)
    equal = [torch.equal(warped[0], w) for w in warped[1:]]
    assert (not any(equal)) if per_sample else all(equal)


def test_share_of_warped_images():
    images = smooth(1, 16).expand(1000, -1, -1, -1)
    warped = random_perspective(images, 0.9, 0.9, generator(4))
    share = (warped != images).flatten(1).any(1).float().mean()
    assert 0.87 < share < 0.93


def test_depends_on_the_generator_only():
    images = smooth(4)
    first = random_perspective(images, 0.3, 0.9, generator(5))
    torch.rand(7)
    assert torch.equal(first, random_perspective(images, 0.3, 0.9, generator(5)))
    assert not torch.equal(first, random_perspective(images, 0.3, 0.9, generator(6)))


# ------------------------------------------------------------------------------------------------ colours


def test_colours_are_affine_maps_of_rgb():
    images, colours = smooth(3), random_colours(3, 1.0, generator(7))
    pixels = images.permute(0, 2, 3, 1).numpy()
    expected = [p @ c[:, :3].T + c[:, 3] for p, c in zip(pixels, colours.numpy(), strict=True)]
    found = recolour(images, colours).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, np.clip(expected, -1, 1), **TOL[np.float32])
    assert not torch.equal(colours[0], colours[1])


def test_share_of_recoloured_images():
    identity = torch.eye(3, 4)
    assert torch.equal(random_colours(4, 0.0, generator()), identity.expand(4, 3, 4))
    drawn = random_colours(2000, 0.3, generator(8))
    assert 0.26 < (drawn != identity).flatten(1).any(1).float().mean() < 0.34
