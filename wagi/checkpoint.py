"""Checkpoints: {config, weights, training} in one file, and models built from them.

`weights` holds the averaged weights that inference uses, by part: generator, encoder, aligner, fusion. Inside
a part the names are the published ones; the generator's dict carries `latent_avg` [style_dim] besides.
`training` is all that a resumed run needs, and nothing else reads it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wagi.config import ModelConfig, model_from_dict, to_dict
from wagi.errors import UserError
from wagi.files import beside

if TYPE_CHECKING:
    from wagi.model import WaGI
    from wagi.networks.swagan import Generator

FORMAT, VERSION = "wagi", 1
PARTS = ("generator", "encoder", "aligner", "fusion")
# Which part of the settings belongs to which part of the model.
PART_SETTINGS = {
    "generator": (
        "size", "generator", "style_dim", "n_mlp", "channel_multiplier", "max_channels", "to_rgb_kernel",
        "param_dim",
    ),
    "encoder": ("encoder", "encoder_input", "encoder_width"),
    "aligner": ("aligner_channels",),
    "fusion": ("feature_levels", "wavelet_levels", "fusion_widths", "fusion_hidden"),
}  # fmt: skip
_MADE_BY = {"generator": "generator", "encoder": "encoder", "aligner": "inversion", "fusion": "inversion"}


# ------------------------------------------------------------------------------------------- modules


def build_part(config: ModelConfig, part: str) -> nn.Module:
    """One part of the model with fresh weights. Raises UserError when the settings do not fit together."""
    try:
        return _BUILDERS[part](config)
    except ValueError as error:
        raise UserError(f"model settings: {error}", 2) from None


def _build_generator(config: ModelConfig) -> nn.Module:
    from wagi.networks.stylegan2 import StyleGAN2Generator
    from wagi.networks.swagan import Generator

    kind = {"swagan": Generator, "stylegan2": StyleGAN2Generator}[config.generator]
    return kind(
        config.size, config.style_dim, config.n_mlp, config.channel_multiplier, config.max_channels,
        config.to_rgb_kernel,
    )  # fmt: skip


def n_latent(config: ModelConfig) -> int:
    """Latents of the configured generator (paper_vs_references 12: SWAGAN has two fewer)."""
    log_size = config.size.bit_length() - 1
    return 2 * log_size - (4 if config.generator == "swagan" else 2)


def _build_encoder(config: ModelConfig) -> nn.Module:
    if config.encoder == "small":
        from wagi.networks.small_encoder import SmallEncoder

        return SmallEncoder(
            n_latent(config), config.style_dim, input_size=config.encoder_input, width=config.encoder_width
        )
    if config.resolution != 256:
        raise ValueError(
            f"encoder={config.encoder} reads 256 px images, size is {config.size}; set encoder=small"
        )
    from wagi.networks.e4e import Encoder4Editing
    from wagi.networks.psp import PixelToStyle

    kind = {"e4e": Encoder4Editing, "psp": PixelToStyle}[config.encoder]
    return kind(n_latent(config), config.style_dim)


def _build_aligner(config: ModelConfig) -> nn.Module:
    from wagi.networks.alignment import DistortionAligner

    return DistortionAligner(config.aligner_channels)


def _build_fusion(config: ModelConfig) -> nn.Module:
    from wagi.networks.fusion import ConsultationEncoder
    from wagi.networks.layers import channels

    widths = {r: channels(r, config.channel_multiplier, config.max_channels) for r in config.feature_levels}
    return ConsultationEncoder(
        config.resolution, widths, config.wavelet_levels, config.fusion_widths, config.fusion_hidden or None
    )


_BUILDERS = {
    "generator": _build_generator,
    "encoder": _build_encoder,
    "aligner": _build_aligner,
    "fusion": _build_fusion,
}


# ------------------------------------------------------------------------------------------ state dicts


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """The module's state dict on the CPU, with `latent_avg`, which the published layout leaves out."""
    state = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    if isinstance(average := getattr(module, "latent_avg", None), Tensor):
        state["latent_avg"] = average.detach().cpu().clone()
    return state


def difference(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """Readable differences between two state dicts; empty when names and shapes agree."""
    lines = [f"missing {name} {list(expected[name].shape)}" for name in expected if name not in found]
    lines += [f"unexpected {name} {list(found[name].shape)}" for name in found if name not in expected]
    lines += [
        f"{name}: {list(found[name].shape)} in the file, {list(expected[name].shape)} here"
        for name in expected
        if name in found and expected[name].shape != found[name].shape
    ]
    return lines


def load_state(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Strict loading of what `state_of` returned. `where` names file and part in the error."""
    if lines := difference(state_of(module), state):
        more = f" and {len(lines) - 4} more" if len(lines) > 4 else ""
        raise UserError(f"{where}: weights do not fit the settings: {'; '.join(lines[:4])}{more}")
    grow(module, state)


@torch.no_grad()
def grow(module: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Copy every tensor whose name and shape fit; return the names that stay as they were."""
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    kept = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
    for name in own.keys() - set(kept):
        own[name].copy_(state[name])
    return kept


# ------------------------------------------------------------------------------------------------ files


def save(
    path: str | Path,
    stage: str,
    config: ModelConfig,
    weights: dict[str, dict[str, Tensor]],
    training: dict | None = None,
) -> None:
    """Write a checkpoint beside its place, then rename: the file is always whole."""
    path = Path(path)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "stage": stage,
        "config": {"model": to_dict(config)},
        "weights": weights,
        "training": training or {},
    }
    try:
        with beside(path) as part, open(part, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot write the checkpoint ({error.strerror or error})") from None


def read(path: str | Path) -> dict:
    """The content of a checkpoint file on the CPU. Raises UserError when it is not one of ours."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    if path.suffix == ".safetensors":
        from wagi.conversion.files import read_released

        return read_released(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds for a damaged file
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{path}: not readable as a checkpoint ({reason})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{path}: not a WaGI checkpoint; convert public weights with `python -m wagi.convert`"
        )
    if content["version"] > VERSION:
        raise UserError(
            f"{path}: checkpoint version {content['version']} is newer than this program ({VERSION})"
        )
    return content


def model_config(content: dict, path: str | Path) -> ModelConfig:
    """The model settings of a checkpoint that `read` returned."""
    return model_from_dict(content["config"]["model"], str(path))


def build_loaded(content: dict, part: str, path: str | Path) -> nn.Module:
    """One part with the checkpoint's weights, in eval mode. UserError when the stage does not contain it."""
    if part not in content["weights"]:
        raise UserError(
            f"{path}: a checkpoint of stage '{content['stage']}' has no {part}; "
            f"train it with `python -m wagi.train {_MADE_BY[part]}`"
        )
    module = build_part(model_config(content, path), part)
    load_state(module, content["weights"][part], f"{path} ({part})")
    return module.eval()


def load_generator(path: str | Path) -> "Generator":
    """The generator of any checkpoint, in eval mode."""
    return build_loaded(read(path), "generator", path)  # type: ignore[return-value]


def load_model(path: str | Path) -> "WaGI":
    """The whole model of an inversion checkpoint, in eval mode. UserError for other stages."""
    return build_model(read(path), path)


def build_model(content: dict, path: str | Path) -> "WaGI":
    """The same from what `read` returned, for those who need the settings too."""
    from wagi.model import WaGI

    return WaGI(*(build_loaded(content, part, path) for part in PARTS)).eval()  # type: ignore[arg-type]
