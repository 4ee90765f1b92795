"""The kind of a file, found from what it contains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from wagi import checkpoint
from wagi.conversion import KINDS, rebuild, tensorflow
from wagi.conversion.sources import Source, below, open_source
from wagi.errors import UserError

# Files that exist in public and that nothing here can use, by a prefix of their state dict.
_UNUSABLE = {
    "hypernet": "a HyperStyle hypernetwork without its decoder; give the whole checkpoint",
    "mapper": "a StyleCLIP mapper: editing models are not converted",
    "encoder_q": "MoCo weights: identity is measured with IR-SE50 here",
}

# opts.encoder_type -> kind, of encoders that read an image, or a pair of them.
_ENCODERS = {"Encoder4Editing": "e4e", "GradualStyleEncoder": "psp", "WEncoder": "w-encoder"}
_RESTYLE = {"ProgressiveBackboneEncoder": "restyle-e4e", "BackboneEncoder": "restyle-psp"}


def identify(source: Source) -> str:
    """The kind of a file by what it contains. UserError when it is none, with the nearest known layout."""
    content = source.content
    if source.container == "tensorflow":
        tensorflow.networks(source)
        return "swagan-tf"
    if source.container == "safetensors" and source.metadata.get("format") == "wagi":
        kind = "wagi" if source.metadata.get("stage") else source.metadata.get("kind", "")
        return kind if kind in KINDS else _flat_kind(source, content)
    if not isinstance(content, Mapping):
        return "interfacegan"
    if content.get("format") == "wagi":
        return "wagi"
    if "g_ema" in content or "g" in content:
        return _generator_kind(content.get("g_ema", content.get("g")))
    if isinstance(content.get("state_dict"), Mapping):
        return _prefixed(source, content)
    if {"mean", "comp", "std"} <= content.keys():
        return "ganspace"
    return _flat_kind(source, content)


def _generator_kind(state: Any) -> str:
    bias = state.get("to_rgb1.bias") if isinstance(state, Mapping) else None
    return "swagan" if isinstance(bias, Tensor) and bias.ndim == 4 and bias.shape[1] == 12 else "stylegan2"


def _prefixed(source: Source, content: Mapping[str, Any]) -> str:
    state = content["state_dict"]
    if below(state, "hypernet") and below(state, "decoder"):
        return "hyperstyle"
    _refuse_unusable(source, state)
    if not (below(state, "encoder") and below(state, "decoder")):
        near = rebuild.nearest(state)
        raise UserError(f"{source.path}: a state_dict without encoder. and decoder.; {near}")
    if below(state, "residue") or below(state, "grid_align"):
        return "hfgi"
    named = str(options(content).get("encoder_type"))
    pairs = getattr(state.get("encoder.input_layer.0.weight"), "shape", ())[1:2] == (6,)
    kind = (_RESTYLE if pairs else _ENCODERS).get(named)
    if kind is None:
        restyle = "restyle-" if pairs else ""
        raise UserError(
            f"{source.path}: e4e and pSp have the same names, and opts.encoder_type is {named[:40]!r}; "
            f"say which with --kind {restyle}e4e or --kind {restyle}psp"
        )
    return kind


def options(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The training options `opts` of a checkpoint; empty when it has none."""
    opts = content.get("opts")
    return opts if isinstance(opts, Mapping) else vars(opts) if hasattr(opts, "__dict__") else {}


def _refuse_unusable(source: Source, state: Mapping[str, Any]) -> None:
    for prefix, why in _UNUSABLE.items():
        if below(state, prefix):
            raise UserError(f"{source.path}: {why}")
    if "lin6.model.1.weight" in state or "features.3.squeeze.weight" in state:
        what = "LPIPS linear layers for SqueezeNet" if "lin6.model.1.weight" in state else "a SqueezeNet"
        raise UserError(f"{source.path}: {what}; LPIPS is computed with AlexNet (or VGG16) here")


def _flat_kind(source: Source, content: Mapping[str, Any]) -> str:
    _refuse_unusable(source, content)
    if list(content) == ["vector"]:
        return "interfacegan"
    shapes = {name: tuple(value.shape) for name, value in content.items() if isinstance(value, Tensor)}
    if "to_rgb1.bias" in shapes:
        return _generator_kind(content)
    if "output_layer.3.weight" in shapes and "input_layer.0.weight" in shapes:
        return "irse50"
    if "lin0.model.1.weight" in shapes:
        return "lpips-alex" if shapes.get("lin1.model.1.weight", (0, 0))[1] == 192 else "lpips-vgg"
    if "features.0.weight" in shapes:
        return "alexnet" if shapes["features.0.weight"][-1] == 11 else "vgg16"
    raise UserError(f"{source.path}: no public layout that is known here; {rebuild.nearest(content)}")


@contextmanager
def foreign_named() -> Iterator[None]:
    """Name the kind of a file that was given as a checkpoint and is none, and the way to convert it."""
    try:
        yield
    except checkpoint.Foreign as error:
        kind = identify(open_source(error.path))
        raise UserError(
            f"{error.path}: a public file of kind {kind}, not a WaGI checkpoint; convert it first: "
            f"`python -m wagi.convert {error.path} -o NAME.pt`"
        ) from None
