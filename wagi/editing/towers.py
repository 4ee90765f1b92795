"""Both towers of a text-image model, and StyleCLIP's loss of pictures that should show a text."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wagi.metrics import Metric
from wagi.networks.clip import CLIP
from wagi.standins.clip import TOKENS, PortraitsCLIP
from wagi.standins.model import load
from wagi_rt.texts import BytePairs


class Towers(NamedTuple):
    """CLIP with its list of merges or, where merges is None, portraits-CLIP."""

    name: str
    network: CLIP | PortraitsCLIP
    merges: Sequence[tuple[str, str]] | None = None

    @torch.no_grad()
    def text(self, text: str) -> Tensor:  # => F
        """Unit features of a text. UserError (status 2) for one that the model cannot read."""
        read = TOKENS if self.merges is None else BytePairs(self.merges, self.network.context)
        tokens = torch.from_numpy(read(text))[None]
        return self.network.text(tokens.to(self.network.positional_embedding.device))[0]


def portraits() -> Towers:
    """The text-image model of the rendered world."""
    return Towers("portraits-CLIP", load(PortraitsCLIP))


class TextLoss:
    """StyleCLIP's loss (eqs. 1 and 4) without its term of latents: (images, originals) [N, 3, S, S] -> [N].

    The cosine distance of images and text, and lambda_id times that of identities.

    Args: identity: (x, y) -> cosine [N], or None for no such term.
    """

    def __init__(self, towers: Towers, text: str, identity: Metric | None, lambda_id: float) -> None:
        self.towers, self.features = towers, towers.text(text)
        self.identity, self.lambda_id = identity, lambda_id

    def similarity(self, images: Tensor) -> Tensor:  # N,3,S,S => N
        """Cosine of images and text."""
        return self.towers.network.image(images) @ self.features

    def __call__(self, images: Tensor, originals: Tensor) -> Tensor:
        distance = 1 - self.similarity(images)
        if self.identity is None:
            return distance
        return distance + self.lambda_id * (1 - self.identity(images, originals))
