"""The e4e encoder E0 (Tov et al. 2021) and its latent discriminator.

Names and shapes are those of the public e4e, pSp and HFGI checkpoints (prefix `encoder.`). Offsets come out;
the final codes are offsets + latent_avg.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.errors import UserError
from wagi.networks.irse import Backbone, ir_se50_body, stem
from wagi.networks.layers import EqualLinear

__all__ = [
    "Backbone", "BackboneEncoder", "Encoder4Editing", "LatentDiscriminator", "ProgressiveEncoder", "WEncoder",
]  # fmt: skip

# Last unit of the body at 1/4, 1/8 and 1/16 of the input size: the three levels of the feature pyramid.
_FINE_UNIT, _MIDDLE_UNIT = 6, 20
# Style k reads the coarse map below the first bound, the middle one below the second, else the fine map.
_COARSE_STYLES, _MIDDLE_STYLES = 3, 7


# Layers that write the latents, in all encoders.
HEADS = ("styles", "linear", "first", "deltas")


class ProgressiveEncoder(nn.Module):
    """The interface of every E0: `.n_styles`, `.style_dim` and the progressive `.stage` of e4e (section 3.2).

    Stage None: all offsets differ from the first one; i: offsets 1..i do; 0: all are equal (W only).

    steps: of ReStyle, which reads an image beside what its latents show so far (6 channels) and adds to them;
    0: an encoder that reads the image alone, once.
    """

    def __init__(self, n_styles: int, style_dim: int, steps: int = 0) -> None:
        super().__init__()
        self.steps = steps
        self.in_channels = 6 if steps else 3
        if n_styles < 1:
            raise ValueError(f"n_styles must be at least 1, got {n_styles}")
        self.n_styles = n_styles
        self.style_dim = style_dim
        self._stage: int | None = None

    @property
    def stage(self) -> int | None:
        return self._stage

    @stage.setter
    def stage(self, stage: int | None) -> None:
        if stage is not None and stage < 0:
            raise ValueError(f"stage must be None or at least 0, got {stage}")
        self._stage = stage

    @property
    def n_deltas(self) -> int:
        """Number of offsets that may differ from the first one at this stage."""
        last = self.n_styles - 1
        return last if self._stage is None else min(self._stage, last)

    def compose(self, first: Tensor, deltas: list[Tensor]) -> Tensor:
        """`first` [N, D] and up to n_styles - 1 deltas [N, D] -> offsets [N, n_styles, D].

        Stacked, not written into an expanded tensor: ONNX has no in-place writes.
        """
        moved = [first + delta for delta in deltas]
        rest = self.n_styles - 1 - len(deltas)
        return torch.stack([first, *moved, *([first] * rest)], dim=1)


class StyleHead(nn.Module):
    """Map-to-style block of pSp: strided convolutions down to 1x1, then an equalised linear layer."""

    def __init__(self, in_channels: int, style_dim: int, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(int(math.log2(spatial))):
            layers.append(nn.Conv2d(in_channels if i == 0 else style_dim, style_dim, 3, 2, 1))
            layers.append(nn.LeakyReLU())
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(style_dim, style_dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.convs(features).flatten(1))


def widened(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those filters of an image [C, 3, h, w] in `state` that are for a pair of images [C, 6, h, w] in `own`.

    The second image's filters are `own`'s, as ReStyle begins.
    """
    return {
        name: torch.cat([state[name], value[:, 3:]], dim=1)
        for name, value in own.items()
        if value.ndim == 4 and name in state and state[name].shape == value[:, :3].shape != value.shape
    }


