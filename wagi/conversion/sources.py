"""Opening files that others made: what kind of container, safe to read, whole, and its numbers finite."""

import argparse
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wagi import checkpoint
from wagi.checkpoint import State
from wagi.conversion.machine import Refused
from wagi.conversion.pickles import check_legacy_torch, check_torch_pickle, read_network
from wagi.errors import UserError
from wagi_rt.files import file_sha256

# A PyTorch file before 1.6 starts with this pickled number.
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# What DataParallel, torch.compile and a network inside another put before every name.
_WRAPPERS = ("module.encoder.", "module.", "_orig_mod.")


@dataclass
class Source:
    """A file that was opened: `container` is torch, tensorflow, safetensors or numpy."""

    path: Path
    container: str
    content: Any
    metadata: dict[str, str]

    def sha256(self) -> str:
        return file_sha256(self.path)


def open_source(path: str | Path) -> Source:
    """Open SOURCE without running anything in it.

    Raises UserError: missing, empty, of no known container, truncated, or asking for what weights never need.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {_no_file(path)}", 2)
    try:
        with open(path, "rb") as file:
            head = file.read(16)
        return _open(path, head)
    except Refused as reason:
        raise UserError(f"{path}: refused: it {reason}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _no_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder; name the weight file in it"
    return "a pipe or device; save it to a file and name that" if path.exists() else "no such file"


def _open(path: Path, head: bytes) -> Source:
    if not head:
        raise UserError(f"{path}: is empty; download it again")
    if head[:4] == b"PK\x03\x04":
        _check_zip(path)
        return Source(path, "torch", _load(path, mmap=True), {})
    if head[:6] == b"\x93NUMPY":
        return Source(path, "numpy", _numpy(path), {})
    if head.startswith(_LEGACY_MAGIC):
        check_legacy_torch(path)
        return Source(path, "torch", _load(path, mmap=False), {})
    if head[:1] == b"\x80":
        return Source(path, "tensorflow", read_network(path), {})
    if head[8:9] == b"{":
        return _safetensors(path)
    page = head.lstrip()[:1] == b"<"
    hint = "a web page; the download went wrong" if page else "not PyTorch, safetensors, numpy or a pickle"
    raise UserError(f"{path}: {hint}")


def _check_zip(path: Path) -> None:
    """A torch archive stores its records uncompressed, so its parts cannot be larger than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            pickles = [n for n in names if n.endswith("/data.pkl") and n.count("/") == 1]
            if any(name.split("/", 1)[-1].startswith("code/") for name in names):
                raise UserError(f"{path}: a TorchScript program, not a state dict")
            if len(pickles) != 1:
                raise UserError(f"{path}: a zip archive, not a PyTorch checkpoint (no data.pkl)")
            if sum(info.file_size for info in infos) > path.stat().st_size:
                raise UserError(f"{path}: refused: its parts claim to be larger than the file")
            data = archive.read(pickles[0])
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        reason = str(error)[:80]
        raise UserError(f"{path}: a truncated or damaged archive ({reason}); download it again") from None
    check_torch_pickle(data)


def _load(path: Path, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises a dozen kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"{path}: truncated or damaged ({reason}); download it again") from None


def _numpy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a claim beyond the file fails
    except (ValueError, OSError, SyntaxError, OverflowError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0][:100]
        raise UserError(f"{path}: not a readable array of numbers ({reason})") from None


def _safetensors(path: Path) -> Source:
    return Source(path, "safetensors", *checkpoint.read_safetensors(path))


# ------------------------------------------------------------------------------------------- contents


def tensors(found: Any, where: str) -> State:
    """`found` as a flat dict of finite, whole tensors (floating ones as float32). UserError otherwise."""
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{where}: not a dict of tensors")
    state: State = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{where}: {str(name)[:60]!r} is not a tensor")
        state[name] = tensor(value, f"{where}: {name[:80]}")
    return state


def tensor(value: Tensor, where: str) -> Tensor:
    """One tensor as a contiguous copy. A view that claims more than its storage holds is refused."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        raise UserError(f"{where}: a sparse or quantised tensor; only plain weights are read")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise UserError(f"{where}: refused: claims shape {list(value.shape)} but brings fewer numbers")
    value = value.detach()
    copy = torch.empty(value.shape, dtype=torch.float32 if value.is_floating_point() else value.dtype)
    copy.copy_(value)
    if copy.is_floating_point() and not torch.isfinite(copy).all():
        raise UserError(f"{where}: holds NaN or infinite values; download the file again or ask its author")
    return copy


def below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries under `prefix.`, without it. The dot counts."""
    start = f"{prefix}."
    return {k[len(start) :]: v for k, v in state.items() if isinstance(k, str) and k.startswith(start)}


def unwrap(content: Any) -> tuple[Any, str]:
    """The content with plain names, and the prefix that training tools had put before each ("" for none).

    Looks at a flat state dict, g_ema, g and state_dict; the latter, when it holds no parts, is taken out.
    """
    if not isinstance(content, Mapping):
        return content, ""
    key = next((key for key in ("g_ema", "g", "state_dict") if isinstance(content.get(key), Mapping)), None)
    state = content if key is None else content[key]
    prefix = ""
    while wrapper := next((w for w in _WRAPPERS if _all_below(state, prefix + w)), None):
        prefix += wrapper
    if prefix:
        state = {name[len(prefix) :]: value for name, value in state.items()}
    if key == "state_dict" and not any(below(state, part) for part in ("encoder", "decoder")):
        return state, prefix
    return (state if key is None else {**content, key: state}), prefix


def _all_below(state: Mapping[Any, Any], prefix: str) -> bool:
    return bool(state) and all(isinstance(name, str) and name.startswith(prefix) for name in state)
