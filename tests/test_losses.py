"""Adversarial, regularising and spectral losses against finite differences and closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from wagi.losses import (
    delta_loss,
    discriminator_loss,
    generator_loss,
    l2_loss,
    path_length_penalty,
    r1_penalty,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_l2_loss():
    x, y = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    assert l2_loss(x, y).item() == pytest.approx(((x - y).numpy() ** 2).mean(), rel=1e-12)
    assert l2_loss(x.half(), y.half()).dtype == torch.float32
    with pytest.raises(ValueError, match="differ in shape"):
        l2_loss(x, y[:1])


def test_logistic_losses():
    real, fake = np.array([[2.0], [-1.0]]), np.array([[0.5], [-3.0]])

    def log_sigmoid(v):
        return np.log(1 / (1 + np.exp(-v)))

    expected = -log_sigmoid(real).mean() - log_sigmoid(-fake).mean()
    result = discriminator_loss(torch.tensor(real), torch.tensor(fake))
    assert result.item() == pytest.approx(expected, rel=1e-10)
    assert generator_loss(torch.tensor(fake)).item() == pytest.approx(-log_sigmoid(fake).mean(), rel=1e-10)
    # Non-saturating: a generator that is surely found out still gets a full gradient.
    logits = torch.tensor([-50.0], requires_grad=True)
    generator_loss(logits).backward()
    assert logits.grad.item() == pytest.approx(-1)


@pytest.fixture
def critic():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(16, 1))
    return net.double()


def difference_quotient_r1(critic, images, gamma, interval, step=1e-5):
    total = 0.0
    with torch.no_grad():
        for index in range(images.numel()):
            shift = torch.zeros(images.numel(), dtype=images.dtype)
            shift[index] = step
            shift = shift.view_as(images)
            slope = (critic(images + shift).sum() - critic(images - shift).sum()) / (2 * step)
            total += slope.item() ** 2
    return interval * gamma / 2 * total / images.shape[0]


def test_r1_equals_finite_differences(critic):
    images = normal(2, 3, 4, 4).requires_grad_()
    expected = difference_quotient_r1(critic, images.detach(), 10, 16)
    penalty = r1_penalty(critic(images), images)
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    plain = r1_penalty(critic(images), images, gamma=1, interval=1)
    assert plain.item() == pytest.approx(expected / 160, rel=1e-5)


def test_r1_trains_the_critic(critic):
    """The penalty's own gradient to a weight, against a difference quotient of the penalty."""
    images = normal(2, 3, 4, 4).requires_grad_()
    weight = critic[0].weight
    (gradient,) = torch.autograd.grad(r1_penalty(critic(images), images), weight)
    step, values = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0, 0, 0] += sign * step
        values.append(r1_penalty(critic(images), images).item())
        with torch.no_grad():
            weight[0, 0, 0, 0] -= sign * step
    assert gradient[0, 0, 0, 0].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


def test_r1_of_latents():
    w = normal(5, 8).requires_grad_()
    slope = normal(8, 1, seed=1)
    assert r1_penalty(w @ slope, w, 10, 1).item() == pytest.approx(5 * slope.square().sum().item(), rel=1e-6)


def linear_generator(n, n_latent=4, dim=6, channels=3, side=8):
    """images_n = sum_l A_l w_nl: its Jacobian is A, whatever w."""
    matrix = normal(n_latent, dim, channels * side * side, seed=3)
    ws = normal(n, n_latent, dim, seed=4).requires_grad_()
    images = torch.einsum("nld,ldp->np", ws, matrix).view(n, channels, side, side)
    return matrix, ws, images


def test_path_length_of_a_linear_generator():
    matrix, ws, images = linear_generator(3)
    noise = normal(*images.shape, seed=5)
    # length_n^2 = mean_l || A_l y_n ||^2 / (H W)
    pulled = np.einsum("ldp,np->nld", matrix.numpy(), noise.flatten(1).numpy())
    lengths = np.sqrt((pulled**2).sum(2).mean(1) / 64)
    start = 2.0
    mean = start + 0.01 * (lengths.mean() - start)
    penalty, new_mean = path_length_penalty(images, ws, torch.tensor(start), noise=noise)
    assert new_mean.item() == pytest.approx(mean, rel=1e-5) and not new_mean.requires_grad
    assert penalty.item() == pytest.approx(4 * 2 * ((lengths - mean) ** 2).mean(), rel=1e-5)


def test_path_length_mean_settles_on_the_root_of_the_energy():
    """Over many draws the mean length of an isotropic generator approaches sqrt(mean_l ||A_l||_F^2 / HW)."""
    matrix, ws, images = linear_generator(16, dim=32)
    torch.manual_seed(0)
    mean = torch.tensor(0.0)
    for _ in range(60):
        penalty, mean = path_length_penalty(images, ws, mean, decay=0.1)
    expected = (matrix.square().sum(dim=(1, 2)).mean() / 64).sqrt().item()
    assert mean.item() == pytest.approx(expected, rel=0.05)
    assert penalty.item() < 0.1 * expected**2


def test_path_length_reaches_the_generator():
    scale = torch.tensor(1.5, requires_grad=True)
    _, ws, images = linear_generator(2)
    penalty, _ = path_length_penalty(scale * images, ws, torch.tensor(0.0), noise=normal(*images.shape))
    (gradient,) = torch.autograd.grad(penalty, scale)
    # lengths and their mean are proportional to the scale here, the penalty to its square
    assert gradient.item() == pytest.approx(2 * penalty.item() / 1.5, rel=1e-5)


def test_delta_loss():
    ws = normal(3, 6, 8)
    norms = np.linalg.norm((ws - ws[:, :1]).numpy(), axis=2).mean(0)
    for stage, last in ((0, 0), (2, 2), (5, 5), (None, 5), (17, 5)):
        assert delta_loss(ws, stage).item() == pytest.approx(norms[1 : last + 1].sum(), rel=1e-6)
    same = ws[:, :1].expand(3, 6, 8).clone().requires_grad_()
    delta_loss(same).backward()
    assert torch.isfinite(same.grad).all()
