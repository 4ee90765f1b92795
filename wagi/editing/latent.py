"""StyleCLIP's latent optimisation (Patashnik et al. 2021, section 4): one picture's way to a text."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from wagi.editing.settings import Settings
from wagi.networks.swagan import Generator

Loss = Callable[[Tensor, Tensor], Tensor]  # images, originals [N, 3, S, S] => N

# StyleGAN2 (Karras et al. 2020), appendix D: shares of the run.
_RAMP_UP, _RAMP_DOWN = 0.05, 0.25


def ramp(progress: float) -> float:
    """Share of the learning rate at this part of a latent's optimisation: linear up, cosine down."""
    down = min(1.0, (1 - progress) / _RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(math.pi * down)) * min(1.0, progress / _RAMP_UP)


# Eq. (1). The paper writes the norm of w - w_s; its code, whose weight this is, adds up the squares.
def optimise(
    generator: Generator, ws: Tensor, loss: Loss, settings: Settings
) -> Tensor:  # N,n_latent,style_dim => the same
    """Latents near `ws` whose images have a small loss against the images of `ws`.

    Images do not influence one another: Adam knows no scale, and each has a loss of its own.
    """
    generator.requires_grad_(False)
    with torch.no_grad():
        originals = generator(ws)
    found = ws.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([found])
    for step in tqdm(range(settings.steps), "latents", disable=None):
        optimizer.param_groups[0]["lr"] = settings.learning_rate * ramp(step / settings.steps)
        value = loss(generator(found), originals)
        value = value + settings.lambda_l2 * (found - ws).square().sum((1, 2))
        (found.grad,) = torch.autograd.grad(value.sum(), found)
        optimizer.step()
    return found.detach()
