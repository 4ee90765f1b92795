"""Writing what was converted, whole or not at all, and reading our safetensors releases."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wagi import checkpoint
from wagi.config import model_from_dict, to_dict
from wagi.conversion import rebuild
from wagi.conversion.sources import Source, State, open_source
from wagi.errors import UserError
from wagi.files import beside

if TYPE_CHECKING:
    from wagi.conversion.kinds import Converted

SUFFIXES = (".pt", ".safetensors")


def check_output(path: Path, source: Path, overwrite: bool) -> None:
    """Refuse an output that cannot or must not be written, before any work. UserError, status 2."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"-o {path}: name it {' or '.join('*' + s for s in SUFFIXES)}", 2)
    if path.exists() and source.exists() and path.samefile(source):
        raise UserError(f"-o {path}: is the source itself", 2)
    if path.exists() and not overwrite:
        raise UserError(f"-o {path}: exists; add --overwrite to replace it", 2)
    if not path.parent.is_dir():
        raise UserError(f"-o {path}: no folder {path.parent}; make it first", 2)


def _write_beside(path: Path, write: Callable[[Path], Any]) -> None:
    try:
        with beside(path) as part:
            write(part)
    except OSError as error:
        raise UserError(f"-o {path}: cannot write ({error.strerror or error})") from None


def metadata(found: "Converted", source: Source, licence: str) -> dict[str, str]:
    """What a release says about itself; safetensors metadata is text to text."""
    words = {
        "format": checkpoint.FORMAT,
        "version": str(checkpoint.VERSION),
        "kind": found.kind,
        "source": source.path.name,
        "source_sha256": source.sha256(),
        "licence": licence or "not stated: see the source of the weights",
        **found.facts,
    }
    if found.config is not None:
        words |= {
            "stage": found.stage,
            "config": json.dumps(to_dict(found.config)),
            "size": str(found.config.size),
            "n_latent": str(checkpoint.n_latent(found.config)),
            "style_dim": str(found.config.style_dim),
        }
    return words


def write(found: "Converted", path: Path, words: dict[str, str], half: bool = False) -> None:
    """`path` by its suffix: .safetensors with `words` as metadata (`half`: in half precision), or .pt.

    A model's .pt is a checkpoint that training and export read, with `words` among its training facts; other
    weights' .pt is the flat public state dict that the feature networks read.
    """
    if path.suffix == ".safetensors":
        state = _flatten(found)
        _safetensors(halved(state) if half else state, path, words)
    elif half:
        raise UserError(f"-o {path}: --half writes *.safetensors only", 2)
    elif found.config is not None:
        checkpoint.save(path, found.stage, found.config, found.parts, {"converted": words})
    else:
        _write_beside(path, lambda part: torch.save(found.flat, part))


def _flatten(found: "Converted") -> State:
    if found.config is None:
        return found.flat
    return {f"{part}.{name}": value for part, state in found.parts.items() for name, value in state.items()}


def halved(state: State) -> State:
    """Float tensors in half precision; those with values that half cannot hold stay as they are."""
    limit = torch.finfo(torch.float16).max
    small = {name for name, value in state.items() if value.is_floating_point() and value.abs().max() < limit}
    return {name: value.half() if name in small else value for name, value in state.items()}


def _safetensors(state: State, path: Path, words: dict[str, str]) -> None:
    from safetensors.torch import save_file

    whole = {name: value.contiguous() for name, value in state.items()}
    _write_beside(path, lambda part: save_file(whole, part, words))


def write_rosinality(found: "Converted", path: Path) -> None:
    """Our generator in the public PyTorch layout: g_ema and latent_avg."""
    if "generator" not in found.parts or found.config is None:
        raise UserError(f"--to rosinality: a {found.what} has no generator", 2)
    if path.suffix != ".pt":
        raise UserError(f"-o {path}: the public layout is a .pt file", 2)
    # In the published order, which safetensors do not keep.
    generator = found.parts["generator"]
    state = {name: generator[name] for name in rebuild.part(found.config, "generator")}
    average = generator["latent_avg"]
    _write_beside(path, lambda part: torch.save({"g_ema": state, "latent_avg": average}, part))


# --------------------------------------------------------------------------------------------- reading


def released_content(source: Source) -> dict[str, Any]:
    """A .safetensors release as `wagi.checkpoint.read` returns a checkpoint. UserError when it is none."""
    words = source.metadata
    if words.get("format") != checkpoint.FORMAT or not {"stage", "config", "version"} <= words.keys():
        raise UserError(f"{source.path}: not a WaGI model; convert public weights: python -m wagi.convert")
    try:
        config, version = json.loads(words["config"]), int(words["version"])
        model_from_dict(config, str(source.path))
    except (ValueError, TypeError):
        raise UserError(f"{source.path}: its metadata is damaged; download it again") from None
    return {
        "format": checkpoint.FORMAT,
        "version": version,
        "stage": words["stage"],
        "config": {"model": config},
        "weights": _parts(source.content.items()),
        "training": {"converted": words},
    }


def _parts(items: Iterable[tuple[str, Any]]) -> dict[str, State]:
    parts: dict[str, State] = {}
    for name, value in items:
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    return {part: parts[part] for part in checkpoint.PARTS if part in parts}


def read_released(path: str | Path) -> dict[str, Any]:
    """The content of a .safetensors release, as `wagi.checkpoint.read` returns a checkpoint."""
    return released_content(open_source(path))
