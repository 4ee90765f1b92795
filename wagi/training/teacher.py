"""An encoder of the same generator, towards whose codes another encoder's are drawn."""

import torch
from torch import Tensor, nn

from wagi import checkpoint
from wagi.config import ModelConfig
from wagi.errors import UserError, option
from wagi.model import NaiveInverter
from wagi.networks.swagan import Generator


class Teacher(nn.Module):
    """A frozen E0 of any kind and settings, trained for `generator`, which stays outside of this module."""

    def __init__(self, generator: Generator, encoder: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.requires_grad_(False).eval()
        self.digest = checkpoint.weights_hash(encoder)  # by which a resumed run knows it again
        self._inverters = [NaiveInverter(generator, self.encoder, **config.reads)]  # type: ignore[arg-type]

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:  # N,3,S,S => N,n_latent,style_dim
        """Its latents of images in [-1, 1], which it reads at its own size."""
        return self._inverters[0].encode(images).float()


def open_teacher(path: str, model: ModelConfig, generator: Generator) -> Teacher:
    """The teacher in a checkpoint. UserError for one without encoder, or of another generator."""
    with option("--teacher"):
        content = checkpoint.read(path)
        there = checkpoint.model_config(content, path)
        if (there.n_latent, there.style_dim) != (model.n_latent, model.style_dim):
            raise UserError(
                f"{path}: gives {there.n_latent} latents of {there.style_dim} values, the generator takes "
                f"{model.n_latent} of {model.style_dim}; name an encoder of this generator", 2,
            )  # fmt: skip
        own, ours = content["weights"].get("generator"), checkpoint.state_of(generator)
        if own is not None and not _same(own, ours):
            raise UserError(
                f"{path}: made for another generator than --generator's; name an encoder of it", 2
            )
        return Teacher(generator, checkpoint.build_loaded(content, "encoder", path), there)


def _same(a: checkpoint.State, b: checkpoint.State) -> bool:
    return not checkpoint.differences(a, b) and all(torch.equal(a[name], b[name]) for name in b)
