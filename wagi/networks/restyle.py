"""ReStyle's encoders (Alaluf et al. 2021): e4e and pSp without the feature pyramid, for images in pairs.

Names and shapes are those of the public checkpoints (prefix `encoder.`). Iterating is the work of
`wagi.model.NaiveInverter`.
"""

from torch import Tensor, nn

from wagi.networks.e4e import BackboneEncoder, StyleHead
from wagi.networks.psp import IndependentHeads

_SPATIAL = 16  # the last map of the body, for 256 px


class RestyleEditing(BackboneEncoder):
    """IR-SE50 body and one head per style, all on its last map; ReStyle over e4e.

    Call: the image and what its latents show so far [N, 6, 256, 256] -> what to add to the latents
    [N, n_styles, style_dim]. Smaller squares divisible by 16 work too; ValueError for others.
    """

    def __init__(self, n_styles: int, style_dim: int = 512, steps: int = 5) -> None:
        super().__init__(n_styles, style_dim, steps)
        self.styles = nn.ModuleList(StyleHead(512, style_dim, _SPATIAL) for _ in range(n_styles))

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height != width or height % 16 or height > 256:
            raise ValueError(f"needs squares of at most 256 px, divisible by 16; got {height}x{width}")
        features = self.body(self.input_layer(images))
        first, *deltas = (head(features) for head in list(self.styles)[: self.n_deltas + 1])
        return self.compose(first, deltas)


class RestylePixelToStyle(IndependentHeads, RestyleEditing):
    """ReStyle over pSp: every offset is a head of its own."""
