"""portraits-CLIP: rendered portraits and their captions in one space; CLIP knows photos only."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from wagi.networks.clip import TextSize, TextTower, to_size
from wagi.portraits.captions import VOCABULARY
from wagi.standins.model import WIDTHS, Trunk
from wagi_rt.texts import Words

_CONTEXT, _FEATURES = 32, 64
TOKENS = Words(VOCABULARY, _CONTEXT)


class PortraitsCLIP(TextTower):
    """Portraits [N, 3, S, S] in [-1, 1], and captions of words of VOCABULARY, as unit vectors [N, 64].

    Trained with the sigmoid loss of Zhai et al. (2023), where every caption that is true of a picture counts
    as its own.
    """

    size = 128
    file = "portraits-clip.safetensors"

    def __init__(self) -> None:
        super().__init__(TextSize(64, 2, _CONTEXT, len(VOCABULARY) + 2, _FEATURES))
        side = self.size >> len(WIDTHS)
        self.trunk = Trunk()
        self.visual = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], 24, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24 * side**2, _FEATURES)
        )
        self.scale = nn.Parameter(torch.tensor(math.log(10)))
        self.bias = nn.Parameter(torch.tensor(-5.0))

    def image(self, images: Tensor) -> Tensor:  # N,3,S,S => N,64
        """Unit features."""
        return normalize(self.visual(self.trunk(to_size(images.float(), self.size))[-1]), dim=1)

    def loss(self, images: Tensor, tokens: Tensor, matches: Tensor) -> Tensor:
        """Sigmoid loss of N images and M captions; matches [N, M] bool."""
        logits = self.scale.exp() * self.image(images) @ self.text(tokens).T + self.bias
        return -logsigmoid(torch.where(matches, logits, -logits)).sum(dim=1).mean()


def tokens(texts: list[str]) -> Tensor:  # => [N, 32] int64
    """The numbers of the texts' words. UserError for a word that no caption has."""
    return torch.from_numpy(np.stack([TOKENS(text) for text in texts]))
