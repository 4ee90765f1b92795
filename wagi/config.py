"""Settings: one dataclass for the model and one per training stage, made from a preset and `--set` texts."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wagi.errors import UserError
from wagi.limits import check
from wagi.presets import CONFIGURATIONS, PRESETS

STAGES = ("generator", "encoder", "inversion", "hypernetwork")
# A run may be resumed with other values of these: they do not change the next step's arithmetic ...
FREE_ON_RESUME = {"kimg", "log_every", "save_every", "grid_every", "snapshot_every", "patience"}
# ... or they do, which is said, and are the way out of a run that diverged or does not fit the machine.
SAID_ON_RESUME = {"lr", "encoder_lr", "mapping_lr", "discriminator_lr", "precision", "batch", "accumulate"}


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build the four parts of a model. Levels are resolutions in pixels."""

    size: int = 256
    generator: str = "swagan"  # swagan | stylegan2
    style_dim: int = 512
    n_mlp: int = 8
    channel_multiplier: float = 2
    max_channels: int = 512
    to_rgb_kernel: int = 1
    param_dim: int = 0  # > 0: the mapping network reads a scene's parameters (a distilled generator)
    encoder: str = "e4e"  # e4e | psp | w | small | small-psp
    restyle_steps: int = 0  # > 0: ReStyle over that encoder, so many steps
    hyper_width: int = 64  # HyperStyle: channels of the hypernetwork's first layer
    hyper_steps: int = 5
    encoder_input: int = 256
    encoder_width: int = 48
    residual_resolution: int = 0  # R; 0: min(256, size)
    aligner: str = "ada"  # ada: as published; flow: moves detail with an edit
    full_detail: bool = False  # above R, the input's own detail (decision 58); with aligner=flow
    # the naive image that the residual sees: full, averaged down; bilinear, sampled (HFGI); early, drawn to R
    naive: str = "full"
    image_resize: str = "area"  # how E0 and the residual get an image at R: area | pil (Pillow's bilinear)
    aligner_channels: tuple[int, ...] = (16, 32, 48, 64)
    feature_levels: tuple[int, ...] = (64, 128)
    wavelet_levels: tuple[int, ...] = (128,)
    fusion_widths: tuple[int, ...] = (32, 48, 64)
    fusion_hidden: int = 0  # width inside the heads; 0: as HFGI (the width of the head's output)
    gate: str = "residual"  # residual: (1 + g) x + h, as HFGI's code; plain: g x + h, as eqs. (8) and (9)
    post_skip: bool = False  # gate wavelets after the skip path is added, not before
    zero_init: bool = True  # heads start with gates that change nothing; False: at random, as HFGI's

    @property
    def resolution(self) -> int:
        """R, the resolution of the residual (decision 5)."""
        return self.residual_resolution or min(256, self.size)

    @property
    def ways(self) -> dict[str, Any]:
        """Settings of `wagi.model.WaGI` besides its parts."""
        return {
            "full_detail": self.full_detail,
            "early": self.naive == "early",
            "bilinear": self.naive == "bilinear",
            "pil": self.pil,
        }

    @property
    def pil(self) -> bool:
        """Images come to R as Pillow's bilinear filter reduces them."""
        return self.image_resize == "pil"

    @property
    def reads(self) -> dict[str, Any]:
        """Settings of `wagi.model.NaiveInverter` besides its parts: how E0 gets its images."""
        return {"pil": self.pil, "resolution": self.resolution}

    @property
    def n_latent(self) -> int:
        """Number of latents of the generator (decision 7: SWAGAN has two fewer)."""
        return 2 * (self.size.bit_length() - 1) - (4 if self.generator == "swagan" else 2)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of every stage. `batch` counts images per optimiser step over all processes."""

    batch: int = 8
    lr: float = 1e-4
    kimg: float = 800.0
    seed: int = 0
    precision: str = "fp32"  # fp32 | bf16 | fp16
    accumulate: int = 1
    optimizer: str = "ranger"  # ranger | adam
    clip: float = 0.0  # the largest norm of a gradient; 0: no limit
    lr_rampdown: float = 0.0  # the last fraction of the run over which the rate falls to 0 (cosine)
    ema_kimg: float = 10.0  # half-life of the weight average
    flip: bool = True
    holdout: int = 0  # the first images of the data set, kept for evaluation
    log_every: int = 50
    save_every: int = 1000
    grid_every: int = 1000
    snapshot_every: int = 0  # > 0: also keep RUN/step-*.pt
    patience: int = 0  # evaluations without a lower validation loss, after which the run ends; 0: no such end

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return max(1, round(self.kimg * 1000 / self.batch))


@dataclass(frozen=True)
class GeneratorConfig(TrainConfig):
    """Stage 1. gan: the paper's G0 from noise. distill: G0 and E0 from rendered parameters."""

    mode: str = "gan"  # gan | distill
    batch: int = 16
    lr: float = 2e-3
    kimg: float = 25000.0
    optimizer: str = "adam"
    mixing: float = 0.9
    r1_gamma: float = 10.0
    r1_every: int = 16
    path_weight: float = 2.0
    path_every: int = 4
    path_decay: float = 0.01
    latent_avg_beta: float = 0.995
    encoder_lr: float = 1e-3
    mapping_lr: float = 0.5  # distill: of weights that act with a factor 0.01
    lambda_image: float = 10.0
    lambda_wave: float = 0.25
    lambda_w: float = 3.0  # distill: of the mapping network's distance to E0's codes
    lambda_delta: float = 1.0  # distill: keeps E0's codes of all layers near the first, and so in W
    lambda_adv: float = 0.0
    mapped_share: float = 0.5  # distill: of a batch, decoded from the scene's parameters and not by E0
    lambda_looks: float = 0.0  # of portraits-features, both images shifted alike
    lambda_energy: float = 0.0  # of local detail energy
    lambda_lock: float = 0.0  # against detail that follows a grid
    detail_kimg: float = 20.0  # over which the last three rise to their weight
    lambda_edit: float = 0.0  # of what G0(E0(x)) misses of an edit's change; the data are scenes then
    lambda_read: float = 0.0  # of reading these parameters from E0's first code by a linear map
    read: tuple[str, ...] = ()
    # weight of background, clothes, skin, eyes, mouth, hair, hat, letters, accessories in the image loss
    region_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class ImageLossConfig(TrainConfig):
    """Settings of the stages that compare images (paper eq. 2)."""

    lambda_l2: float = 1.0
    lambda_wave: float = 0.0
    lambda_lpips: float = 0.8
    lambda_id: float = 0.1
    standins: bool = False  # LPIPS and ID are portraits-features and portraits-ID, for rendered portraits
    wave_norm: str = "l2"  # L_wave in l2, as eqs. (5) and (6), or in l1, as appendix A.2.1
    haar_scale: float = 1.0  # L_wave's filters: 1 orthonormal, 2 eq. (1)'s +-1, 0.5 averages (decision 17)
    region_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class EncoderConfig(ImageLossConfig):
    """Stage 2: E0 for a frozen G0 (decision 26)."""

    kimg: float = 1600.0
    lambda_delta: float = 2e-4
    lambda_adv: float = 0.1  # latent discriminator
    discriminator_lr: float = 2e-5
    r1_gamma: float = 10.0
    r1_every: int = 16
    pool: int = 50
    progressive_start: int = 20000  # steps; 0 trains all styles from the first step
    progressive_every: int = 2000
    lambda_teacher: float = 0.0  # of the mean squared distance of all codes to those of --teacher
    # IntereStyle: the loss sees these region labels only (2,3,4,5: skin, eyes, mouth, hair); empty: all
    interest: tuple[int, ...] = ()


