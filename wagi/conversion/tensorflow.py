"""The official TensorFlow SWAGAN: variables to our names, un-normalised signed bands to orthonormal ones."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wagi.conversion.pickles import Array, Stub
from wagi.conversion.sources import Source, State, tensor
from wagi.errors import UserError

# Official band = factor x orthonormal band, for LL, LH, HL, HH of three colours (decision 40).
BAND_FACTORS = torch.tensor([2.0] * 3 + [-2.0] * 6 + [2.0] * 3)
# Rank of each variable; checked before anything is transposed.
_RANKS = {"weight": 4, "mod_weight": 2, "mod_bias": 1, "bias": 1, "noise_strength": 0, "const": 4}


def networks(source: Source) -> list[Stub]:
    """The networks of the pickle, (G, D, Gs) in the official files; UserError for other content."""
    found = source.content
    if isinstance(found, Stub):
        return [found]
    if isinstance(found, (tuple, list)) and found and all(isinstance(item, Stub) for item in found):
        return list(found)
    raise UserError(f"{source.path}: a pickle, but not of TensorFlow networks (G, D, Gs)")


def variables(network: Stub, where: str) -> dict[str, Tensor]:
    """Variables of a network and its components by path, `synthesis/8x8/Conv1/weight`."""
    state = network.state
    if not isinstance(state, dict) or not isinstance(state.get("variables"), list):
        raise UserError(f"{where}: a network without variables; the file is damaged")
    components = state.get("components") or {}
    if not isinstance(components, dict):
        raise UserError(f"{where}: a network whose components are not a dict; the file is damaged")
    found: dict[str, Tensor] = {}
    parts = {"": state, **{f"{name}/": getattr(part, "state", None) for name, part in components.items()}}
    for prefix, part in parts.items():
        for entry in part.get("variables", ()) if isinstance(part, dict) else ():
            if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], str):
                raise UserError(f"{where}: a variable that is not (name, array); the file is damaged")
            found[prefix + entry[0]] = _tensor(entry[1], f"{where}: {prefix}{entry[0][:80]}")
    return found


def _tensor(value: Any, where: str) -> Tensor:
    array = value.value if isinstance(value, Array) and hasattr(value, "value") else value
    if isinstance(array, (int, float)):
        array = np.array(array, np.float32)
    if not isinstance(array, np.ndarray):
        raise UserError(f"{where}: not an array of numbers; the file is damaged")
    # Native byte order, and a copy: the bytes of the file are read-only.
    return tensor(torch.from_numpy(np.array(array, array.dtype.newbyteorder("="))), where)


def averaged(source: Source) -> dict[str, Tensor]:
    """The variables of Gs, the averaged generator: the last of the file's networks that has a synthesis."""
    for network in reversed(networks(source)):
        state = network.state if isinstance(network.state, dict) else {}
        if "synthesis" in (state.get("components") or {}):
            return variables(network, str(source.path))
    raise UserError(f"{source.path}: no generator (a network with synthesis and mapping) in the pickle")


def convert(found: dict[str, Tensor], where: str) -> tuple[State, Tensor]:
    """(state dict in the published PyTorch names, latent_avg) from the official variables (decision 40).

    Noise maps beyond the last used one, as the last two dlatents, belong to layers that SWAGAN does not have.
    """
    names = _table(found, where)
    missing = [name for name in (*names.values(), "dlatent_avg") if name not in found]
    used = {*names.values(), "dlatent_avg", "lod"}
    extra = [name for name in found if name not in used and not name.startswith("synthesis/noise")]
    if missing or extra:
        text = [f"{len(group)} {kind}: {', '.join(group[:4])}{' ...' if len(group) > 4 else ''}"
                for kind, group in (("missing", missing), ("unexpected", extra)) if group]  # fmt: skip
        raise UserError(
            f"{where}: not an official SWAGAN: {'; '.join(text)}; nearest known layout: "
            f"TensorFlow SWAGAN {_size(found)} px"
        )
    return {ours: _variable(ours, theirs, found[theirs], where) for ours, theirs in names.items()}, found[
        "dlatent_avg"
    ]


