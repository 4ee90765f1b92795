"""Typed look-ups in a bundle's parsed JSON, whatever somebody has written into it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Any

from wagi_rt.chain import Shapes
from wagi_rt.errors import UserError, printable
from wagi_rt.integrity import REMEDY

_LARGEST = 1 << 20  # of whole numbers: sides of tensors, limits


def parse(raw: bytes, path: Path) -> Any:
    """The JSON of a file. UserError for what is none."""
    try:
        return json.loads(raw, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not valid JSON ({reason}); {REMEDY}") from None


def _number(text: str) -> float:
    """A number of JSON: finite, which Python's reader does not ask for."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


class Fields:
    """Look-ups whose first fault raises UserError naming file and key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}; {REMEDY}")

    def get(self, data: dict[str, Any], key: str, kind: type, where: str = "") -> Any:
        if key not in data:
            raise self.fail(f"key '{where}{key}' is missing")
        value = data[key]
        if type(value) is int and abs(value) > _LARGEST:
            raise self.fail(f"key '{where}{key}' is out of range")
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.fail(f"key '{where}{key}' must be a {kind.__name__}, not {type(value).__name__}")
        return value

    def positive(self, data: dict[str, Any], key: str) -> int:
        value = int(self.get(data, key, int))
        if value < 1:
            raise self.fail(f"key '{key}' must be positive, not {value}")
        return value

    def tolerance(self, data: dict[str, Any], where: str = "") -> float:
        value = float(self.get(data, "tolerance", float, where))
        if value < 0:
            raise self.fail(f"key '{where}tolerance' must not be negative")
        return value

    def file(self, name: str, where: str) -> str:
        """A file name inside the bundle: relative, no way out of the folder, same on every system."""
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
            raise self.fail(f"{where} names '{printable(name)[:80]}', which is not a file inside the bundle")
        return name

    def hash(self, value: object, where: str) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            raise self.fail(f"{where} must be 64 hexadecimal digits")
        return value

    def optional(self, data: dict[str, Any], key: str, where: str) -> float | None:
        return float(self.get(data, key, float, where)) if key in data else None

    def numbers(self, data: dict[str, Any], key: str, where: str) -> dict[str, float]:
        found = self.get(data, key, dict, where) if key in data else {}
        return {name: float(self.get(found, name, float, f"{where}{key}.")) for name in found}

    def shapes(self, tensors: dict[str, Any], where: str) -> Shapes:
        """{name: {"shape": ["N", ...], "dtype": "float32"}} => {name: shape without the batch}."""
        shapes = {}
        for name in tensors:
            data = self.get(tensors, name, dict, where)
            shape = self.get(data, "shape", list, f"{where}{name}.")
            if len(shape) < 2 or not isinstance(shape[0], str):
                raise self.fail(f"key '{where}{name}.shape' must be [\"N\", ...] with a dynamic batch")
            if not all(type(side) is int and 0 < side <= _LARGEST for side in shape[1:]):
                raise self.fail(f"key '{where}{name}.shape' must have fixed positive sizes after the batch")
            if self.get(data, "dtype", str, f"{where}{name}.") != "float32":
                raise self.fail(f"key '{where}{name}.dtype' must be float32 (in both precisions)")
            shapes[name] = tuple(shape[1:])
        return shapes
