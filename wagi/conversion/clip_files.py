"""CLIP from the layouts in which people have it: OpenAI's TorchScript archive, Hugging Face's, open_clip's.

An archive's weights are read out of its zip; its program is never loaded.
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wagi.checkpoint import load_state, read_safetensors
from wagi.conversion.machine import Known, Machine, Refused, Stub
from wagi.conversion.pickles import TORCH
from wagi.conversion.sources import tensors
from wagi.errors import UserError
from wagi.networks.clip import CLIP, TextSize, VisionSize

_REMEDY = "give OpenAI's ViT-B-32.pt, or model.safetensors of a ViT from Hugging Face or open_clip"
_STORAGES = {"Float": "<f4", "Half": "<f2", "Double": "<f8", "Long": "<i8", "Int": "<i4", "Bool": "|b1"}
# Sizes of the archive beside the weights, and what open_clip and Hugging Face keep of older versions.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids")


def read(path: Path) -> CLIP:
    """The network of a file, frozen and in eval mode. Raises UserError for what is no CLIP with a ViT."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_REMEDY}", 2)
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    state = _archive(path) if zipped else read_safetensors(path)[0]
    foreign = any(name.startswith("text_model.") for name in state)
    state = tensors(_renamed(state) if foreign else state, str(path))
    state = {name: value for name, value in state.items() if name.split(".")[-1] not in _NO_WEIGHTS}
    network = CLIP(*_sizes(state, path), quick=_quick(path, default=zipped or foreign))
    load_state(network, state, str(path))
    return network.eval().requires_grad_(False)


def _sizes(state: Mapping[str, Tensor], path: Path) -> tuple[TextSize, VisionSize]:
    """The towers' sizes, from the shapes of their weights."""
    if "visual.layer1.0.conv1.weight" in state:
        raise UserError(f"{path}: a CLIP with a ResNet; {_REMEDY}")
    try:
        kernel, words = state["visual.conv1.weight"], state["token_embedding.weight"]
        places = state["visual.positional_embedding"].shape[0] - 1
        context, features = state["positional_embedding"].shape[0], state["text_projection"].shape[1]
        counts = [_layers(state, prefix) for prefix in ("transformer.", "visual.transformer.")]
        patch = kernel.shape[2]
    except (KeyError, IndexError):
        raise UserError(f"{path}: no layout of CLIP that is known here; {_REMEDY}") from None
    text = TextSize(words.shape[1], counts[0], context, words.shape[0], features)
    return text, VisionSize(kernel.shape[0], counts[1], patch, patch * math.isqrt(places))


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    start = f"{prefix}resblocks."
    return len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)})


def _quick(path: Path, default: bool) -> bool:
    """True for weights of OpenAI's activation: a settings file beside them says, or the layout."""
    for name in ("config.json", "open_clip_config.json"):
        try:
            found = json.loads((path.parent / name).read_text(encoding="utf-8"))
            if "model_cfg" in found:
                return bool(found["model_cfg"].get("quick_gelu", False))
            return str(found["text_config"].get("hidden_act", "quick_gelu")) == "quick_gelu"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return default


# --------------------------------------------------------------------------------------- Hugging Face's names

_TOWERS = {"text_model.": "", "vision_model.": "visual."}
_PARTS = {
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.": "conv1.",
    "final_layer_norm.": "ln_final.",
    "pre_layrnorm.": "ln_pre.",  # so published
    "post_layernorm.": "ln_post.",
    "encoder.layers.": "transformer.resblocks.",
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
}


def _renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's names for Hugging Face's; projections are transposed there, and q, k, v apart."""
    found, apart = {}, {}
    for name, value in state.items():
        if name in ("text_projection.weight", "visual_projection.weight"):
            found["text_projection" if name[0] == "t" else "visual.proj"] = value.T
            continue
        for old, new in _TOWERS.items():
            name = new + name[len(old) :] if name.startswith(old) else name
        for old, new in _PARTS.items():
            name = name.replace(old, new)
        if ".self_attn." in name:
            apart[name] = value
        else:
            found[name] = value
    for name in [name for name in apart if ".q_proj." in name]:
        parts = [apart.pop(name.replace("q_proj", f"{letter}_proj"), None) for letter in "qkv"]
        if all(isinstance(part, Tensor) for part in parts):
            found[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)  # type: ignore[arg-type]
    return found | apart


# ----------------------------------------------------------------------------------------- OpenAI's archive


class _Storage(NamedTuple):
    """A record of the archive, and the type of its numbers."""

    record: str
    dtype: str


class _View(NamedTuple):
    """A tensor of the archive: where it lies in a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _view(storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> _View:
    if not isinstance(storage, _Storage):
        raise Refused("holds a tensor without numbers")
    return _View(storage, offset, tuple(shape), tuple(stride))


class _Scripted(dict[str, Callable[..., object]]):
    """The names of a TorchScript module: classes of its own program, of which only the state is read."""

    _OWN = ("__torch__.", "torch.jit._pickle.")

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).startswith(self._OWN)

    def __missing__(self, name: str) -> Callable[..., object]:
        return lambda *_: Stub()


class _ArchiveMachine(Machine):
    """A Machine that knows the records of the zip."""

    def _do_binpersid(self, _: Any) -> None:
        words = self.stack[-1]
        if not (isinstance(words, tuple) and len(words) == 5 and isinstance(words[1], Known)):
            raise Refused("names a storage in no way that is known")
        kind = words[1].name.rsplit(".", 1)[-1].removesuffix("Storage")
        if kind not in _STORAGES:
            raise Refused(f"holds numbers of type {kind}")
        self.stack[-1] = _Storage(str(words[2]), _STORAGES[kind])


def _archive(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by their names. Raises UserError."""
    names = _Scripted({**TORCH, "torch._utils._rebuild_tensor_v2": _view})
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.count("/data") == 1]
            if sum(info.file_size for info in infos) > path.stat().st_size:  # they are stored as they are
                raise Refused("has parts that claim to be larger than the file")
            (data,) = [info.filename for info in infos if info.filename.endswith("/data.pkl")]
            views = dict(_walk(_ArchiveMachine(names).read(BytesIO(archive.read(data))), ""))
            folder = data.removesuffix(".pkl")
            return {
                name: _tensor(archive.read(f"{folder}/{view.storage.record}"), view)
                for name, view in views.items()
            }
    except Refused as reason:
        raise UserError(f"{path}: refused: it {reason}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"{path}: a damaged archive, or none of PyTorch ({reason}); {_REMEDY}") from None


def _walk(found: Any, name: str) -> Iterator[tuple[str, _View]]:
    """Every tensor below an object, by the way to it."""
    if isinstance(found, _View):
        yield name, found
        return
    state = found.state if isinstance(found, Stub) else found
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from _walk(value, f"{name}.{key}" if name else str(key))


def _tensor(raw: bytes, view: _View) -> Tensor:
    """The tensor of a view into a record's numbers. ValueError where it claims more than there are."""
    numbers = torch.from_numpy(np.frombuffer(raw, view.storage.dtype).copy())
    sides = [view.offset, *view.shape, *view.stride]
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.stride, strict=True))
    if not all(type(side) is int and side >= 0 for side in sides) or last >= max(len(numbers), 1):
        raise ValueError("a tensor claims more numbers than its record has")
    return numbers.as_strided(view.shape, view.stride, view.offset)