def _size(found: dict[str, Tensor]) -> int:
    blocks = [name.split("/")[1].split("x")[0] for name in found if name.endswith("/ToWavelet/weight")]
    return 2 * max((int(text) for text in blocks if text.isdecimal() and len(text) < 5), default=0)


def _table(found: dict[str, Tensor], where: str) -> dict[str, str]:
    """Our name -> official name, for the size that the file's blocks have."""
    if any("/ToRGB/" in name for name in found):
        raise UserError(f"{where}: a StyleGAN2 pickle (ToRGB), not a SWAGAN; give its PyTorch conversion")
    size = _size(found)
    if size not in (32, 64, 128, 256, 512, 1024):
        raise UserError(f"{where}: no ToWavelet layers of a known size; not an official SWAGAN")
    depth = sum(name.startswith("mapping/Dense") and name.endswith("/weight") for name in found)
    table: dict[str, str] = {}
    for i in range(max(depth, 1)):
        table |= {f"style.{i + 1}.{leaf}": f"mapping/Dense{i}/{leaf}" for leaf in ("weight", "bias")}
    table["input.input"] = "synthesis/4x4/Const/const"
    table |= _conv("conv1", "4x4/Conv") | _to_wavelet("to_rgb1", "4x4")
    blocks = [2**r for r in range(3, size.bit_length() - 1)]
    for i, res in enumerate(blocks):
        table |= _conv(f"convs.{2 * i}", f"{res}x{res}/Conv0_up")
        table |= _conv(f"convs.{2 * i + 1}", f"{res}x{res}/Conv1")
        table |= _to_wavelet(f"to_rgbs.{i}", f"{res}x{res}")
    return table | {f"noises.noise_{j}": f"synthesis/noise{j}" for j in range(2 * len(blocks) + 1)}


def _conv(ours: str, theirs: str) -> dict[str, str]:
    leaves = {
        "conv.weight": "weight", "conv.modulation.weight": "mod_weight", "conv.modulation.bias": "mod_bias",
        "noise.weight": "noise_strength", "activate.bias": "bias",
    }  # fmt: skip
    return {f"{ours}.{own}": f"synthesis/{theirs}/{leaf}" for own, leaf in leaves.items()}


def _to_wavelet(ours: str, block: str) -> dict[str, str]:
    leaves = {
        "bias": "bias", "conv.weight": "weight", "conv.modulation.weight": "mod_weight",
        "conv.modulation.bias": "mod_bias",
    }  # fmt: skip
    return {f"{ours}.{own}": f"synthesis/{block}/ToWavelet/{leaf}" for own, leaf in leaves.items()}


def _variable(ours: str, theirs: str, value: Tensor, where: str) -> Tensor:
    """One variable in our layout (decision 40)."""
    leaf = theirs.rsplit("/", 1)[-1]
    dense = "/Dense" in theirs and leaf == "weight"
    rank = 2 if dense else 4 if "/noise" in theirs and leaf != "noise_strength" else _RANKS[leaf]
    bands = "/ToWavelet/" in theirs and leaf in ("weight", "bias")
    if value.ndim != rank or (bands and value.shape[-1] != 12):
        wanted = f"rank {rank}" + (" and 12 bands last" if bands else "")
        raise UserError(f"{where}: {theirs} has shape {list(value.shape)}, a SWAGAN's has {wanted}")
    if bands:
        value = value / BAND_FACTORS
    if leaf == "mod_bias":
        return value + 1  # added in the official graph, part of the bias in ours
    if leaf == "mod_weight" or dense:
        return value.T.contiguous()
    if leaf == "weight":
        kernel = value.permute(3, 2, 0, 1)[None]  # [kh, kw, in, out] => [1, out, in, kh, kw]
        return (kernel.flip(3, 4) if "/Conv0_up/" in theirs else kernel).contiguous()
    if leaf == "noise_strength":
        return value.reshape(1)
    return value.reshape(1, 12, 1, 1) if bands else value
