"""The networks behind the files: settings read from shapes, strict comparison, the nearest known layout."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from wagi.checkpoint import differences
from wagi.config import ModelConfig
from wagi.conversion.sources import State
from wagi.errors import UserError
from wagi.networks import layers
from wagi.networks.build import build_part

_FIXED = (".kernel", ".ll", ".lh", ".hl", ".hh")


# -------------------------------------------------------------------------------------- known layouts


def shapes_of(module: nn.Module) -> State:
    """Names and shapes (meta tensors) of a state dict."""
    return dict(module.state_dict())


@cache
def part(config: ModelConfig, name: str) -> State:
    """Names and shapes of one part of a model, without memory for its numbers."""
    with torch.device("meta"):
        return shapes_of(build_part(config, name))


def _encoder(styles: int) -> Callable[[], nn.Module]:
    from wagi.networks.e4e import Encoder4Editing

    return lambda: Encoder4Editing(styles)


def _backbone() -> nn.Module:
    from wagi.networks.irse import Backbone

    return Backbone()


def trunk(net: str) -> nn.Module:
    from wagi.features import TRUNKS

    return nn.ModuleDict({"features": TRUNKS[net][0]()})


def linear(net: str) -> nn.Module:
    """LPIPS v0.1 linear layers in their published names; index 0 is a dropout."""
    from wagi.features import TRUNKS

    heads = [nn.Sequential(nn.Identity(), nn.Conv2d(c, 1, 1, bias=False)) for c in TRUNKS[net][1].values()]
    return nn.ModuleDict({f"lin{k}": nn.ModuleDict({"model": head}) for k, head in enumerate(heads)})


@cache
def _known_layouts() -> dict[str, State]:
    with torch.device("meta"):
        return {label: shapes_of(make()) for label, make in _makers().items()}


def _makers() -> dict[str, Callable[[], nn.Module]]:
    def generator(kind: str, size: int) -> Callable[[], nn.Module]:
        return lambda: build_part(ModelConfig(size=size, generator=kind), "generator")

    sizes = (64, 128, 256, 512, 1024)
    hfgi = ModelConfig(size=1024, generator="stylegan2", feature_levels=(64,), wavelet_levels=())
    return {
        **{f"SWAGAN generator {size}": generator("swagan", size) for size in sizes},
        **{f"StyleGAN2 generator {size}": generator("stylegan2", size) for size in sizes},
        **{f"e4e or pSp encoder of {n} styles": _encoder(n) for n in (18, 16, 14, 12)},
        "HFGI residue": lambda: build_part(hfgi, "fusion"),
        "HFGI grid_align": lambda: build_part(hfgi, "aligner"),
        "ArcFace IR-SE50": _backbone,
        "AlexNet features": lambda: trunk("alex"),
        "VGG16 features": lambda: trunk("vgg"),
        "LPIPS linear layers (alex)": lambda: linear("alex"),
        "LPIPS linear layers (vgg)": lambda: linear("vgg"),
    }


def nearest(state: Mapping[str, Any]) -> str:
    """The known layout that shares most names and shapes with `state`, in words; says so when none does."""
    best, name = 0.0, ""
    for label, known in _known_layouts().items():
        same = known.keys() & state.keys()
        shaped = sum(known[key].shape == getattr(state[key], "shape", None) for key in same)
        score = (len(same) + shaped) / (2 * len(known.keys() | state.keys()))
        if score > best:
            best, name = score, label
    return f"nearest known layout: {name} ({best:.0%} alike)" if best > 0.02 else "like no known layout"


# ------------------------------------------------------------------------------------------ comparing


def fit(expected: Mapping[str, Any], state: State, where: str, what: str) -> State:
    """`state`, proved to be `what` by names and shapes. Fixed filters and BatchNorm counters may be absent.

    Raises UserError with the differences and the nearest known layout, or for a filter that is not ours.
    """
    complete = dict(state)
    for name, value in expected.items():
        if name in complete or not name.endswith((*_FIXED, ".num_batches_tracked")):
            continue
        fixed = torch.tensor(0) if name.endswith("tracked") else _filter(name)
        if fixed.shape == value.shape:
            complete[name] = fixed
    if text := differences(expected, complete):
        raise UserError(f"{where}: not a {what}: {text}; {nearest(state)}")
    for name in expected:
        if name.endswith(_FIXED) and not torch.allclose(complete[name], _filter(name), atol=1e-5):
            raise UserError(f"{where}: {name} is not the filter [1, 3, 3, 1] or Haar; an unknown network")
    return {name: complete[name] for name in expected}


def _filter(name: str) -> Tensor:
    """The fixed buffer of this name in a generator."""
    if name.endswith(".kernel"):
        return layers.fir_kernel(gain=4)
    haar = layers.InverseHaarTransform() if "iwt." in name else layers.HaarTransform()
    return haar.state_dict()[name.rsplit(".", 1)[1]]


# ------------------------------------------------------------------------------- generators by shapes


def generator_config(state: State, where: str) -> ModelConfig:
    """Settings of a SWAGAN or StyleGAN2 generator from its shapes. UserError when it is neither."""
    try:
        bands = state["to_rgb1.bias"].shape[1]
        kind = {12: "swagan", 3: "stylegan2"}[bands]
        blocks = sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in state)
        # The highest number, so that a gap is reported as missing and not as a smaller network.
        n_mlp = max(int(name.split(".")[1]) for name in state if name.startswith("style."))
        style_dim = state["conv1.conv.modulation.weight"].shape[1]
        kernel = state["to_rgb1.conv.weight"].shape[-1]
        names = ["conv1", *(f"convs.{2 * i + 1}" for i in range(blocks))]
        widths = [state[f"{name}.conv.weight"].shape[1] for name in names]
    except (KeyError, IndexError, ValueError):
        raise UserError(f"{where}: not a generator of a known kind; {nearest(state)}") from None
    size = 2 ** (blocks + (3 if kind == "swagan" else 2))
    if size not in (32, 64, 128, 256, 512, 1024) or kernel not in (1, 3):
        what = f"a generator of {size} px with {kernel}x{kernel} output layers"
        raise UserError(f"{where}: {what} is not known; {nearest(state)}")
    multiplier, limit = _width_table(widths, where)
    return ModelConfig(
        size=size, generator=kind, style_dim=style_dim, n_mlp=n_mlp, channel_multiplier=multiplier,
        max_channels=limit, to_rgb_kernel=kernel, **_fusion_levels(size, kind, widths),
    )  # fmt: skip


def _fusion_levels(size: int, kind: str, widths: list[int]) -> dict[str, Any]:
    """The paper's levels at this size (decision 5); StyleGAN2 has HFGI's single one."""
    resolution = min(256, size)
    if kind == "stylegan2":
        return {"feature_levels": (resolution // 4,), "wavelet_levels": ()}
    return {"feature_levels": (resolution // 4, resolution // 2), "wavelet_levels": (resolution // 2,)}


def _width_table(widths: list[int], where: str) -> tuple[float, int]:
    """channel_multiplier and max_channels that give these widths at 4, 8, 16, ... (`layers.channels`)."""
    limit, top = max(widths), 4 << (len(widths) - 1)
    for multiplier in (2, 1, 0.5, 0.25, 0.125, widths[-1] * top / 16384):
        if all(layers.channels(4 << i, multiplier, limit) == width for i, width in enumerate(widths)):
            return multiplier, limit
    raise UserError(f"{where}: channels {widths} at 4, 8, 16, ... px follow no known table")


def seeded_noise(expected: Mapping[str, Tensor], seed: int = 0) -> State:
    """Noise maps for a generator whose file has none: early public checkpoints drew them anew each time."""
    rng = torch.Generator().manual_seed(seed)
    names = [name for name in expected if name.startswith("noises.")]
    return {name: torch.randn(expected[name].shape, generator=rng) for name in names}


@torch.no_grad()
def mean_latent(config: ModelConfig, state: State, samples: int = 100_000, seed: int = 0) -> Tensor:
    """Mean of W over seeded samples: training checkpoints carry none (decision 39)."""
    with torch.device("meta"):
        generator = build_part(config, "generator")
    style = generator.style.to_empty(device="cpu")  # type: ignore[union-attr,operator]
    style.load_state_dict({k[len("style.") :]: v for k, v in state.items() if k.startswith("style.")})
    generator.latent_avg = torch.zeros(config.style_dim)
    return generator.mean_latent(samples, seed)  # type: ignore[operator]
