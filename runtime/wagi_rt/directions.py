"""Editing directions: what is added to a picture's latents per unit of an attribute, and what that does.

A direction is one safetensors file with the tensor `vector`: [D] for all layers alike (W), [n_latent, D]
(W+), or, with `space` style in its metadata, [C] for all styles of the generator (Wu et al. 2021). Its
measurements are metadata, too, so that a file can be judged before it is used.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from wagi_rt.errors import UserError, printable

KIND, SUFFIX = "direction", ".safetensors"
STYLE = "style"  # the space of offsets of styles; "" is W and W+
_LARGEST = 16_000_000  # bytes of a file; a W+ direction of a 1024 px model has 37 thousand
_MOST_LETTERS = 200
# The step along two texts' difference that strength 1 asks for, and the most of any style, in deviations.
STEP, MOST = 0.7, 4.0
_TEXTS = ("name", "unit", "generator", "note", "space")
_KINDS: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_REMEDY = "make it again with `python -m wagi.convert` or find it anew"


class Direction(NamedTuple):
    """The step in the latents for one unit of an attribute, and what it was measured to do.

    vector: float32 [D] or [n_latent, D], in the space STYLE [C]. unit: what strength 1 means. range: the
    strengths within which the effect was measured. auc: of the projection on held-out pictures. effect: per
    unit, in held-out standard deviations of the attribute; leakage: the same for other attributes. generator:
    the hash of the weights in whose latents the vector lives ("" where nobody knows), see
    wagi.checkpoint.weights_hash.
    """

    name: str
    vector: np.ndarray
    unit: str = ""
    range: tuple[float, float] | None = None
    auc: float | None = None
    effect: float | None = None
    leakage: Mapping[str, float] = MappingProxyType({})
    generator: str = ""
    note: str = ""
    space: str = ""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def facts(self) -> dict[str, Any]:
        """Everything but the vector as JSON can hold it; what is unknown is left out."""
        known = {**self._asdict(), "range": list(self.range or ()), "leakage": dict(self.leakage)}
        del known["vector"]
        return {key: value for key, value in known.items() if value not in (None, "", {}, [])}

    def shift(self, strength: float, n_latent: int, shape: tuple[int, int] | None = None) -> np.ndarray:
        """The step in the latents at this strength, [n_latent, D].

        shape: of latents with style offsets behind them, [n_latent + rows, D]; steps in style space need it.
        """
        step = self.vector * np.float32(strength)
        if shape is None:
            return np.broadcast_to(step, (n_latent, self.vector.shape[-1]))
        whole = np.zeros(shape, np.float32)
        if self.space == STYLE:
            whole[n_latent:].reshape(-1)[: len(step)] = step
        else:
            whole[:n_latent] = step
        return whole


def read(path: str | os.PathLike[str]) -> Direction:
    """The direction in a file; UserError in one line for whatever is not one."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path", status=2) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if len(raw) > _LARGEST:
        raise UserError(f"{path}: too large to be a direction; {_REMEDY}")
    words, tensors, values = _parts(raw, str(path))
    if list(tensors) != ["vector"]:
        raise UserError(f"{path}: not a direction, it must hold one tensor, `vector`; {_REMEDY}")
    vector = _vector(tensors["vector"], values, str(path))
    if words.get("space", "") not in ("", STYLE) or words.get("space") and vector.ndim > 1:
        raise UserError(f"{path}: its metadata has a 'space' that this version does not know; {_REMEDY}")
    if words.get("kind") != KIND:
        raise UserError(f"{path}: not a direction, its metadata has no kind={KIND}; {_REMEDY}")
    return checked(_parsed(words, str(path)), str(path), Path(path).stem)._replace(vector=vector)


