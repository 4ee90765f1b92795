"""Tiny training stages with the paper's own settings, and L_wave written a second time."""

from collections.abc import Iterator
from pathlib import Path

import pywt
import torch
from export_models import randomised
from torch import Tensor, nn

from wagi.config import settings
from wagi.features import FeatureFiles
from wagi.networks.small_encoder import SmallEncoder
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator
from wagi.training.encoder import EncoderStage
from wagi.training.inversion import InversionStage
from wagi.training.stage import Phase, Stage

SIZE = 32
# The preset's losses, schedules and optimisers stay; only the networks are small.
TINY = {
    "size": str(SIZE), "style_dim": "16", "n_mlp": "2", "channel_multiplier": "0.03125", "max_channels": "16",
    "encoder": "small", "encoder_input": "32", "encoder_width": "8", "aligner_channels": "4,6,8,10",
    "feature_levels": "8,16", "wavelet_levels": "16", "fusion_widths": "6,8,10", "fusion_hidden": "8",
}  # fmt: skip
NO_NETWORKS = {"lambda_lpips": "0", "lambda_id": "0"}


def make(
    stage: str, overrides: dict[str, str] | None = None, configuration: str = "", **files: Path
) -> Stage:
    """Stage "encoder" or "inversion" of preset ffhq1024 on tiny random networks, in training mode.

    Without weight `files` (lpips_trunk, lpips_linear, arcface) the terms that need them are off.
    """
    chosen = {**TINY, **({} if files else NO_NETWORKS), **(overrides or {})}
    if configuration in ("A", "B", "C"):
        del chosen["feature_levels"], chosen["wavelet_levels"]
        chosen |= {"feature_levels": "8", "wavelet_levels": ""}
    model, train = settings("ffhq1024", stage, chosen, configuration)
    torch.manual_seed(3)
    kind = {"swagan": Generator, "stylegan2": StyleGAN2Generator}[model.generator]
    generator = kind(model.size, model.style_dim, model.n_mlp, model.channel_multiplier, model.max_channels)
    encoder = SmallEncoder(generator.n_latent, model.style_dim, model.encoder_input, model.encoder_width)
    parts: dict[str, nn.Module] = {"generator": randomised(generator), "encoder": randomised(encoder)}
    kind = {"encoder": EncoderStage, "inversion": InversionStage}[stage]
    made = kind(model, train, parts, FeatureFiles(**files))  # type: ignore[arg-type]
    for module in made.models.values():
        randomised(module)
    made.train_mode()
    return made


def pictures(n: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """A batch of smooth random images with some noise, [n, 3, SIZE, SIZE] in [-1, 1]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=rng) * 1.6 - 0.8
    smooth = nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")
    return {"image": (smooth + 0.2 * torch.randn(smooth.shape, generator=rng)).clamp(-1, 1)}


def phase(stage: Stage, step: int, number: int = 0) -> Phase:
    return stage.phases(step)[number]


def parameters(stage: Stage) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of the stage, trained or not, as "part.name"."""
    for part, module in {**stage.frozen, **stage.models}.items():
        for name, parameter in module.named_parameters():
            yield f"{part}.{name}", parameter


def trained_by(stage: Stage, loss: Tensor) -> set[str]:
    """The parts in which the loss has a gradient that is not zero."""
    for _, parameter in parameters(stage):
        parameter.grad = None
    loss.backward()
    return {name.split(".")[0] for name, p in parameters(stage) if p.grad is not None and p.grad.any()}


# --------------------------------------------------------------------------- L_wave, a second time


def numpy_wavelet_loss(x: Tensor, y: Tensor, k: int = 2) -> float:
    """Eq. (6) by PyWavelets: orthonormal, k + 1 levels, the mean square of each detail band, summed."""
    _, *levels = pywt.wavedec2((x - y).detach().double().numpy(), "haar", level=k + 1, axes=(2, 3))
    return sum(float((band**2).mean()) for level in levels for band in level)


def direct_wavelet_loss(x: Tensor, y: Tensor, k: int = 2) -> Tensor:
    """The same from the four pixels of each block, for gradients."""
    error, total = x - y, torch.zeros(())
    for _ in range(k + 1):
        p, q = error[..., ::2, ::2], error[..., ::2, 1::2]
        r, s = error[..., 1::2, ::2], error[..., 1::2, 1::2]
        for detail in (p + q - r - s, p - q + r - s, p - q - r + s):
            total = total + (detail / 2).square().mean()
        error = (p + q + r + s) / 2
    return total
