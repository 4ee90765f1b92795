"""Checkpoints: {config, weights, training} in one file, and models built from them.

`weights` holds the averaged weights that inference uses, by part: generator, encoder, aligner, fusion. Inside
a part the names are the published ones; the generator's dict carries `latent_avg` [style_dim] besides.
`training` is all that a resumed run needs, and nothing else reads it. A release is a .safetensors file: the
weights as PART.NAME, the settings in its metadata.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wagi.config import ModelConfig, model_from_dict, to_dict
from wagi.errors import UserError
from wagi.files import beside
from wagi.model import HyperInverter, NaiveInverter, WaGI
from wagi.networks.build import ALL_PARTS, PARTS, build_part
from wagi.networks.swagan import Generator

State = dict[str, Tensor]

FORMAT, VERSION = "wagi", 1
LABEL = {"format": FORMAT, "version": str(VERSION)}  # of a safetensors file of ours
LISTED = 4  # names per kind of difference in one message
_MADE_BY = {"aligner": "inversion", "fusion": "inversion"}  # a part -> its stage, where it is named otherwise


# ------------------------------------------------------------------------------------------ state dicts


def state_of(module: nn.Module) -> State:
    """The module's state dict on the CPU, with `latent_avg`, which the published layout leaves out."""
    return {name: value.detach().cpu().clone() for name, value in _named(module).items()}


