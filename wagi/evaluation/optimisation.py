"""Inversion by optimising each image on its own: slow, and the bound that encoders are measured against."""

from collections.abc import Callable

import torch
from torch import Tensor

from wagi.editing.latent import ramp
from wagi.networks.swagan import Generator

Loss = Callable[[Tensor, Tensor], Tensor]

# StyleGAN2 (Karras et al. 2020), appendix D: noise in standard deviations of W, and its share of the run.
_NOISE, _NOISE_SHARE = 0.05, 0.75
_SAMPLES = 10_000


def _noise(progress: float) -> float:
    """Noise on w, in standard deviations of W, at this part of the run."""
    return _NOISE * max(0.0, 1 - progress / _NOISE_SHARE) ** 2


@torch.no_grad()
def _spread(generator: Generator, mean: Tensor, rng: torch.Generator) -> float:
    """The standard deviation of W: the root of the mean squared distance to its mean."""
    z = torch.randn(_SAMPLES, generator.style_dim, generator=rng).to(mean)
    w = torch.cat([generator.map(part) for part in z.split(1000)])
    return float((w - mean).square().sum(1).mean().sqrt())


def optimise_latents(
    generator: Generator,
    targets: Tensor,
    loss: Loss,
    steps: int = 1000,
    lr: float = 0.1,
    seed: int = 0,
) -> Tensor:  # N,3,S,S in [-1, 1] => N,style_dim
    """Latents in W whose images come near the targets, as StyleGAN2's projector finds them.

    Adam from the mean latent, the rate ramped up and down, noise on w that fades out; the generator and its
    noise maps stay as they are. `loss(images, targets)` is a scalar, means over the batch: Adam knows no
    scale, so images do not influence one another.
    """
    rng = torch.Generator().manual_seed(seed)
    mean = generator.latent_avg
    spread = _spread(generator, mean, rng)
    w = mean.expand(len(targets), -1).clone().requires_grad_()
    optimizer = torch.optim.Adam([w], lr)
    for step in range(steps):
        progress = step / steps
        optimizer.param_groups[0]["lr"] = lr * ramp(progress)
        noise = torch.randn(w.shape, generator=rng).to(w) * (_noise(progress) * spread)
        value = loss(generator(generator.broadcast(w + noise)), targets)
        (w.grad,) = torch.autograd.grad(value, w)
        optimizer.step()
    return w.detach()