@dataclass(frozen=True)
class InversionConfig(ImageLossConfig):
    """Stage 3: ADA and fusion, E0 and G0 frozen (paper eq. 2; decisions 20 to 25)."""

    lambda_wave: float = 0.1
    lambda_looks: float = 0.0  # of portraits-features, which the reports measure with too
    lambda_ada: float = 1.0
    lambda_wave_ada: float = 0.1
    ada_steps: int = 0  # steps of ADA alone before the joint training
    distortion: float = 0.15
    warp_probability: float = 0.9
    warp_per_sample: bool = True
    edit_probability: float = 0.5  # with --edited: the share of residuals taken from before a true edit
    # batch | running: statistics kept as they are (with --init), for batches too small to give good ones
    batch_norm: str = "batch"
    # with aligner=flow and scenes of edits: the flow alone, the first of its steps on images of half the size
    flow_steps: int = 0
    half_size_steps: int = 0
    lambda_photometric: float = 0.1  # of one view under the flow against the other, where both show it
    lambda_smooth: float = 0.02  # of the flow, where the edited naive image is smooth
    lambda_change: float = 0.3  # the aligned residual where an edit changes the picture
    lambda_flow: float = 0.03  # distance to the true flow, in pixels
    lambda_energy: float = 0.1  # of local detail energy, against hedging between two places by blurring both
    synthetic: float = 0.2  # the share of edits that are warps of the source
    perspective: float = 0.3  # the share of sources that are warped, their naive images alike
    textures: float = 0.0  # the share of inverted images that are textures or photographs (--photos)
    recolour: float = 0.0  # the share of images with random colours, for inputs unlike the data