def _named(module: nn.Module) -> State:
    average = getattr(module, "latent_avg", None)
    return {**module.state_dict(), **({"latent_avg": average} if isinstance(average, Tensor) else {})}


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Missing, unexpected and misshapen names in one line; empty when names and shapes agree."""
    groups = {
        "missing": [f"{k} {list(v.shape)}" for k, v in expected.items() if k not in found],
        "unexpected": [f"{k} {list(v.shape)}" for k, v in found.items() if k not in expected],
        "of another shape": [
            f"{k} {list(found[k].shape)} instead of {list(v.shape)}"
            for k, v in expected.items()
            if k in found and found[k].shape != v.shape
        ],
    }
    return "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in groups.items() if names)


def some(names: list[str]) -> str:
    """The first names of a long list, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def load_state(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Strict loading of what `state_of` returned, or of public weights. `where` begins the UserError."""
    if text := differences(_named(module), state):
        raise UserError(f"{where}: weights of another network: {text}")
    grow(module, state)


@torch.no_grad()
def grow(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copy every tensor whose name and shape fit; return the names that stay as they were."""
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    kept = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
    for name in own.keys() - set(kept):
        own[name].copy_(state[name])
    return kept


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of a network's weights: a generator's is its name in bundles and in directions."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(value.shape)} ".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------- writing


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` when all is written; UserError when the disk says no."""
    try:
        with beside(path) as part:
            yield part
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def save(
    path: str | Path,
    stage: str,
    config: ModelConfig,
    weights: dict[str, State],
    training: dict | None = None,
) -> None:
    """Write a checkpoint, whole or not at all."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "stage": stage,
        "config": {"model": to_dict(config)},
        "weights": weights,
        "training": training or {},
    }
    save_torch(Path(path), content)


def save_torch(path: Path, content: Any) -> None:
    """Write what `torch.save` takes, whole or not at all."""
    with _whole(path) as part, open(part, "wb") as file:
        torch.save(content, file)


def release(
    path: Path, stage: str, config: ModelConfig, weights: dict[str, State], facts: dict[str, str], half: bool
) -> None:
    """Write a .safetensors release, `facts` among its metadata; `half`: in half precision."""
    words = {
        **LABEL,
        **facts,
        "stage": stage,
        "config": json.dumps(to_dict(config)),
        "size": str(config.size),
        "n_latent": str(config.n_latent),
        "style_dim": str(config.style_dim),
    }
    state = {f"{part}.{name}": value for part, named in weights.items() for name, value in named.items()}
    save_safetensors(path, state, words, half)


def save_safetensors(path: Path, state: State, words: dict[str, str] | None, half: bool) -> None:
    """Tensors and text, whole or not at all; `half`: floats in half precision, where it can hold them."""
    from safetensors.torch import save_file

    state = {name: value.cpu().contiguous() for name, value in state.items()}
    with _whole(path) as part:
        save_file(_halved(state) if half else state, part, words)


def _halved(state: State) -> State:
    limit = torch.finfo(torch.float16).max
    small = {name for name, value in state.items() if value.is_floating_point() and value.abs().max() < limit}
    return {name: value.half() if name in small else value for name, value in state.items()}


# ---------------------------------------------------------------------------------------------- reading


class Foreign(UserError):
    """A file at `path` that can be read, or not, but is no checkpoint of ours."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: not a WaGI checkpoint ({reason})")
        self.path = path


def read(path: str | Path) -> dict:
    """The content of a checkpoint or a release on the CPU. Raises Foreign, or UserError for a damaged one."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    content = read_release(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    if content["version"] > VERSION:
        raise UserError(
            f"{path}: checkpoint version {content['version']} is newer than this program ({VERSION})"
        )
    return content


def _read_checkpoint(path: Path) -> dict:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises a dozen kinds for a damaged file
        with open(path, "rb") as file:
            head = file.read(4)
        if not head or (head == b"PK\x03\x04" and not zipfile.is_zipfile(path)):
            remedy = "put another copy in its place, or delete it and start again"
            raise UserError(f"{path}: truncated or damaged; {remedy}") from None
        raise Foreign(path, "it holds more than tensors and settings") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Foreign(path, "other content")
    return content


def read_release(path: Path) -> dict:
    """The content of a .safetensors release, as that of a checkpoint. UserError when it is none."""
    state, words = read_safetensors(path)
    if words.get("format") != FORMAT or not {"stage", "config", "version"} <= words.keys():
        raise Foreign(path, "no settings among its metadata")
    try:
        config, version = json.loads(words["config"]), int(words["version"])
        model_from_dict(config, str(path))
    except (ValueError, TypeError):
        raise UserError(f"{path}: its metadata is damaged; download it again") from None
    weights: dict[str, State] = {}
    for key, value in state.items():
        part, _, name = key.partition(".")
        if part in ALL_PARTS:
            weights.setdefault(part, {})[name] = value
    return {
        "format": FORMAT, "version": version, "stage": words["stage"], "config": {"model": config},
        "weights": weights, "training": {"converted": words},
    }  # fmt: skip


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """Tensors and metadata. UserError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise UserError(f"{path}: a truncated or damaged safetensors file ({str(error)[:100]})") from None


def model_config(content: dict, path: str | Path) -> ModelConfig:
    """The model settings of a checkpoint that `read` returned."""
    return model_from_dict(content["config"]["model"], str(path))


def build_loaded(content: dict, part: str, path: str | Path) -> nn.Module:
    """One part with the checkpoint's weights, in eval mode. UserError when the stage does not contain it."""
    if part not in content["weights"]:
        raise UserError(
            f"{path}: a checkpoint of stage '{content['stage']}' has no {part}; "
            f"train it with `python -m wagi.train {_MADE_BY.get(part, part)}`"
        )
    module = build_part(model_config(content, path), part)
    load_state(module, content["weights"][part], f"{path} ({part})")
    return module.eval()


def load_generator(path: str | Path) -> Generator:
    """The generator of any checkpoint, in eval mode."""
    return build_loaded(read(path), "generator", path)  # type: ignore[return-value]


def load_model(path: str | Path) -> WaGI:
    """The whole model of an inversion checkpoint, in eval mode. UserError for other stages."""
    return build_model(read(path), path)


def build_inverter(content: dict, path: str | Path) -> NaiveInverter:
    """The model that a checkpoint holds: WaGI, HyperStyle, or E0 and G0 alone. UserError without E0."""
    if "fusion" in content["weights"]:
        return build_model(content, path)
    parts: dict[str, Any] = {part: build_loaded(content, part, path) for part in ("generator", "encoder")}
    config = model_config(content, path)
    if "hypernetwork" not in content["weights"]:
        return NaiveInverter(**parts, **config.reads).eval()
    hypernetwork: Any = build_loaded(content, "hypernetwork", path)
    return HyperInverter(
        **parts, hypernetwork=hypernetwork, hyper_steps=config.hyper_steps, **config.reads
    ).eval()


def build_model(content: dict, path: str | Path) -> WaGI:
    """The same from what `read` returned, for those who need the settings too."""
    parts: dict[str, Any] = {part: build_loaded(content, part, path) for part in PARTS}
    return WaGI(**parts, **model_config(content, path).ways).eval()
