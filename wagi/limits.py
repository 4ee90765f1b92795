"""Settings that cannot work, named before anything is built."""

import typing

from wagi.errors import UserError

if typing.TYPE_CHECKING:
    from wagi.config import ModelConfig, TrainConfig


def check(model: "ModelConfig", train: "TrainConfig") -> None:
    """Refuse settings that cannot work, naming the setting."""

    def refuse(name: str, value: object, why: str) -> typing.NoReturn:
        raise UserError(f"{name}={value}: {why}", 2)

    if model.size < 32 or model.size > 1024 or model.size & (model.size - 1):
        refuse("size", model.size, "must be a power of two from 32 to 1024")
    for name in ("feature_levels", "wavelet_levels"):
        for level in getattr(model, name):
            if level not in (model.resolution >> k for k in range(5)) or level < 8:
                refuse(name, level, f"must be {model.resolution} divided by a power of two, at least 8")
    if model.resolution % 16 or model.size % model.resolution:
        refuse("residual_resolution", model.resolution, "must be a multiple of 16 that divides size")
    for name, value in (
        ("generator", ("swagan", "stylegan2")), ("encoder", ("e4e", "psp", "w", "small", "small-psp")),
        ("aligner", ("ada", "flow")), ("naive", ("full", "bilinear", "early")),
        ("image_resize", ("area", "pil")), ("gate", ("residual", "plain")),
    ):  # fmt: skip
        if getattr(model, name) not in value:
            refuse(name, getattr(model, name), f"choose from {', '.join(value)}")
    for name in ("hyper_width", "hyper_steps"):
        if getattr(model, name) < 1:
            refuse(name, getattr(model, name), "must be at least 1")
    if model.restyle_steps and model.encoder == "w":
        refuse("restyle_steps", model.restyle_steps, "not with encoder=w, which ReStyle does not have")
    if model.restyle_steps < 0:
        refuse("restyle_steps", model.restyle_steps, "must not be negative; 0 is an encoder without steps")
    if model.full_detail and model.aligner != "flow":
        refuse("full_detail", True, "needs aligner=flow, which knows where an edit moves detail")
    if model.generator == "stylegan2" and model.wavelet_levels:
        refuse("wavelet_levels", model.wavelet_levels, "a StyleGAN2 generator has no wavelets; set it empty")
    if train.precision not in ("fp32", "bf16", "fp16"):
        refuse("precision", train.precision, "choose from fp32, bf16, fp16")
    if train.optimizer not in ("adam", "ranger"):
        refuse("optimizer", train.optimizer, "choose from adam, ranger")
    for name in ("batch", "accumulate", "kimg", "lr", "log_every", "save_every", "grid_every"):
        if getattr(train, name) <= 0:
            refuse(name, getattr(train, name), "must be greater than 0")
    if getattr(train, "wave_norm", "l2") not in ("l2", "l1"):
        refuse("wave_norm", train.wave_norm, "choose from l2, l1")  # type: ignore[attr-defined]
    if getattr(train, "haar_scale", 1.0) <= 0:
        refuse("haar_scale", train.haar_scale, "must be greater than 0")  # type: ignore[attr-defined]
    if getattr(train, "batch_norm", "batch") not in ("batch", "running"):
        refuse("batch_norm", train.batch_norm, "choose from batch, running")  # type: ignore[attr-defined]
    if train.patience < 0:
        refuse("patience", train.patience, "must be 0 (off) or more")
    if train.patience and getattr(train, "mode", "") == "gan":
        refuse("patience", train.patience, "mode=gan has no validation loss; set it to 0")
    if getattr(train, "mode", "gan") not in ("gan", "distill"):
        refuse("mode", train.mode, "choose from gan, distill")  # type: ignore[attr-defined]
    weights = getattr(train, "region_weights", ())
    if weights and len(weights) != 9:
        refuse("region_weights", weights, "nine numbers are needed, one per region label")
