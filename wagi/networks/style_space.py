"""Style space (Wu et al. 2021): what all modulated convolutions of a generator multiply their inputs by."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


class StyleSpace:
    """The styles of a generator's modulated convolutions, one layer behind another in running order.

    Latents [N, n_latent, style_dim] may have `rows` more, which hold an offset for each of the `channels`
    styles: latents and offsets then travel together. Args: layers: (number of the latent that it reads, its
    input channels) of each.
    """

    def __init__(self, layers: Sequence[tuple[int, int]], n_latent: int, style_dim: int) -> None:
        self.latents, self.widths = zip(*layers, strict=True)
        self.starts = [sum(self.widths[:k]) for k in range(len(layers))]
        self.n_latent, self.style_dim = n_latent, style_dim
        self.channels: int = sum(self.widths)
        self.rows = -(-self.channels // style_dim)

    def with_offsets(self, ws: Tensor, offsets: Tensor) -> Tensor:
        """Latents, and offsets [N or 1, channels] in place of those that they had => n_latent + rows rows."""
        padded = pad(offsets, (0, self.rows * self.style_dim - self.channels))
        padded = padded.view(-1, self.rows, self.style_dim).expand(len(ws), -1, -1)
        return torch.cat([ws[:, : self.n_latent], padded.to(ws)], dim=1)

    def read(self, ws: Tensor, layer: int) -> tuple[Tensor, Tensor | None]:
        """The latent [N, style_dim] of a layer, and the offset [N, C] of its style, None for none."""
        w = ws[:, self.latents[layer]]
        if ws.shape[1] == self.n_latent:
            return w, None
        start = self.starts[layer]
        return w, ws[:, self.n_latent :].flatten(1)[:, start : start + self.widths[layer]]
