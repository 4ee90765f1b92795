"""Inversions that optimise each picture on its own: slow, the bounds beside which encoders stand."""

import copy

import torch
from torch import Tensor, nn

from wagi.evaluation.optimisation import Loss, optimise_latents
from wagi.losses import l2_loss
from wagi.metrics import Metric
from wagi.model import area_resize
from wagi.networks.swagan import Generator


class PictureLoss(nn.Module):
    """L2 plus a perceptual distance, at 256 px at most, as PTI has them: (images, targets) -> scalar."""

    def __init__(self, perceptual: Metric) -> None:
        super().__init__()
        self.perceptual = perceptual

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        size = min(256, targets.shape[-1])
        images, targets = area_resize(images, size), area_resize(targets, size)
        return l2_loss(images, targets) + self.perceptual(images, targets).mean()


# PTI (Roich et al. 2021), section 3.2, by the numbers of its public code; that stops early when LPIPS falls
# to 0.06, a threshold that no stand-in for LPIPS knows.
def tune_generator(
    generator: Generator, ws: Tensor, target: Tensor, loss: Loss, steps: int = 350, lr: float = 3e-4
) -> Generator:
    """A copy of the generator that shows `target` [1, 3, S, S] at fixed latents [1, n_latent, style_dim]."""
    tuned = copy.deepcopy(generator).requires_grad_(True)
    optimizer = torch.optim.Adam(tuned.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(tuned(ws), target).backward()
        optimizer.step()
    return tuned.requires_grad_(False)


class Optimiser(nn.Module):
    """Latent optimisation in W and, with `tuning_steps`, PTI: the generator tuned for each picture."""

    def __init__(self, generator: Generator, loss: Loss, latent_steps: int, tuning_steps: int = 0) -> None:
        super().__init__()
        self.generator, self.loss = generator.requires_grad_(False), loss
        self.latent_steps, self.tuning_steps = latent_steps, tuning_steps
        self.resolution = min(256, generator.size)

    def encode(self, images: Tensor) -> Tensor:  # N,3,S,S => N,n_latent,style_dim
        """The latents that optimisation finds, one of W in every layer."""
        with torch.inference_mode(False), torch.enable_grad():
            targets = images.clone()  # what was made in inference mode takes no part in gradients
            w = optimise_latents(self.generator, targets, self.loss, self.latent_steps)
            return self.generator.broadcast(w).detach()

    def results(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The optimised latents' images, and those of the tuned generators; [N, 3, S, S], not clamped."""
        ws = self.encode(images)
        naive = self.generator(ws)
        return naive, self._shown(images, ws, ws) if self.tuning_steps else naive

    def edited(self, images: Tensor, ws_edit: Tensor) -> Tensor:  # => N,3,S,S, not clamped
        """Edited latents [N, n_latent, style_dim] by the generators that were tuned for the images."""
        if not self.tuning_steps:
            return self.generator(ws_edit)
        return self._shown(images, self.encode(images), ws_edit)

    def _shown(self, images: Tensor, ws: Tensor, ws_edit: Tensor) -> Tensor:
        """Latents `ws_edit` by generators tuned so that `ws` show the images."""
        found = []
        with torch.inference_mode(False), torch.enable_grad():
            for one, target, edit in zip(ws.split(1), images.clone().split(1), ws_edit.split(1), strict=True):
                tuned = tune_generator(self.generator, one, target, self.loss, self.tuning_steps)
                found.append(tuned(edit.clone()).detach())
        return torch.cat(found)
