"""Small networks for rendered portraits, in place of the public ones, which know real faces only.

`PortraitsID` compares identities, `PortraitsFeatures` compares looks and gives FID its features. Reports call
them portraits-ID, portraits-features and portraits-FID: their numbers compare with nobody else's.
"""

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from wagi import checkpoint
from wagi.features import load_weights
from wagi.networks.clip import to_size
from wagi.portraits import NUM_PARAMETERS

WEIGHTS = Path(__file__).resolve().parent / "weights"
WIDTHS = (16, 32, 64, 96)
LOOKS, WHO = "portraits-features", "portraits-ID"  # the names in reports


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Trunk(nn.Module):
    """Four stages that halve the picture: [N, 3, S, S] -> [[N, 16, S/2, S/2], ..., [N, 96, S/16, S/16]]."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = WIDTHS
        self.stages = nn.ModuleList([_layer(3, first, 2)])
        for inputs, outputs in zip(WIDTHS, rest, strict=False):
            self.stages.append(nn.Sequential(_layer(inputs, outputs, 2), _layer(outputs, outputs, 1)))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class PortraitsID(nn.Module):
    """Identity of a rendered portrait: (x, y) [N, 3, S, S] in [-1, 1] -> cosine [N].

    Trained with an additive angular margin (Deng et al. 2019) on rendered identities at 64 px.
    """

    size = 64
    file = "portraits-identity.safetensors"

    def __init__(self, dimensions: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.embedding = nn.Linear(WIDTHS[-1] * 16, dimensions, bias=False)
        self.norm = nn.BatchNorm1d(dimensions)

    def embed(self, x: Tensor) -> Tensor:
        """[N, 3, S, S] -> unit vectors [N, 64]."""
        last = self.trunk(to_size(x.float(), self.size))[-1]
        return normalize(self.norm(self.embedding(last.flatten(1))), dim=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return cosine_similarity(self.embed(x), self.embed(y), dim=1)


class PortraitsFeatures(nn.Module):
    """Looks of a rendered portrait: (x, y) [N, 3, S, S] in [-1, 1] -> distance [N].

    Trained to read the scene's parameters from 128 px. The distance is that of LPIPS (Zhang et al. 2018,
    eq. 1) with all channel weights equal: never calibrated on people's judgements.
    """

    size = 128
    file = "portraits-attributes.safetensors"

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(WIDTHS[-1], NUM_PARAMETERS)

    def pooled(self, x: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, 96]: the last stage's means over the picture, FID's features."""
        return self.trunk(to_size(x.float(), self.size))[-1].mean(dim=(2, 3))

    def predict(self, x: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, 133], the standardised parameters (wagi.portraits.vector)."""
        return self.head(self.pooled(x))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(*(self.trunk(to_size(image.float(), self.size)) for image in (x, y)), strict=True)
        stages = [(_unit(a) - _unit(b)).square().sum(1).mean(dim=(1, 2)) for a, b in pairs]
        return torch.stack(stages).mean(0)


def _unit(x: Tensor) -> Tensor:
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)


Standin = TypeVar("Standin", bound=nn.Module)


def load(kind: type[Standin], path: Path | None = None) -> Standin:
    """A stand-in with its shipped weights, or those of `path`: frozen, in eval mode, on the CPU.

    UserError when the file is not its own.
    """
    name: str = kind.file  # type: ignore[attr-defined]
    path = path or WEIGHTS / name
    state = load_weights(path, "stand-in", name)
    network = kind()
    checkpoint.load_state(network, {key: _wide(value) for key, value in state.items()}, str(path))
    return network.eval().requires_grad_(False)


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def save(network: nn.Module, path: Path) -> None:
    """Half-precision weights, written whole or not at all."""
    checkpoint.save_safetensors(path, network.state_dict(), None, half=True)