class BackboneEncoder(ProgressiveEncoder):
    """The beginning of all encoders on IR-SE50."""

    def __init__(self, n_styles: int, style_dim: int, steps: int = 0) -> None:
        super().__init__(n_styles, style_dim, steps)
        self.input_layer = stem(self.in_channels, 64)
        self.body = ir_se50_body()

    def initialise_from_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Copy input layer and body from an ArcFace IR-SE50 state dict; its output layer is not used.

        ReStyle's three further input channels keep the filters they start with.
        Raises UserError, naming the first entry that is missing or has another shape.
        """
        for name in ("input_layer", "body"):
            module = getattr(self, name)
            own = module.state_dict()
            state = {**state, **widened(state, {f"{name}.{key}": value for key, value in own.items()})}
            for key, value in own.items():
                given = state.get(f"{name}.{key}")
                if given is None or given.shape != value.shape:
                    found = "missing" if given is None else f"of shape {list(given.shape)}"
                    raise UserError(
                        f"IR-SE50 weights: {name}.{key} is {found}, expected {list(value.shape)}; "
                        "give the public model_ir_se50.pth"
                    )
            module.load_state_dict({key: state[f"{name}.{key}"] for key in own})


class Encoder4Editing(BackboneEncoder):
    """IR-SE50 body, feature pyramid and one head per style.

    Args: n_styles: latents of the generator (`generator.n_latent`: 12, 14, 16 for SWAGAN 256, 512, 1024).
    Call: images [N, 3, 256, 256] in [-1, 1] -> offsets [N, n_styles, style_dim]. Smaller squares divisible by
    16 work too; ValueError for others.
    """

    def __init__(self, n_styles: int, style_dim: int = 512) -> None:
        super().__init__(n_styles, style_dim)
        self.styles = nn.ModuleList(StyleHead(512, style_dim, self._spatial(k)) for k in range(n_styles))
        self.latlayer1 = nn.Conv2d(256, 512, 1)
        self.latlayer2 = nn.Conv2d(128, 512, 1)

    @staticmethod
    def _spatial(style: int) -> int:
        """Size of the map that a style reads, for a 256 px input."""
        return 16 if style < _COARSE_STYLES else 32 if style < _MIDDLE_STYLES else 64

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height != width or height % 16 or height > 256:
            raise ValueError(f"e4e needs squares of at most 256 px, divisible by 16; got {height}x{width}")
        n_deltas = self.n_deltas
        maps = self._pyramid(images, n_deltas)
        first = self.styles[0](maps[16])
        return self.compose(first, [self.styles[k](maps[self._spatial(k)]) for k in range(1, n_deltas + 1)])

    def _pyramid(self, images: Tensor, n_deltas: int) -> dict[int, Tensor]:
        """Feature maps by their size at 256 px input; levels that no active head reads are left out."""
        x = self.input_layer(images)
        taps: dict[int, Tensor] = {}
        for index, unit in enumerate(self.body):
            x = unit(x)
            taps[index] = x
        maps = {16: x}
        if n_deltas >= _COARSE_STYLES:
            maps[32] = _merge(x, self.latlayer1(taps[_MIDDLE_UNIT]))
        if n_deltas >= _MIDDLE_STYLES:
            maps[64] = _merge(maps[32], self.latlayer2(taps[_FINE_UNIT]))
        return maps


class WEncoder(BackboneEncoder):
    """HyperStyle's encoder to W: the mean over the last map and a linear layer; all offsets are equal."""

    def __init__(self, n_styles: int, style_dim: int = 512) -> None:
        super().__init__(n_styles, style_dim)
        self.linear = EqualLinear(512, style_dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.compose(self.linear(self.body(self.input_layer(images)).mean(dim=(2, 3))), [])


def _merge(coarse: Tensor, lateral: Tensor) -> Tensor:
    """One step of the top-down path (Lin et al. 2017), corners aligned as in pSp."""
    size = lateral.shape[-2:]
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=True) + lateral


class LatentDiscriminator(nn.Module):
    """D_w of e4e: latents [N, style_dim] -> logits [N, 1]."""

    def __init__(self, style_dim: int = 512, layers: int = 4) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for _ in range(layers - 1):
            modules += [nn.Linear(style_dim, style_dim), nn.LeakyReLU(0.2)]
        self.mlp = nn.Sequential(*modules, nn.Linear(style_dim, 1))

    def forward(self, w: Tensor) -> Tensor:
        return self.mlp(w)
