"""Parts of other checkpoints that a stage goes on from, and whose settings they bring."""

import dataclasses
import sys

from torch import nn

from wagi import checkpoint
from wagi.config import ModelConfig
from wagi.errors import UserError
from wagi.networks.build import PART_SETTINGS, build_part
from wagi.networks.e4e import HEADS, widened

Sources = dict[str, tuple[dict, str]]  # part -> (checkpoint, path)
# The settings by which a small encoder's weights have other shapes, or mean something else; others have none.
_SIZES = ("encoder_input", "encoder_width")


def adopt(
    stage: str, model: ModelConfig, generator: str | None, encoder: str | None, chosen: frozenset[str]
) -> tuple[ModelConfig, Sources]:
    """The settings with those of --generator and --encoder in place of the preset's, and both opened.

    The image size must be the same. Where an encoder is trained, its settings among `chosen` stay as they
    are. UserError where a part that the stage needs is missing or does not fit.
    """
    if stage == "generator":
        if generator or encoder:
            raise UserError(
                "--generator, --encoder: not for stage generator; --init starts from a checkpoint", 2
            )
        return model, {}
    opened = {path: checkpoint.read(path) for path in {generator, encoder} if path}
    sources: Sources = {}
    for part, path in (("generator", generator or encoder), ("encoder", encoder or generator)):
        if path and part in opened[path]["weights"]:
            sources[part] = (opened[path], path)
    if "generator" not in sources:
        given = generator or encoder
        raise UserError(f"--generator {given}: has no generator" if given else "--generator: is needed", 2)
    if stage in ("inversion", "hypernetwork") and "encoder" not in sources:
        raise UserError(
            f"--encoder: {encoder or generator} has no encoder; give a checkpoint of stage encoder", 2
        )
    for part, (content, path) in sources.items():
        there = checkpoint.model_config(content, path)
        trained = stage == part == "encoder"
        if not trained or _same_kind(model, there):
            model = _adopt_part(model, part, there, path, chosen if trained else frozenset())
    if "encoder" in sources:
        content, path = sources["encoder"]
        there = checkpoint.model_config(content, path)
        if (there.n_latent, there.style_dim) != (model.n_latent, model.style_dim):
            raise UserError(f"--encoder {path}: made for another generator (latents differ)", 2)
    return model, sources


def _same_kind(a: ModelConfig, b: ModelConfig) -> bool:
    return (a.encoder, a.restyle_steps) == (b.encoder, b.restyle_steps)


def _adopt_part(
    model: ModelConfig, part: str, there: ModelConfig, path: str, chosen: frozenset[str]
) -> ModelConfig:
    if there.size != model.size:
        raise UserError(
            f"{path}: made for {there.size} px images, the settings say size={model.size}; "
            "choose the preset of that size", 2,
        )  # fmt: skip
    changes = {
        name: getattr(there, name)
        for name in PART_SETTINGS[part]
        if name not in chosen and getattr(there, name) != getattr(model, name)
    }
    for name, value in changes.items():
        if name != "param_dim":
            print(
                f"note: {name}={value} from {path} (the settings said {getattr(model, name)})",
                file=sys.stderr,
            )
    return dataclasses.replace(model, **changes)


def begin_encoder(model: ModelConfig, content: dict, path: str) -> nn.Module:
    """The encoder that a run trains: the checkpoint's, or one as the settings have it.

    One of another kind begins with those of the checkpoint's weights that fit, one of another size afresh.
    """
    there = checkpoint.model_config(content, path)
    if not _same_kind(model, there):
        return _fitting(model, content, path)
    used = _SIZES if model.encoder.startswith("small") else ()
    sizes = {name: getattr(model, name) for name in used if getattr(model, name) != getattr(there, name)}
    if not sizes:
        return checkpoint.build_loaded(content, "encoder", path)
    wanted = ", ".join(f"{name}={value} (there {getattr(there, name)})" for name, value in sizes.items())
    print(f"note: the encoder of {path} has another size; this one starts fresh: {wanted}", file=sys.stderr)
    return build_part(model, "encoder")


def _fitting(model: ModelConfig, content: dict, path: str) -> nn.Module:
    """An encoder of another kind than the checkpoint's, which begins with those of its weights that fit.

    One with steps says what to add, one without where latents are: heads are not taken over between them.
    """
    encoder, state = build_part(model, "encoder"), content["weights"]["encoder"]
    if bool(model.restyle_steps) != bool(checkpoint.model_config(content, path).restyle_steps):
        state = {name: value for name, value in state.items() if name.split(".")[0] not in HEADS}
    fresh = checkpoint.grow(encoder, {**state, **widened(state, encoder.state_dict())})
    kind = f"{model.encoder}, restyle_steps={model.restyle_steps}"
    print(f"note: encoder={kind} begins with what fits of {path}: {len(fresh)} new tensors", file=sys.stderr)
    return encoder