# The layout of safetensors: the length of a JSON header (8 bytes, little endian), the header, the values. The
# library that reads it is no part of the lean base install.
def _parts(raw: bytes, where: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """(metadata, the tensors' descriptions, their values)."""
    end = 8 + int.from_bytes(raw[:8], "little")
    try:
        if len(raw) < 8 or end > len(raw):
            raise ValueError("its header is longer than the file")
        header = json.loads(raw[8:end])
        words = header.pop("__metadata__", {}) or {}
        if not all(isinstance(one, dict) for one in (header, words)):
            raise ValueError("its header holds no tensors")
        if not all(isinstance(word, str) for word in words.values()):
            raise ValueError("its metadata is no text")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        reason = printable(" ".join(str(error).split()))[:_MOST_LETTERS]
        raise UserError(f"{where}: cannot be read as safetensors ({reason}); {_REMEDY}") from None
    return words, header, raw[end:]


def _vector(entry: Any, values: bytes, where: str) -> np.ndarray:
    """The one tensor, in float32."""
    entry = entry if isinstance(entry, dict) else {}
    kind, shape = str(entry.get("dtype")), entry.get("shape")
    whole = isinstance(shape, list) and all(type(side) is int and 0 < side <= _LARGEST for side in shape)
    if kind not in _KINDS or not whole or len(shape or ()) not in (1, 2):
        found = printable(f"{kind} {shape}")[:_MOST_LETTERS]
        wanted = "floating point, [D] or [n_latent, D]"
        raise UserError(f"{where}: `vector` must be {wanted}, not {found}; {_REMEDY}")
    size = math.prod(shape or ()) * _KINDS[kind].itemsize
    if entry.get("data_offsets") != [0, size] or len(values) != size:
        raise UserError(f"{where}: damaged, `vector` has not the size that its shape says; {_REMEDY}")
    with np.errstate(over="ignore"):
        vector = np.frombuffer(values, _KINDS[kind]).reshape(shape).astype(np.float32)
    if not np.isfinite(vector).all() or not vector.any():
        raise UserError(f"{where}: `vector` is zero or holds values that are not numbers; {_REMEDY}")
    return vector


def write(path: Path, direction: Direction) -> None:
    """Store a direction so that `read` gives it back. OSError when the disk says no."""
    path.write_bytes(content(direction))


def content(direction: Direction) -> bytes:
    """A direction as the bytes of its file."""
    words = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in direction.facts().items()
    }
    vector = np.ascontiguousarray(direction.vector, "<f4")
    entry = {"dtype": "F32", "shape": list(vector.shape), "data_offsets": [0, vector.nbytes]}
    header = json.dumps({"__metadata__": {"kind": KIND, **words}, "vector": entry}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + vector.tobytes()


def _parsed(words: Mapping[str, str], where: str) -> dict[str, Any]:
    """The metadata with its numbers as numbers."""
    facts: dict[str, Any] = {key: words[key] for key in _TEXTS if key in words}
    for key in ("range", "auc", "effect", "leakage"):
        try:
            facts |= {key: json.loads(words[key])} if key in words else {}
        except (ValueError, RecursionError):
            raise UserError(f"{where}: metadata '{key}' is not valid JSON; {_REMEDY}") from None
    return facts


def checked(facts: Mapping[str, Any], where: str, name: str = "") -> Direction:
    """A direction without its vector from facts that anybody may have written; `name`: if they hold none."""

    def fail(key: str, wanted: str) -> UserError:
        return UserError(f"{where}: '{key}' must be {wanted}; {_REMEDY}")

    for key in _TEXTS:
        if not isinstance(facts.get(key, ""), str):
            raise fail(key, "a text")
    for key in ("auc", "effect"):
        if not (facts.get(key) is None or _is_number(facts[key])):
            raise fail(key, "a number")
    limits, leakage = facts.get("range"), facts.get("leakage", {})
    if limits is not None:
        whole = isinstance(limits, list) and len(limits) == 2 and all(map(_is_number, limits))
        if not whole or limits[0] >= limits[1]:
            raise fail("range", "two numbers, the lower first")
    if not isinstance(leakage, dict) or not all(map(_is_number, leakage.values())):
        raise fail("leakage", "a number for each attribute")
    texts = {key: facts.get(key, "")[:_MOST_LETTERS] for key in _TEXTS[1:]}
    name = facts.get("name") or name
    if not is_name(name):
        raise fail("name", "letters, digits, '-' and '_'")
    return Direction(
        name=name,
        vector=np.zeros(0, np.float32),
        range=(float(limits[0]), float(limits[1])) if limits else None,
        auc=facts.get("auc"),
        effect=facts.get("effect"),
        leakage={str(key)[:_MOST_LETTERS]: float(value) for key, value in leakage.items()},
        **texts,
    )


# StyleCLIP's global way (Patashnik et al. 2021), with the styles' relevance that wagi.editing.channels finds.
def between_texts(
    text: np.ndarray, neutral: np.ndarray, table: np.ndarray, threshold: float
) -> np.ndarray | None:
    """The step of the styles [C] from one text's features [F] to another's; None where they mean the same.

    table: [C, 1 + F], every style's deviation and its step, in deviations, for a step of one in a feature.
    threshold: styles whose share is below this part of the largest stay.
    """
    units = (one.astype(np.float64) / np.linalg.norm(one) for one in (text, neutral))
    change = np.subtract(*units)
    length = np.linalg.norm(change)
    if not length > 1e-3:
        return None
    step = table[:, 1:] @ (change / length) * STEP
    step[np.abs(step) < threshold * np.abs(step).max()] = 0
    step *= min(1, MOST / np.abs(step).max())
    return (step * table[:, 0]).astype(np.float32)


def is_name(text: str) -> bool:
    """True for a name that an attribute may have: it stands before a '=' on the command line."""
    return 0 < len(text) <= 64 and all(c.isalnum() or c in "-_" for c in text)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_fit(
    direction: Direction, n_latent: int, style_dim: int, generator: str, where: str, styles: int = 0
) -> None:
    """UserError (status 2) unless the direction belongs to latents of this shape and generator.

    styles: channels of style space that the model takes offsets of, 0 for none.
    """
    shape = direction.vector.shape
    if direction.space == STYLE:
        if not styles:
            what = "is in style space, of which this model takes no offsets"
            raise UserError(f"{where}: {what}; export it with --styles", status=2)
        if shape != (styles,):
            raise UserError(f"{where}: has {shape[-1]} styles, this model {styles}", status=2)
    elif shape not in ((style_dim,), (n_latent, style_dim)):
        wanted = f"[{style_dim}] or [{n_latent}, {style_dim}]"
        raise UserError(f"{where}: its vector is {list(shape)}, this model takes {wanted}", status=2)
    if direction.generator and generator and direction.generator != generator:
        raise UserError(
            f"{where}: was found in another generator's latents, where it means something else; "
            "find it in this model's, or name the bundle that it belongs to with -m",
            status=2,
        )


def unknown(name: str, known: Iterable[str]) -> UserError:
    """The error for an attribute that a model has no direction for, with the nearest that it has."""
    import difflib  # only for this line: it costs a cold start 3 ms

    names = sorted(known)
    if not names:
        return UserError(
            f"direction '{printable(name)}': this model holds none; use --direction FILE=STRENGTH", status=2
        )
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    return UserError(f"direction '{printable(name)}' is unknown; {hint} --list shows all", status=2)
