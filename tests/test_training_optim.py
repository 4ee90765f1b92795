"""Ranger against a scalar reference written from its published formulas; weight averages; loss helpers."""

import math

import numpy as np
import pytest
import pywt
import torch

from wagi.training.averages import Averages
from wagi.training.images import RegionWeights, wavelet_l1, weighted_mean
from wagi.training.optim import Ranger


def reference(start, gradients, lr, beta1=0.95, beta2=0.999, eps=1e-5, k=6, alpha=0.5):
    """Ranger 20.4.11 in plain numpy: centralise, RAdam, every k steps move half-way from the slow weights."""
    p, m, v, slow = start.copy(), 0.0, 0.0, start.copy()
    n_max = 2 / (1 - beta2) - 1
    for t, g in enumerate(gradients, 1):
        if g.ndim > 1:
            g = g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        n = n_max - 2 * t * beta2**t / (1 - beta2**t)
        if n > 5:
            factor = (n - 4) * (n - 2) * n_max / ((n_max - 4) * (n_max - 2) * n)
            r = math.sqrt((1 - beta2**t) * factor) / (1 - beta1**t)
            p = p - lr * r * m / (np.sqrt(v) + eps)
        else:
            p = p - lr / (1 - beta1**t) * m
        if t % k == 0:
            slow = slow + alpha * (p - slow)
            p = slow.copy()
    return p


@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 2, 3, 3)])
def test_ranger(shape):
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(shape), rng.standard_normal((20, *shape))
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = Ranger([parameter], lr=0.1)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    expected = reference(start, gradients, 0.1)
    assert np.abs(expected - start).max() > 0.1
    np.testing.assert_allclose(parameter.detach().numpy(), expected, atol=1e-12)


def test_averages_follow_parameters_and_statistics():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    averages = Averages({"m": model}, ("m",))
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
            model(torch.randn(8, 3))
        averages.update(step, images=4, half_life=20)
        decay = min(0.5 ** (4 / 20), (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            kept = (
                decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
            )
            expected[name] = kept
    for name, value in averages.models["m"].state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not averages.models["m"].training


def test_region_weights():
    mask = torch.randint(0, 9, (2, 8, 8), dtype=torch.uint8)
    table = tuple(float(i + 1) for i in range(9))
    weights = RegionWeights(table)(mask)
    raw = np.array(table)[mask.numpy()]
    np.testing.assert_allclose(weights[:, 0].numpy(), raw / raw.mean(), rtol=1e-6)
    assert RegionWeights(())(mask) is None and RegionWeights(table)(None) is None


def test_weighted_mean():
    errors, weights = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 8, 8)
    small = weights.numpy().reshape(2, 1, 4, 2, 4, 2).mean((3, 5))
    expected = (errors.numpy() * small).mean()
    assert float(weighted_mean(errors, weights)) == pytest.approx(expected, rel=1e-5)
    assert float(weighted_mean(errors, None)) == pytest.approx(float(errors.mean()))


def test_wavelet_l1_equals_pywavelets():
    x, y = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    coefficients = pywt.wavedec2((x - y).numpy(), "haar", level=3, axes=(2, 3))
    expected = sum(np.mean([np.abs(band).mean() for band in level]) for level in coefficients[1:])
    assert float(wavelet_l1(x, y, None)) == pytest.approx(expected, rel=1e-5)
