"""Augmentation of the inversion stage: a perspective warp of the residual (HFGI section 3.3), colours.

The same distribution as torchvision's RandomPerspective: each corner moves inwards by whole pixels, uniform
from 0 to int(distortion * R / 2) in x and in y; bilinear, zero outside. torchvision draws one warp per batch,
here each image has its own unless `per_sample` is off (decision 22).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_corners(n: int, height: int, width: int, distortion: float, rng: torch.Generator) -> Tensor:
    """New places of an image's corners TL, TR, BR, BL: [n, 4, 2] as (x, y) in pixels, float64."""
    limits = (int(distortion * (width // 2)), int(distortion * (height // 2)))
    inwards = torch.stack([torch.randint(0, limit + 1, (n, 4), generator=rng) for limit in limits], dim=2)
    sign = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    return _corners(height, width) + (inwards * sign).double()


def _corners(height: int, width: int) -> Tensor:  # => 4, 2
    right, bottom = float(width - 1), float(height - 1)
    return torch.tensor([[0, 0], [right, 0], [right, bottom], [0, bottom]], dtype=torch.float64)


def homography(corners: Tensor, height: int, width: int) -> Tensor:  # N,4,2 => N,3,3
    """The projective map from moved corners to the corners of the image (output to input pixels)."""
    source = _corners(height, width).expand_as(corners)
    (x, y), (u, v) = corners.unbind(2), source.unbind(2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=2)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=2)
    solution = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1))
    return F.pad(solution, (0, 1), value=1.0).view(-1, 3, 3)


def perspective(images: Tensor, corners: Tensor) -> Tensor:  # N,C,H,W ; N,4,2 => N,C,H,W
    """Warp each image so that its corners come to lie at `corners`; pixel centres are at half integers."""
    n, _, height, width = images.shape
    matrix = homography(corners, height, width).float().to(images.device)
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device) + 0.5, torch.arange(width, device=images.device) + 0.5,
        indexing="ij",
    )  # fmt: skip
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).view(1, -1, 3)
    mapped = points @ matrix.transpose(1, 2)
    position = mapped[..., :2] / mapped[..., 2:]
    size = torch.tensor([width, height], dtype=position.dtype, device=images.device)
    grid = (2 * position / size - 1).view(n, height, width, 2).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def random_perspective(
    images: Tensor, distortion: float, probability: float, rng: torch.Generator, per_sample: bool = True
) -> Tensor:
    """Warp images [N, C, H, W], each with `probability`; `rng` is a CPU generator."""
    n, _, height, width = images.shape
    draws = n if per_sample else 1
    corners = random_corners(draws, height, width, distortion, rng)
    chosen = torch.rand(draws, generator=rng) < probability
    warped = perspective(images, corners.expand(n, 4, 2))
    return torch.where(chosen.to(images.device).expand(n)[:, None, None, None], warped, images)


# Not in the paper: a small generator has seen few colours; others must come from the residual.
def random_colours(n: int, probability: float, rng: torch.Generator) -> Tensor:  # => n, 3, 4
    """Affine maps of RGB: channels mixed and scaled, then shifted; the identity where none is drawn."""
    identity = torch.eye(3, 4).expand(n, 3, 4)
    if not probability:
        return identity
    scale = torch.rand(n, 3, 1, generator=rng) * 0.8 + 0.4
    mix = torch.randn(n, 3, 3, generator=rng) * 0.15
    shift = torch.randn(n, 3, 1, generator=rng) * 0.25
    drawn = torch.cat([torch.eye(3) * scale + mix, shift], dim=2)
    chosen = torch.rand(n, generator=rng) < probability
    return torch.where(chosen[:, None, None], drawn, identity)


def recolour(images: Tensor, colours: Tensor) -> Tensor:  # N,3,H,W ; N,3,4 => N,3,H,W in [-1, 1]
    """Apply `random_colours` to images in [-1, 1]."""
    mixed = torch.einsum("nij,njhw->nihw", colours[:, :, :3], images) + colours[:, :, 3, None, None]
    return mixed.clamp(-1, 1)


# Not in the papers: training of the flow aligner, where the true flow is to be known.
def random_flow(n: int, size: int, rng: torch.Generator, local: bool) -> Tensor:  # => n, 2, size, size
    """Flows (x, y) in pixels: an affine map and a smooth elastic one.

    local: larger ones, which fade out around a spot in three of four cases; else of whole pictures.
    """
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, size), torch.linspace(-0.5, 0.5, size), indexing="ij")
    points = torch.stack([x, y]).flatten(1)  # 2, size * size
    spread, shift = (0.12, 0.05) if local else (0.06, 0.02)
    matrix = torch.randn(n, 2, 2, generator=rng) * spread
    flow = (matrix @ points).view(n, 2, size, size) + torch.randn(n, 2, 1, 1, generator=rng) * shift
    coarse = torch.randn(n, 2, 5, 5, generator=rng) * (0.02 if local else 0.005)
    flow = flow + F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    if local:
        centre = torch.rand(n, 2, 1, 1, generator=rng) - 0.5
        radius = 0.15 + 0.25 * torch.rand(n, 1, 1, generator=rng)
        distance = (torch.stack([x, y]) - centre).square().sum(1).sqrt() / radius
        window = (1.5 - distance).clamp(0, 1)[:, None]
        whole = torch.rand(n, 1, 1, 1, generator=rng) < 0.25
        flow = flow * torch.where(whole, torch.ones(()), window)
    return flow * size
