"""Promise: `mode=gan` trains SWAGAN as published: losses, lazy regularisers, optimisers, mixing, mean W."""

import numpy as np
import pytest
import torch
from paper_stages import TINY, pictures, trained_by

from wagi.config import settings
from wagi.training.generator import make_stage


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def stage():
    torch.manual_seed(1)
    made = make_stage(*settings("ffhq1024", "generator", TINY))
    with torch.no_grad():
        for name, parameter in made.generator.named_parameters():
            if ".noise." in name:  # fresh noise must show
                parameter.fill_(0.2)
    made.train_mode()
    return made


class Calls:
    """Inputs and outputs of a module's calls."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.made = []
        module.register_forward_hook(lambda _, args, out: self.made.append((*args, out)))


def test_what_is_done_when(stage):
    """Discriminator, generator; R1 every 16 steps, path length every 4."""
    order = {step: [p.optimizer for p in stage.phases(step)] for step in range(33)}
    for step, names in order.items():
        lazy_d, lazy_g = step % 16 == 0, step % 4 == 0
        assert names == ["discriminator"] * (1 + lazy_d) + ["generator"] * (1 + lazy_g), step


def test_logistic_losses_by_value(stage):
    judged = Calls(stage.discriminator)
    batch = pictures()
    loss, _ = stage.phases(1)[0].loss(batch, seeded())
    (real, real_logits), (fake, fake_logits) = judged.made
    assert torch.equal(real, batch["image"]) and fake.shape == real.shape and not torch.equal(fake, real)
    logits = [t.detach().double().numpy() for t in (real_logits, fake_logits)]
    assert loss.item() == pytest.approx(softplus(-logits[0]).mean() + softplus(logits[1]).mean(), rel=1e-5)
    assert trained_by(stage, loss) == {"discriminator"}
    loss, _ = stage.phases(1)[1].loss(batch, seeded())
    logits = judged.made[-1][1].detach().double().numpy()
    assert loss.item() == pytest.approx(softplus(-logits).mean(), rel=1e-5)
    assert "generator" in trained_by(stage, loss)


def test_r1_by_value(stage):
    """16 * 10 / 2 * mean |dD/dx|^2 of real images."""
    batch = pictures()
    penalty, _ = stage.phases(16)[1].loss(batch, seeded())
    x = batch["image"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(stage.discriminator(x).sum(), x)
    expected = 16 * 10 / 2 * slope.square().sum((1, 2, 3)).mean().item()
    assert penalty.item() == pytest.approx(expected, rel=1e-4)
    assert trained_by(stage, penalty) == {"discriminator"}


def test_path_length_on_half_a_batch_with_a_running_mean(stage):
    """4 * 2 * (length - a)^2, a the mean that moves by 0.01; it is part of the stage's state."""
    made = Calls(stage.generator)
    means = []
    for _ in range(2):
        before = stage.state()["mean_length"].item()
        penalty, scalars = stage.phases(4)[-1].loss(pictures(), seeded())
        after = stage.state()["mean_length"].item()
        assert made.made[-1][0].shape[0] == 2 and after > before
        # a = before + 0.01 (mean - before); two lengths l1, l2: penalty = 8 * (l - a)^2, in the mean
        mean = before + (after - before) / 0.01
        assert penalty.item() >= 8 * (mean - after) ** 2 * (1 - 1e-4)
        assert scalars["path_length"].item() == pytest.approx(after)
        means.append(after)
    assert trained_by(stage, penalty) == {"generator"}
    assert means[0] < means[1]


def test_optimisers_of_lazily_regularised_networks(stage):
    """Adam with betas (0, 0.99), rates and betas scaled by 4/5 and 16/17 (StyleGAN2, appendix B)."""
    for name, ratio in (("generator", 4 / 5), ("discriminator", 16 / 17)):
        (group,) = stage.optimizers[name].param_groups
        assert group["lr"] == pytest.approx(0.002 * ratio) and group["betas"][0] == 0
        assert group["betas"][1] == pytest.approx(0.99**ratio)
        assert {id(p) for p in group["params"]} == {id(p) for p in stage.models[name].parameters()}


def test_styles_are_mixed_nine_times_in_ten(stage):
    """Two latents, one below the crossover and one from it on; every crossover happens."""
    stage.generator.forward = lambda ws, **_: torch.zeros(len(ws), 3, 32, 32)  # only what it is fed counts
    fed = Calls(stage.generator)
    crossovers = []
    with torch.no_grad():
        rng = seeded()
        for _ in range(200):
            stage.phases(1)[0].loss(pictures(1), rng)
    assert len(fed.made) == 200
    for ws, _ in fed.made:
        changes = (ws[:, 1:] != ws[:, :-1]).any(2).any(0).nonzero().flatten().tolist()
        assert len(changes) <= 1
        crossovers += [k + 1 for k in changes]
    assert 0.84 < len(crossovers) / 200 < 0.96
    assert set(crossovers) == set(range(1, stage.generator.n_latent))


def test_noise_is_fresh_in_every_pass(stage):
    made = Calls(stage.generator)
    with torch.no_grad():
        for _ in range(2):
            stage.phases(1)[0].loss(pictures(1), seeded(3))
    (ws, first), (same, second) = made.made
    assert torch.equal(ws, same) and (first - second).abs().max() > 1e-3


def test_latent_avg_follows_the_mean_of_w(stage):
    """It moves by 1 - 0.995 towards the mean of each batch of map(z)."""
    mapped = Calls(stage.generator.style)
    start = stage.generator.latent_avg.clone()
    with torch.no_grad():
        stage.phases(1)[0].loss(pictures(), seeded())
    w = mapped.made[0][1]
    torch.testing.assert_close(stage.generator.latent_avg, 0.995 * start + 0.005 * w.mean(0))
    assert stage.generator.latent_avg.abs().max() > 1e-4
