"""Directions without labels: GANSpace's principal components of W, and SeFa's eigenvectors of the weights."""

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from wagi.networks.layers import EqualLinear, StyledConv
from wagi.networks.swagan import Generator


@torch.no_grad()
def samples(generator: Generator, count: int, seed: int, truncation: float = 1.0) -> np.ndarray:
    """Latents [count, style_dim] of the mapping network from seeded normal z."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator.style_dim, generator=rng).to(generator.latent_avg)
    return torch.cat([generator.map(part, truncation) for part in z.split(1000)]).cpu().numpy()


# GANSpace (Harkonen et al. 2020), section 3.2: PCA of w = M(z).
def ganspace(latents: np.ndarray, count: int) -> np.ndarray:  # N,D => count,D
    """Unit principal components, the largest variance first; the largest entry of each is positive."""
    return _signed(PCA(count, svd_solver="full").fit(latents).components_)


def modulations(generator: Generator) -> dict[int, EqualLinear]:
    """Number of the latent that a convolution uses -> its style layer. tWavelets share theirs and are out."""
    convolutions: list[StyledConv] = [generator.conv1, *generator.convs]  # type: ignore[list-item]
    return {number: layer.conv.modulation for number, layer in enumerate(convolutions)}


# SeFa (Shen and Zhou 2021), eq. 6: the eigenvectors of A^T A, A the style layers' weights one below another,
# each row of unit length as in the authors' code.
def sefa(generator: Generator, count: int, layers: range) -> np.ndarray:  # => count,D
    """Unit eigenvectors, the largest eigenvalue first; of the layers that use these latents."""
    chosen: list[Tensor] = [
        layer.weight for number, layer in modulations(generator).items() if number in layers
    ]
    rows = torch.cat(chosen).detach().double().numpy()
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    return _signed(vectors.T[::-1][:count])


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Each row with the sign that makes its largest entry positive: an eigenvector has none of its own."""
    largest = vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)]
    return vectors * np.sign(largest)[:, None]


def spread(latents: Tensor | np.ndarray, vectors: np.ndarray) -> np.ndarray:  # N,D ; K,D => K
    """Standard deviation of the latents along unit vectors."""
    return np.std(np.asarray(latents) @ vectors.T, axis=0)
