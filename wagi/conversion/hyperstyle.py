"""HyperStyle's checkpoints: weights that are in the file many times, an encoder that is in another one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wagi.conversion import rebuild
from wagi.conversion.sources import State, tensor, tensors
from wagi.errors import UserError

if TYPE_CHECKING:
    from wagi.config import ModelConfig
    from wagi.conversion.kinds import Converted

_SHARED = "shared_weight_hypernet."
_COPY = ".hypernet."


def hypernetwork(given: Mapping[str, Any], config: "ModelConfig", where: str) -> State:
    """Our state of a public `hypernet.`, proved by names and shapes.

    There every block of a shared layer names the shared weights as its own `hypernet.`; the copies must be
    there, must be equal, and are left out.
    """
    expected = rebuild.part(config, "hypernetwork")
    kept = tensors({name: value for name, value in given.items() if _COPY not in name}, where)
    state = rebuild.fit(expected, kept, where, "HyperStyle hypernetwork (SharedWeightsHyperNetResNet)")
    leaves = [name.removeprefix(_SHARED) for name in expected if name.startswith(_SHARED)]
    blocks = [name.removesuffix("linear.bias") for name in expected if name.endswith("linear.bias")]
    copies = {f"{block}hypernet.{leaf}": _SHARED + leaf for block in blocks for leaf in leaves}
    found = {name for name in given if _COPY in name}
    if wrong := sorted(copies.keys() ^ found):
        kind = "missing" if wrong[0] in copies else "unexpected"
        raise UserError(f"{where}: not HyperStyle's hypernetwork: {len(wrong)} names, {kind} {wrong[0]}")
    for name, original in copies.items():
        if not _same(given[name], given[original], f"{where}: {name}"):
            raise UserError(f"{where}: {name} differs from {original}; an unknown network")
    return state


def _same(copy: Any, original: Tensor, where: str) -> bool:
    """Equality, at no cost for two names of the same numbers in a file."""
    if not isinstance(copy, Tensor) or copy.shape != original.shape:
        return False
    if copy.data_ptr() == original.data_ptr() and copy.stride() == original.stride():
        return True
    return torch.equal(tensor(copy, where), tensor(original, where))


def join(found: "Converted", other: "Converted", where: str) -> None:
    """Put the encoder that was read from `where` into a HyperStyle model. UserError when it does not fit."""
    assert found.config is not None
    if other.config is None or "encoder" not in other.parts:
        raise UserError(f"--w-encoder {where}: a {other.what} has no encoder; give HyperStyle's W encoder", 2)
    ours, theirs = found.parts["generator"], other.parts["generator"]
    names = [name for name in ours if not name.startswith("noises.")]
    same = ours.keys() == theirs.keys() and all(torch.allclose(ours[n], theirs[n], atol=1e-5) for n in names)
    if not same:
        raise UserError(f"--w-encoder {where}: made for another generator than HyperStyle's file")
    names = ("encoder", "restyle_steps", "image_resize")
    found.config = replace(found.config, **{name: getattr(other.config, name) for name in names})
    found.parts["encoder"] = other.parts["encoder"]
