"""Models with random weights scaled like trained ones, and their bundles, kept in a folder and used again."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wagi.config import ModelConfig, TrainConfig, apply_overrides, named
from wagi.presets import PRESETS

if TYPE_CHECKING:
    from wagi.model import WaGI

ROOT = Path(__file__).resolve().parent.parent
ENCODERS = ("e4e", "small")
_PRESETS = {32: "smoke", 64: "portraits-64", 128: "portraits-128", 256: "ffhq256", 1024: "ffhq1024"}
SIZES = tuple(_PRESETS)
# Noise strengths and gates of a trained model are small and not zero.
_NOISE, _SMALL, _IMAGE_STD = 0.05, 0.1, 0.5


def config(size: int, encoder: str | None = None, texts: Sequence[str] = ()) -> ModelConfig:
    """The settings of the preset of this size, NAME=VALUE texts on top.

    UserError for settings that cannot be, and (at building) where e4e does not fit.
    """
    chosen = ModelConfig(**PRESETS[_PRESETS[size]]["model"])
    chosen = dataclasses.replace(chosen, encoder=encoder) if encoder else chosen
    return apply_overrides(chosen, TrainConfig(), named(texts))[0]


def random_model(settings: ModelConfig, seed: int = 0) -> WaGI:
    """A model in eval mode in whose layers activations have about unit variance, images a spread of 0.5.

    Batch norms get the statistics of a seeded image, latents a variance of one; so latency, rounding and
    the range of half precision are those of a trained model.
    """
    import torch

    from wagi.model import WaGI
    from wagi.networks.build import PARTS, build_part
    from wagi_rt import probes

    torch.manual_seed(seed)
    parts: dict[str, Any] = {part: build_part(settings, part) for part in PARTS}
    model = WaGI(**parts, **settings.ways)
    generator = model.generator
    images = torch.from_numpy(probes.images(settings.size, seed, 1))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(_NOISE)
            elif not parameter.any() and name.endswith("weight"):
                parameter.normal_(0, _SMALL)
        for norm in norms:
            norm.momentum = 1.0  # running statistics become those of the image
        offsets = model.train().encode(images)
        _divide(_last_layers(model.encoder), float(offsets.std()))
        ws = offsets / offsets.std()
        state, naive = model.reconstruct(ws)
        _divide([generator.to_rgb1, *generator.to_rgbs], float(naive.std()) / _IMAGE_STD)
        naive *= _IMAGE_STD / naive.std()
        model.fuse(ws, state, naive, model.residual(images, naive))
        for norm in norms:
            norm.momentum = 0.1
    return model.eval()


def _last_layers(encoder: object) -> list:
    """The linear layers that write latents."""
    if hasattr(encoder, "styles"):
        return [head.linear for head in encoder.styles]
    return [encoder.first, *encoder.deltas]  # type: ignore[attr-defined]


def _divide(layers: list, factor: float) -> None:
    """Scale the output of linear layers or tWavelets by 1 / factor."""
    for layer in layers:
        weight = layer.conv.weight if hasattr(layer, "conv") else layer.weight
        weight /= factor
        layer.bias /= factor


def prepare(
    work: Path, size: int, encoder: str | None, precision: str = "fp32", texts: Sequence[str] = ()
) -> tuple[Path, Path]:
    """(checkpoint, bundle) of a random model in the folder `work`, made where they are not there yet.

    Their name holds a hash of the sources that make them. Takes a minute or two at full size.
    """
    settings = config(size, encoder, texts)
    label = "-".join([f"random-{size}-{settings.encoder}", *(text.replace("=", "-") for text in texts)])
    name = f"{label}-{_sources()}"
    checkpoint = work / f"{name}.pt"
    bundle = work / (name if precision == "fp32" else f"{name}-{precision}")
    if not checkpoint.is_file():
        from wagi.checkpoint import save, state_of
        from wagi.networks.build import PARTS

        _say(f"making {checkpoint}")
        work.mkdir(parents=True, exist_ok=True)
        model = random_model(settings)
        save(checkpoint, "inversion", settings, {part: state_of(getattr(model, part)) for part in PARTS})
    if not (bundle / "manifest.json").is_file():
        from export.bundle import export_model
        from wagi.checkpoint import load_model

        _say(f"exporting {bundle}")
        export_model(load_model(checkpoint), bundle, label, precision=precision, report=_say)
    return checkpoint, bundle


def _sources() -> str:
    """Changes with the code that makes checkpoints and bundles."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("export/*.py"), *ROOT.glob("wagi/*.py"), Path(__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
