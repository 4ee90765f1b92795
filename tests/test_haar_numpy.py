"""wagi_rt.haar, the definition of the transform, against PyWavelets."""

import numpy as np
import pytest
import pywt
from tolerances import TOL

from wagi_rt.haar import decompose, haar, inverse_haar

DTYPES = [np.float64, np.float32]


def images(dtype: type = np.float64, shape: tuple[int, ...] = (2, 3, 16, 24)) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_pywavelets_band_by_band(dtype):
    x = images(dtype)
    approximation, details = pywt.dwt2(x, "haar", axes=(2, 3))
    for band, (ours, theirs) in enumerate(
        zip(np.split(haar(x), 4, axis=1), (approximation, *details), strict=True)
    ):
        np.testing.assert_allclose(ours, theirs, **TOL[dtype], err_msg=f"band {band}")
    assert haar(x).dtype == dtype


def test_definition_on_one_block():
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    y = haar(np.array([[[[a, b], [c, d]]]]))
    expected = [(a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]
    np.testing.assert_array_equal(y.ravel(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_both_ways(dtype):
    x = images(dtype)
    np.testing.assert_allclose(inverse_haar(haar(x)), x, **TOL[dtype])
    y = images(dtype, (2, 12, 8, 4))
    np.testing.assert_allclose(haar(inverse_haar(y)), y, **TOL[dtype])
    assert inverse_haar(y).dtype == dtype


def test_energy_is_preserved():
    x = images()
    assert np.square(haar(x)).sum() == pytest.approx(np.square(x).sum(), rel=1e-12)


def test_band_means_sum_to_four_times_l2():
    """Decision 18: orthonormal filters give 4 L2 (16 and 1 would be the other normalisations)."""
    x = images()
    bands = np.split(haar(x), 4, axis=1)
    assert sum(np.square(band).mean() for band in bands) == pytest.approx(4 * np.square(x).mean(), rel=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_decomposition_equals_wavedec2(levels):
    x = images(shape=(2, 3, 32, 64))
    ours = decompose(x, levels)
    theirs = pywt.wavedec2(x, "haar", level=levels, axes=(2, 3))
    assert len(ours) == levels
    for ours_level, details in zip(ours, reversed(theirs[1:]), strict=True):
        np.testing.assert_allclose(ours_level[:, 3:], np.concatenate(details, axis=1), **TOL[np.float64])
    np.testing.assert_allclose(ours[-1][:, :3], theirs[0], **TOL[np.float64])


@pytest.mark.parametrize("shape", [(1, 1, 3, 4), (1, 1, 4, 3)])
def test_odd_sizes_are_an_error_that_says_so(shape):
    with pytest.raises(ValueError, match="must be even"):
        haar(np.zeros(shape))


def test_decomposition_that_reaches_an_odd_size_is_an_error():
    with pytest.raises(ValueError, match="must be even, got 3x3"):
        decompose(np.zeros((1, 1, 12, 12)), 3)


def test_wrong_ranks_and_channels_are_errors():
    with pytest.raises(ValueError, match="expected"):
        haar(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="multiple of 4"):
        inverse_haar(np.zeros((1, 3, 4, 4)))
