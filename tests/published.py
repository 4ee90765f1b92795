"""The published listings (tests/data/published.json): names, shapes and kinds of public networks."""

import json
from functools import cache

from checkout import ROOT
from torch import nn


@cache
def _listings() -> dict:
    return json.loads((ROOT / "tests" / "data" / "published.json").read_text())


def state_dict(name: str) -> dict[str, dict]:
    """Entry -> {shape, dtype, kind} and, for fixed filters of some networks, {value}."""
    listing = _listings()[name]
    if "like" in listing:
        heads = listing.get("styles", 99)
        return {
            key: entry for key, entry in state_dict(listing["like"]).items()
            if not key.startswith("styles.") or int(key.split(".")[1]) < heads
        }  # fmt: skip
    found = {k: dict(shape=v, dtype="float32", kind="param") for k, v in listing["parameters"].items()}
    found |= {k: dict(shape=v, dtype="float32", kind="buffer") for k, v in listing.get("buffers", {}).items()}
    found |= {k: dict(shape=[], dtype="int64", kind="buffer") for k in listing.get("counters", ())}
    for key, value in listing.get("values", {}).items():
        found[key]["value"] = value
    return found


def tf_variables(size: int) -> dict[str, tuple[int, ...]]:
    """Variable -> shape of the official TensorFlow SWAGAN, generator and discriminator (`D/`)."""
    found = _listings()[f"tf_swagan_{size}_variables"]["variables"]
    return {name: tuple(shape) for name, shape in found.items()}


def difference(module: nn.Module, listing: dict[str, dict]) -> list[str]:
    """One line per entry that only one side has, or that differs in shape, dtype or kind; [] when equal."""
    parameters, own = dict(module.named_parameters()), module.state_dict()
    lines = [f"only published: {key} {entry['shape']}" for key, entry in listing.items() if key not in own]
    lines += [f"only ours: {key} {list(value.shape)}" for key, value in own.items() if key not in listing]
    for key in own.keys() & listing.keys():
        kind = "param" if key in parameters else "buffer"
        ours = (list(own[key].shape), str(own[key].dtype).removeprefix("torch."), kind)
        theirs = tuple(listing[key][field] for field in ("shape", "dtype", "kind"))
        if ours != theirs:
            lines.append(f"{key}: ours {ours}, published {theirs}")
    return lines
