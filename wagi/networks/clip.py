"""CLIP (Radford et al. 2021): a vision and a text transformer into one space, under OpenAI's names.

The text tower alone is the base class: wagi.standins pairs one with a small CNN.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, linear, normalize

# Statistics of the pictures that the public weights were trained on, in [0, 1].
_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HEAD = 64  # channels of a head in every published model


class TextSize(NamedTuple):
    """Sizes of a text tower; the token of the highest number ends a text."""

    width: int
    layers: int
    context: int
    vocabulary: int
    features: int


class VisionSize(NamedTuple):
    """Sizes of a vision tower."""

    width: int
    layers: int
    patch: int
    size: int


def to_size(images: Tensor, size: int) -> Tensor:  # N,3,S,S => N,3,size,size
    """Area means from larger images, bilinear from smaller ones."""
    if images.shape[-1] < size:
        return interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    return adaptive_avg_pool2d(images, size)


class Attention(nn.Module):
    """Multi-head self-attention under the names of torch's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD)
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:  # N,L,C ; L,L => N,L,C
        n, length, width = x.shape
        split = linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = split.view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(2, 3) * (width // self.heads) ** -0.5
        mixed = (scores if mask is None else scores + mask).softmax(dim=-1) @ v
        return self.out_proj(mixed.transpose(1, 2).reshape(n, length, width))


class QuickGELU(nn.Module):
    """The activation of OpenAI's weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Residual attention, then a residual layer of four times the width."""

    def __init__(self, width: int, quick: bool) -> None:
        super().__init__()
        self.attn = Attention(width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU() if quick else nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # N,L,C
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, quick: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, quick) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # N,L,C
        for block in self.resblocks:
            x = block(x, mask)
        return x


class TextTower(nn.Module):
    """Texts as tokens [N, context] -> features [N, F]; what is behind the end of a text does not count."""

    mask: Tensor

    def __init__(self, size: TextSize, quick: bool = True) -> None:
        super().__init__()
        self.context = size.context
        self.token_embedding = nn.Embedding(size.vocabulary, size.width)
        self.positional_embedding = nn.Parameter(torch.randn(size.context, size.width) * 0.01)
        self.transformer = Transformer(size.width, size.layers, quick)
        self.ln_final = nn.LayerNorm(size.width)
        self.text_projection = nn.Parameter(torch.randn(size.width, size.features) * size.width**-0.5)
        mask = torch.full((size.context, size.context), -1e4).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def encode_text(self, tokens: Tensor) -> Tensor:  # N,context => N,F
        """Features, not of unit length."""
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x, self.mask))
        end = tokens.argmax(dim=1)[:, None, None].expand(-1, 1, x.shape[2])
        return x.gather(1, end)[:, 0] @ self.text_projection

    def text(self, tokens: Tensor) -> Tensor:  # N,context => N,F
        """Unit features."""
        return normalize(self.encode_text(tokens), dim=1)


class VisionTower(nn.Module):
    """Pictures [N, 3, size, size], with CLIP's statistics -> features [N, F]."""

    def __init__(self, size: VisionSize, features: int, quick: bool = True) -> None:
        super().__init__()
        self.size, width = size.size, size.width
        self.conv1 = nn.Conv2d(3, width, size.patch, size.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        count = (size.size // size.patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(torch.randn(count, width) * width**-0.5)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, size.layers, quick)
        self.proj = nn.Parameter(torch.randn(width, features) * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(x)[:, 0]) @ self.proj


class CLIP(TextTower):
    """Both towers; images are [N, 3, S, S] in [-1, 1]. quick: with OpenAI's activation, else exact GELU."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, text: TextSize, vision: VisionSize, quick: bool = True) -> None:
        super().__init__(text, quick)
        self.visual = VisionTower(vision, text.features, quick)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # the published start, log(1 / 0.07)
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def image(self, images: Tensor) -> Tensor:  # N,3,S,S => N,F
        """Unit features."""
        pixels = to_size(images.float() * 0.5 + 0.5, self.visual.size)
        return normalize(self.visual((pixels - self.mean) / self.deviation), dim=1)
