"""Networks from settings: the four parts of a model, each with fresh weights."""

import torch
from torch import nn

from wagi.config import ModelConfig
from wagi.errors import UserError
from wagi.networks.alignment import DistortionAligner
from wagi.networks.e4e import Encoder4Editing, WEncoder
from wagi.networks.flow_alignment import FlowAligner
from wagi.networks.fusion import ConsultationEncoder
from wagi.networks.hypernetwork import HyperNetwork, tuned_layers
from wagi.networks.layers import channels
from wagi.networks.psp import PixelToStyle, SmallPixelToStyle
from wagi.networks.restyle import RestyleEditing, RestylePixelToStyle
from wagi.networks.small_encoder import SmallEncoder
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator

PARTS = ("generator", "encoder", "aligner", "fusion")  # of WaGI
ALL_PARTS = (*PARTS, "hypernetwork")
# The settings that each part is built from.
PART_SETTINGS = {
    "generator": (
        "size", "generator", "style_dim", "n_mlp", "channel_multiplier", "max_channels", "to_rgb_kernel",
        "param_dim",
    ),
    "encoder": ("encoder", "encoder_input", "encoder_width", "restyle_steps", "image_resize"),
    "aligner": ("aligner", "aligner_channels"),
    "hypernetwork": ("hyper_width", "hyper_steps"),
    "fusion": (
        "residual_resolution", "feature_levels", "wavelet_levels", "fusion_widths", "fusion_hidden", "gate",
        "post_skip", "zero_init",
    ),
}  # fmt: skip


def build_part(config: ModelConfig, part: str) -> nn.Module:
    """One of ALL_PARTS with fresh weights. Raises UserError when the settings do not fit together."""
    try:
        return _BUILDERS[part](config)
    except ValueError as error:
        raise UserError(f"model settings: {error}", 2) from None


def _generator(config: ModelConfig) -> Generator:
    kind = {"swagan": Generator, "stylegan2": StyleGAN2Generator}[config.generator]
    return kind(
        config.size, config.style_dim, config.n_mlp, config.channel_multiplier, config.max_channels,
        config.to_rgb_kernel,
    )  # fmt: skip


def _encoder(config: ModelConfig) -> nn.Module:
    small = {"small": SmallEncoder, "small-psp": SmallPixelToStyle}.get(config.encoder)
    if small:
        if config.resolution % config.encoder_input:
            raise ValueError(f"encoder_input={config.encoder_input} does not divide R = {config.resolution}")
        size, width, steps = config.encoder_input, config.encoder_width, config.restyle_steps
        return small(config.n_latent, config.style_dim, size, width, steps)
    if config.resolution != 256:
        raise ValueError(
            f"encoder={config.encoder} reads 256 px images, size is {config.size}; set encoder=small"
        )
    if config.encoder == "w":
        return WEncoder(config.n_latent, config.style_dim)
    if config.restyle_steps:
        restyle = {"e4e": RestyleEditing, "psp": RestylePixelToStyle}[config.encoder]
        return restyle(config.n_latent, config.style_dim, config.restyle_steps)
    return {"e4e": Encoder4Editing, "psp": PixelToStyle}[config.encoder](config.n_latent, config.style_dim)


def _aligner(config: ModelConfig) -> DistortionAligner | FlowAligner:
    if config.aligner == "flow":
        lowest = min(config.feature_levels + config.wavelet_levels)
        return FlowAligner(channels(lowest, config.channel_multiplier, config.max_channels))
    return DistortionAligner(config.aligner_channels)


def _fusion(config: ModelConfig) -> ConsultationEncoder:
    widths = {r: channels(r, config.channel_multiplier, config.max_channels) for r in config.feature_levels}
    return ConsultationEncoder(
        config.resolution, widths, config.wavelet_levels, config.fusion_widths, config.fusion_hidden or None,
        config.zero_init, config.gate == "plain", config.post_skip,
    )  # fmt: skip


def _hypernetwork(config: ModelConfig) -> HyperNetwork:
    with torch.device("meta"):
        layers = tuned_layers(_generator(config))
    return HyperNetwork(layers, min(256, config.size), config.hyper_width)


_BUILDERS = {
    "generator": _generator, "encoder": _encoder, "aligner": _aligner, "fusion": _fusion,
    "hypernetwork": _hypernetwork,
}  # fmt: skip
