"""Files to write: where they may go, and in which layout."""

from pathlib import Path
from typing import TYPE_CHECKING

from wagi import checkpoint
from wagi.conversion import rebuild
from wagi.conversion.sources import Source
from wagi.errors import UserError

if TYPE_CHECKING:
    from wagi.conversion.kinds import Converted

SUFFIXES = (".pt", ".safetensors")


def check_output(path: Path, source: Path, overwrite: bool) -> None:
    """Refuse an output that cannot or must not be written, before any work. UserError, status 2.

    One without an ending is the folder of several directions.
    """
    if not path.suffix and path.is_dir() and any(path.iterdir()) and not overwrite:
        raise UserError(f"-o {path}: not empty; add --overwrite to write into it", 2)
    if not path.suffix and (path.is_dir() or not path.exists()):
        return
    if path.suffix not in SUFFIXES:
        raise UserError(f"-o {path}: name it {' or '.join('*' + s for s in SUFFIXES)}", 2)
    if path.exists() and source.exists() and path.samefile(source):
        raise UserError(f"-o {path}: is the source itself", 2)
    if path.exists() and not overwrite:
        raise UserError(f"-o {path}: exists; add --overwrite to replace it", 2)
    if not path.parent.is_dir():
        raise UserError(f"-o {path}: no folder {path.parent}; make it first", 2)


def metadata(found: "Converted", source: Source, licence: str) -> dict[str, str]:
    """The provenance that a converted file keeps; safetensors metadata is text to text."""
    return {
        "kind": "direction" if "vector" in found.flat else found.kind,
        "source": source.path.name,
        "source_sha256": source.sha256(),
        "licence": licence or "not stated: see the source of the weights",
        **found.facts,
    }


def write(found: "Converted", path: Path, words: dict[str, str], half: bool = False) -> None:
    """`path` by its suffix: .safetensors with `words` as metadata (`half`: in half precision), or .pt.

    A model's .pt is a checkpoint that training and export read, with `words` among its training facts; other
    weights' .pt is the flat public state dict that the feature networks read.
    """
    safetensors = path.suffix == ".safetensors"
    if half and not safetensors:
        raise UserError(f"-o {path}: --half writes *.safetensors only", 2)
    if found.config is None and safetensors:
        checkpoint.save_safetensors(path, found.flat, checkpoint.LABEL | words, half)
    elif found.config is None:
        checkpoint.save_torch(path, found.flat)
    elif safetensors:
        checkpoint.release(path, found.stage, found.config, found.parts, words, half)
    else:
        checkpoint.save(path, found.stage, found.config, found.parts, {"converted": words})


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
    checkpoint.save_torch(path, {"g_ema": state, "latent_avg": average})
