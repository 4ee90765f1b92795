"""Frozen feature networks with weights from public files that the user gives: LPIPS v0.1, ArcFace identity.

The weights are never bundled. Files are loaded without running code from them, and strictly: a name or shape
that differs is an error that lists it. The modules stay in eval mode, whatever `train()` says, and their
weights get no gradients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity, interpolate

from wagi.checkpoint import load_state, some
from wagi.errors import UserError
from wagi.networks.irse import Backbone


@dataclass(frozen=True)
class FeatureFiles:
    """Public weight files, as the user gave them."""

    lpips_trunk: Path | None = None
    lpips_linear: Path | None = None
    arcface: Path | None = None
    fid_network: Path | None = None


def load_weights(path: str | Path | None, option: str, name: str) -> dict[str, Tensor]:
    """The flat state dict that `option` names; UserError when it is missing, unreadable or not finite."""
    remedy = f"give the public {name} file, or, in training, set the loss weight to 0 to switch this term off"
    if path is None:
        raise UserError(f"{option}: no file given; {remedy}", status=2)
    if not Path(path).is_file():
        raise UserError(f"{option} {path}: no such file; {remedy}", status=2)
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever pickle, zip or torch meet in a foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{option} {path}: not a PyTorch weight file ({reason[:120]}); {remedy}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{option} {path}: not a flat dict of tensors; {remedy}")
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise UserError(f"{option} {path}: NaN or infinite in {some(broken)}; download the file again")
    return dict(state)


class Frozen(nn.Module):
    """A network that is only looked through: no parameter gradients, always in eval mode."""

    def freeze(self) -> None:
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Frozen":
        super().train(False)
        return self


def _alexnet() -> nn.Sequential:
    """torchvision's `alexnet().features`, as far as LPIPS looks."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    )  # fmt: skip


def _vgg16() -> nn.Sequential:
    """torchvision's `vgg16().features`, without the last pool."""
    layers: list[nn.Module] = []
    channels = 3
    for block, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers += [nn.MaxPool2d(2, 2)] if block else []
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


# Trunk, and the layers after which LPIPS compares: index in `features` -> channels.
TRUNKS = {
    "alex": (_alexnet, {1: 64, 4: 192, 7: 384, 9: 256, 11: 256}),
    "vgg": (_vgg16, {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}),
}


class LPIPS(Frozen):
    """LPIPS v0.1 (Zhang et al. 2018): (x, y) [N, 3, H, W] in [-1, 1] -> distance [N]; a loss takes its mean.

    `trunk_path`: torchvision's AlexNet or VGG16 weights (`features.*`; a `classifier.*` is dropped).
    `linear_path`: the v0.1 file of the same trunk (`lin{k}.model.1.weight` [1, C, 1, 1]).
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        trunk_path: str | Path | None,
        linear_path: str | Path | None,
        net: Literal["alex", "vgg"] = "alex",
    ) -> None:
        super().__init__()
        if net not in TRUNKS:
            raise ValueError(f"net must be one of {', '.join(TRUNKS)}, got {net!r}")
        build, self.taps = TRUNKS[net]
        self.features = build()
        name = {"alex": "AlexNet", "vgg": "VGG16"}[net]
        trunk = load_weights(trunk_path, "--lpips-trunk", f"torchvision {name}")
        trunk = {key: value for key, value in trunk.items() if not key.startswith("classifier.")}
        load_state(nn.ModuleDict({"features": self.features}), trunk, f"--lpips-trunk {trunk_path}")
        linear = load_weights(linear_path, "--lpips-linear", f"LPIPS v0.1 {net}")
        self.linear = nn.ModuleList(nn.Conv2d(c, 1, 1, bias=False) for c in self.taps.values())
        # Index 0 of the published `model` is a dropout.
        named = {f"lin{k}": nn.Sequential(nn.Identity(), conv) for k, conv in enumerate(self.linear)}
        published = nn.ModuleDict({key: nn.ModuleDict({"model": model}) for key, model in named.items()})
        load_state(published, linear, f"--lpips-linear {linear_path}")
        # The trunk's ImageNet statistics, restated for [-1, 1].
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.freeze()

    def _activations(self, x: Tensor) -> list[Tensor]:
        """Unit length over channels after each tapped ReLU, float32."""
        x = (x - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                norm = torch.linalg.vector_norm(x.float(), dim=1, keepdim=True)
                found.append(x.float() / (norm + 1e-10))
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance per image, [N]."""
        pairs = zip(self.linear, self._activations(x), self._activations(y), strict=True)
        distances = [linear((fx - fy).square()).mean(dim=(1, 2, 3)) for linear, fx, fy in pairs]
        return torch.stack(distances).sum(0)


class ArcFace(Frozen):
    """Identity by the IR-SE50 ArcFace network (`model_ir_se50.pth`): (x, y) [N, 3, S, S] -> cosine [N].

    The loss is `(1 - arcface(output, image)).mean()`. Images are aligned faces in [-1, 1], framed as in FFHQ.
    """

    def __init__(self, path: str | Path | None) -> None:
        super().__init__()
        self.backbone = Backbone()
        weights = load_weights(path, "--arcface", "ArcFace model_ir_se50.pth")
        load_state(self.backbone, weights, f"--arcface {path}")
        self.freeze()

    def embed(self, x: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, 512] of the face: at 256 px rows 35:223, columns 32:220, pooled to 112."""
        if max(x.shape[2:]) > 256:
            x = adaptive_avg_pool2d(x, 256)
        elif x.shape[2:] != (256, 256):
            x = interpolate(x, size=(256, 256), mode="bilinear", align_corners=False)
        return self.backbone(adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Cosine similarity of the two faces, [N] in [-1, 1]."""
        return cosine_similarity(self.embed(x).float(), self.embed(y).float(), dim=1)
