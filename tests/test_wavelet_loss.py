"""L_wave of eq. (6) and Theorem 1 with its exact constants, against loops and PyWavelets."""

import numpy as np
import pytest
import pywt
import torch
from scipy.signal import correlate2d
from tolerances import TOL

from wagi.losses import alignment_loss, l2_loss, wavelet_band_losses, wavelet_loss
from wagi.metrics import METRICS


def pair(*shape, dtype=torch.float64, seed=0):
    values = torch.rand((2, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * values - 1).to(dtype).unbind(0)


def eq_1_bands(image, factor):
    """The paper's four +-1 filters times `factor`, applied with stride 2 by scipy to one [H, W] image."""
    low, high = np.array([[1.0, 1.0]]), np.array([[-1.0, 1.0]])
    filters = [low.T @ low, low.T @ high, high.T @ low, high.T @ high]
    return [correlate2d(image, factor * f, mode="valid")[::2, ::2] for f in filters]


def loop_wavelet_loss(x, y, k, power):
    """Eq. (6) pixel by pixel: levels i = 0..K, bands LH, HL, HH, mean over images, colours and places."""
    total = 0.0
    images, colours = x.shape[:2]
    for n in range(images):
        for c in range(colours):
            error = [[x[n, c, i, j] - y[n, c, i, j] for j in range(x.shape[3])] for i in range(x.shape[2])]
            for _ in range(k + 1):
                rows, columns = len(error) // 2, len(error[0]) // 2
                low = [[0.0] * columns for _ in range(rows)]
                summed = 0.0
                for i in range(rows):
                    for j in range(columns):
                        p, q = error[2 * i][2 * j], error[2 * i][2 * j + 1]
                        r, s = error[2 * i + 1][2 * j], error[2 * i + 1][2 * j + 1]
                        low[i][j] = (p + q + r + s) / 2
                        for detail in ((p + q - r - s) / 2, (p - q + r - s) / 2, (p - q - r + s) / 2):
                            summed += abs(detail) ** power
                total += summed / (rows * columns)
                error = low
    return total / (images * colours)


@pytest.mark.parametrize("norm, power", [("l2", 2), ("l1", 1)])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_equals_loops(k, norm, power):
    x, y = pair(2, 3, 16, 24)
    expected = loop_wavelet_loss(x.numpy(), y.numpy(), k, power)
    assert wavelet_loss(x, y, k, norm).item() == pytest.approx(expected, rel=1e-12)


def test_k_two_is_three_levels_of_pywavelets():
    x, y = pair(1, 3, 32, 32)
    _, *levels = pywt.wavedec2((x - y).numpy(), "haar", level=3)
    expected = sum(np.mean(band**2) for level in levels for band in level)
    assert wavelet_loss(x, y).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factor, mean_ratio, sum_ratio", [(1.0, 16, 4), (0.5, 4, 1), (0.25, 1, 0.25)])
def test_theorem_1_constants(factor, mean_ratio, sum_ratio):
    """sum_f L2,f = constant * L2 for +-1, orthonormal and averaging filters, by means and by sums."""
    x, y = (image[0, 0].numpy() for image in pair(1, 1, 16, 24))
    bands = [a - b for a, b in zip(eq_1_bands(x, factor), eq_1_bands(y, factor), strict=True)]
    assert sum(np.mean(b**2) for b in bands) == pytest.approx(mean_ratio * np.mean((x - y) ** 2), rel=1e-12)
    assert sum(np.sum(b**2) for b in bands) == pytest.approx(sum_ratio * np.sum((x - y) ** 2), rel=1e-12)


def test_theorem_1_holds_for_our_bands():
    x, y = pair(2, 3, 16, 16)
    bands = wavelet_band_losses(x, y, k=2)
    assert bands[:, 0].sum(1).mean().item() == pytest.approx(4 * l2_loss(x, y).item(), rel=1e-12)
    # Each LL is split by the next level with the same constant.
    for level in (0, 1):
        np.testing.assert_allclose(bands[:, level + 1].sum(1), 4 * bands[:, level, 0], **TOL[np.float64])


def test_our_bands_are_those_of_eq_1_halved():
    x, y = pair(1, 1, 8, 8)
    expected = [np.mean(band**2) for band in eq_1_bands((x - y)[0, 0].numpy(), 0.5)]
    ll, lh, hl, hh = wavelet_band_losses(x, y, k=0)[0, 0].tolist()
    # The paper's f_LH is high across columns: our HL (left minus right); the loss sums both.
    np.testing.assert_allclose([ll, hl, lh, hh], expected, **TOL[np.float64])


def test_band_losses_find_the_frequency():
    zero = torch.zeros(1, 1, 16, 16)
    rows = torch.tensor([1.0, -1.0]).repeat(8).view(1, 1, 16, 1).expand(1, 1, 16, 16)
    cases = {0: torch.ones_like(zero), 1: rows, 2: rows.transpose(2, 3), 3: rows * rows.transpose(2, 3)}
    for band, image in cases.items():
        assert wavelet_band_losses(image, zero, k=0)[0, 0].tolist() == [4.0 * (band == b) for b in range(4)]
    coarse = rows.repeat_interleave(4, 2)[:, :, :16]
    detail = wavelet_band_losses(coarse, zero, k=2)[0, :, 1:].sum(1)
    assert detail.argmax().item() == 2 and detail[:2].sum().item() == 0


def test_white_noise_has_the_expected_size():
    """Every orthonormal coefficient of noise has its variance: nine bands, L_wave = 9 L2 for K = 2."""
    x = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(x)
    assert (wavelet_loss(x, zero) / l2_loss(x, zero)).item() == pytest.approx(9, rel=0.02)


def test_equal_images_and_symmetry():
    x, y = pair(2, 3, 8, 8)
    assert wavelet_loss(x, x).item() == 0
    assert wavelet_loss(x, y).item() == wavelet_loss(y, x).item() > 0


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradient(norm):
    x, y = pair(1, 2, 8, 8)
    assert torch.autograd.gradcheck(lambda v: wavelet_loss(v, y, norm=norm), x.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_low_precision_images(dtype):
    x, y = pair(2, 3, 32, 32)
    expected = wavelet_loss(x, y).item()
    result = wavelet_loss(x.to(dtype), y.to(dtype))
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(expected, rel=TOL[dtype]["rtol"], abs=TOL[dtype]["atol"])
    flat = torch.full((1, 3, 256, 256), 1.9, dtype=dtype)  # its sum of squares is past float16's range
    assert wavelet_band_losses(flat, torch.zeros_like(flat))[0, :, 0].tolist() == pytest.approx(
        [flat[0, 0, 0, 0].item() ** 2 * 4**level for level in (1, 2, 3)], rel=1e-5
    )


def test_wrong_input_is_named():
    x = torch.zeros(1, 3, 12, 16)
    with pytest.raises(ValueError, match="divisible by 8, got 12x16"):
        wavelet_loss(x, x)
    with pytest.raises(ValueError, match="l1, l2, got 'l3'"):
        wavelet_loss(x, x, norm="l3")
    with pytest.raises(ValueError, match="differ in shape"):
        wavelet_loss(x, x[:, :1])


def test_alignment_loss():
    x, y = pair(2, 3, 16, 16)
    l1 = np.abs((x - y).numpy()).mean()
    wave = loop_wavelet_loss(x.numpy(), y.numpy(), 2, 2)
    assert alignment_loss(x, y).item() == pytest.approx(l1 + 0.1 * wave, rel=1e-12)
    assert alignment_loss(x, y, lambda_wave=0).item() == pytest.approx(l1, rel=1e-12)


def test_metric_is_the_loss_per_image():
    x, y = pair(3, 3, 16, 16, dtype=torch.float32)
    values = METRICS["l_wave"](x, y)
    for n in range(3):
        single = wavelet_loss(x[n : n + 1], y[n : n + 1])
        torch.testing.assert_close(values[n], single, **TOL[torch.float32])