@dataclass(frozen=True)
class HypernetworkConfig(ImageLossConfig):
    """HyperStyle's own stage in place of the inversion: offsets of G0's weights, E0 and G0 frozen."""

    kimg: float = 1600.0


STAGE_CONFIGS: dict[str, type[TrainConfig]] = {
    "generator": GeneratorConfig,
    "encoder": EncoderConfig,
    "inversion": InversionConfig,
    "hypernetwork": HypernetworkConfig,
}


def settings(
    preset: str, stage: str, overrides: dict[str, str] | None = None, configuration: str = ""
) -> tuple[ModelConfig, TrainConfig]:
    """The settings of one run: preset, then the paper's configuration, then `--set` texts on top."""
    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: no such preset; choose from {', '.join(PRESETS)}", 2)
    table = PRESETS[preset]
    model, train = ModelConfig(**table["model"]), STAGE_CONFIGS[stage](**table[stage])
    if configuration:
        model, train = _configure(model, train, configuration)
    return apply_overrides(model, train, overrides or {})


def _configure(model: ModelConfig, train: TrainConfig, letter: str) -> tuple[ModelConfig, TrainConfig]:
    """One of the paper's configurations, at the preset's levels."""
    if letter not in CONFIGURATIONS:
        raise UserError(f"--configuration {letter}: choose from {', '.join(CONFIGURATIONS)}", 2)
    chosen = CONFIGURATIONS[letter]
    model = dataclasses.replace(
        model,
        generator=chosen["generator"],
        feature_levels=model.feature_levels[: chosen["features"]],
        wavelet_levels=model.wavelet_levels if chosen["wavelets"] else (),
    )
    if not chosen["wave_loss"] and isinstance(train, InversionConfig):
        train = dataclasses.replace(train, lambda_wave=0.0, lambda_wave_ada=0.0)
    return model, train


def named(texts: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE texts of `--set` by name."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write NAME=VALUE", 2)
        found[name.replace("-", "_")] = value
    return found


def apply_overrides(
    model: ModelConfig, train: TrainConfig, overrides: dict[str, str]
) -> tuple[ModelConfig, TrainConfig]:
    """`--set name=value`: texts, read by the type of the setting. Stage settings win over model settings."""
    for name, text in overrides.items():
        if hasattr(train, name):
            train = dataclasses.replace(train, **{name: _parse(type(train), name, text)})
        elif name in {f.name for f in dataclasses.fields(model)}:
            model = dataclasses.replace(model, **{name: _parse(type(model), name, text)})
        else:
            known = sorted(f.name for part in (model, train) for f in dataclasses.fields(part))
            raise UserError(f"--set {name}: no such setting; settings are {', '.join(known)}", 2)
    check(model, train)
    return model, train


def _parse(owner: type, name: str, text: str) -> Any:
    """One setting from text; tuples are comma-separated, `` is the empty tuple."""
    kind = typing.get_type_hints(owner)[name]
    try:
        if isinstance(kind, types.GenericAlias):
            return tuple(kind.__args__[0](t) for t in text.split(",") if t)
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                text.lower()
            ]
        value = kind(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value
    except (ValueError, KeyError):
        shown = kind.__name__ if kind in (int, float, str, bool) else str(kind)
        raise UserError(f"--set {name}={text}: not a value of type {shown}", 2) from None


def to_dict(config: ModelConfig | TrainConfig) -> dict:
    """Plain containers, for checkpoints and logs (tuples become lists)."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def model_from_dict(values: dict, where: str) -> ModelConfig:
    """The model settings stored in a checkpoint; `where` names the file in the error."""
    known = {f.name for f in dataclasses.fields(ModelConfig)}
    if unknown := sorted(set(values) - known):
        raise UserError(f"{where}: unknown model settings {', '.join(unknown)}; written by a newer version?")
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return ModelConfig(**plain)
