"""The runtime's metrics against scikit-image and PyWavelets."""

import numpy as np
import pytest
import pywt
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from wagi_rt.metrics import l2, l_wave, measure, psnr, psnr_of_all, ssim


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Two pairs of images [2, 3, 48, 64] of different closeness."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 3, 48, 64)).astype(np.float32)
    noise = rng.normal(0, 1, x.shape) * np.array([0.05, 0.5]).reshape(2, 1, 1, 1)
    return x, (x + noise).clip(-1, 1).astype(np.float32)


def test_l2_and_psnr_equal_scikit_image(pair):
    x, y = pair
    for i in range(2):
        assert l2(x, y)[i] == pytest.approx(mean_squared_error(x[i], y[i]), rel=1e-6)
        assert psnr(x, y)[i] == pytest.approx(peak_signal_noise_ratio(x[i], y[i], data_range=2), rel=1e-6)


def test_psnr_of_equal_images_is_infinite(pair):
    assert np.isinf(psnr(pair[0], pair[0])).all() and psnr_of_all(pair[0], pair[0]) == float("inf")


def test_psnr_of_whole_tensors_equals_scikit_image(pair):
    for peak in (2.0, 0.3):
        expected = peak_signal_noise_ratio(*pair, data_range=peak)
        assert psnr_of_all(*pair, peak) == pytest.approx(expected, rel=1e-6)
    assert np.isnan(psnr_of_all(pair[0] * np.float32("nan"), pair[1]))


def test_ssim_equals_scikit_image(pair):
    x, y = pair
    for i in range(2):
        expected = structural_similarity(
            x[i].astype(np.float64), y[i].astype(np.float64), channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2,
        )  # fmt: skip
        assert ssim(x, y)[i] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(ssim(x, x), 1)


def test_ssim_of_images_below_the_window_is_an_error():
    with pytest.raises(ValueError, match="at least 11 px"):
        ssim(np.zeros((1, 3, 10, 16)), np.zeros((1, 3, 10, 16)))


def test_l_wave_equals_a_loop_over_pywavelets_bands(pair):
    x, y = pair
    for i in range(2):
        difference, total = (x[i] - y[i]).astype(np.float64), 0.0
        for _ in range(3):
            difference, bands = pywt.dwt2(difference, "haar", axes=(1, 2))
            total += sum(np.mean(band**2) for band in bands)
        assert l_wave(x, y)[i] == pytest.approx(total, rel=1e-6)


def test_measure_gives_every_metric_of_every_pair(pair):
    rows = measure(*pair)
    assert [set(row) for row in rows] == [{"l2", "psnr", "ssim", "l_wave"}] * 2
    assert rows[0]["l2"] < rows[1]["l2"] and rows[0]["ssim"] > rows[1]["ssim"]
