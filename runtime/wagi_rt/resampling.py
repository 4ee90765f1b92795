"""Three ways to make images smaller by a whole factor, in numpy. The authority is `wagi.model.resize`."""

import numpy as np


def area_resize(images: np.ndarray, size: int) -> np.ndarray:  # [N, C, H, H] => [N, C, size, size]
    """Mean over square blocks, as wagi.model does it; H must be `size` times a power of two."""
    while images.shape[-1] > size:
        top = images[..., 0::2, 0::2] + images[..., 0::2, 1::2]
        bottom = images[..., 1::2, 0::2] + images[..., 1::2, 1::2]
        images = (top + bottom) * images.dtype.type(0.25)
    assert images.shape[-1] == images.shape[-2] == size
    return images


def middles(images: np.ndarray, size: int) -> np.ndarray:  # [N, C, H, H] => [N, C, size, size]
    """Mean of the middle 2x2 pixels of every block: bilinear samples without antialiasing, as HFGI's."""
    factor = images.shape[-1] // size
    if factor > 2:
        near = np.arange(size) * factor + factor // 2
        picked = np.stack([near - 1, near], axis=1).ravel()
        images = images[..., picked[:, None], picked]
    return area_resize(images, size)


def antialiased(images: np.ndarray, size: int) -> np.ndarray:  # [..., H, H] => [..., size, size]
    """As Pillow's bilinear filter reduces them, without its rounding to 8 bit."""
    if images.shape[-1] == size:
        return images
    weights = triangles(images.shape[-1], size).astype(images.dtype)
    return weights @ images @ weights.T


def triangles(large: int, small: int) -> np.ndarray:  # => [small, large]
    """The shares of `large` pixels in a line in each of `small` ones; every row sums to 1."""
    factor = large // small
    centres = (np.arange(small) + 0.5) * factor
    distances = np.abs(np.arange(large) + 0.5 - centres[:, None]) / factor
    weights = np.maximum(0, 1 - distances)
    return weights / weights.sum(1, keepdims=True)
