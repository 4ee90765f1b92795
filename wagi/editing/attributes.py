"""Attributes that directions are found for: of rendered portraits, and labels of photos from public files."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wagi.errors import UserError
from wagi.portraits.edits import Edit
from wagi.portraits.hair import STYLES
from wagi.portraits.parameters import CATEGORIES, COLUMNS, CONTINUOUS, NUM_PARAMETERS, options

_HAIR_COLOUR = len(COLUMNS)  # the first colour; red, green and blue follow one another
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Attribute:
    """A weighted sum of a portrait's standardised parameters (`portraits.vector`), weights [133].

    step: the change of the sum that strength 1 of a direction stands for, and `unit` names.
    """

    name: str
    weights: np.ndarray
    step: float
    unit: str

    def of(self, params: np.ndarray) -> np.ndarray:  # ...,133 => ...
        """Its values."""
        return params @ self.weights


def _single(name: str, amount: float, unit: str) -> Attribute:
    weights = np.zeros(NUM_PARAMETERS, np.float32)
    weights[COLUMNS.index(name)] = 1
    return Attribute(name, weights, amount / CONTINUOUS[name].moments()[1], unit)


def _deviation(category: str, option: str) -> float:
    """Standard deviation of an option's being there."""
    first, second = CATEGORIES[category]
    share = (first.get(option, 0.0) + second.get(option, 0.0)) / 2
    return math.sqrt(share * (1 - share))


def _present(category: str) -> Attribute:
    weights = np.zeros(NUM_PARAMETERS, np.float32)
    weights[COLUMNS.index(f"{category}=none")] = -_deviation(category, "none")
    return Attribute(category, weights, 1.0, "from none to some")


def _long_hair() -> Attribute:
    weights = np.zeros(NUM_PARAMETERS, np.float32)
    for style in options("hair_style"):
        length = STYLES[style].length if style in STYLES else 0.0
        weights[COLUMNS.index(f"hair_style={style}")] = length * _deviation("hair_style", style)
    return Attribute("long_hair", weights, 0.75, "0.75 head units longer, from short to a bob")


def _light_hair() -> Attribute:
    weights = np.zeros(NUM_PARAMETERS, np.float32)
    weights[_HAIR_COLOUR : _HAIR_COLOUR + 3] = 0.27 * np.array(_LUMA)  # standardised by 0.27
    return Attribute("light_hair", weights, 0.3, "0.3 of luma lighter, from brown to blond")


_ALL = (
    _single("yaw", 0.3, "0.3 rad (17 degrees) of turn"),
    _single("pitch", 0.1, "0.1 rad (6 degrees) of nod"),
    _single("smile", 0.7, "half of the way from sad to laughing"),
    _single("age", 0.5, "half of the way from young to old"),
    _light_hair(),
    _long_hair(),
    _present("glasses"),
    _present("hat"),
    _present("beard"),
    _single("skin", 0.5, "half of the way from light to dark"),
    _single("mouth_open", 0.5, "half open"),
    _single("light_azimuth", 0.6, "0.6 rad of the lamp's way around"),
)
ATTRIBUTES = {one.name: one for one in _ALL}


# Attribute -> the option that stands for "some" of it.
_SOME = {"glasses": "round", "hat": "cap", "beard": "full"}
_LIGHT_HAIR, _HAIR = "light_hair", "hair_colour"


def direction_of(change: Edit) -> tuple[str, float]:
    """The attribute, and the strength along its direction, that stand for a change of one parameter.

    UserError for an edit that no attribute stands for.
    """
    name = _LIGHT_HAIR if change.parameter == _HAIR else change.parameter
    found = ATTRIBUTES.get(name)
    if found and not change.option:
        unit = 1.0 if name == _LIGHT_HAIR else CONTINUOUS[name].moments()[1]
        return name, change.change / unit / found.step
    if name in _SOME:
        return name, -1.0 if change.option == "none" else 1.0
    amounts = ", ".join(name for name in ATTRIBUTES if name in CONTINUOUS)
    known = f"an amount of {amounts} or {_HAIR}, and {', '.join(f'{name}=...' for name in _SOME)}"
    raise UserError(f"{change.text}: no direction stands for it; there are edits by {known}", 2)


def true_edit(name: str, strength: float) -> Edit | None:
    """The change of a portrait that a strength along an attribute's direction stands for.

    Amounts have three digits, so that pictures of like edits are kept once. None where there is none: length
    of hair, which comes with a style, attributes that no portrait has, and less than half a thousandth.
    """
    if name in _SOME and strength:
        option = _SOME[name] if strength > 0 else "none"
        return Edit(f"{name}={option}", name, 1.0, option)
    parameter = _HAIR if name == _LIGHT_HAIR else name
    if parameter != _HAIR and parameter not in CONTINUOUS or name not in ATTRIBUTES:
        return None
    unit = 1.0 if parameter == _HAIR else CONTINUOUS[parameter].moments()[1]
    amount = round(strength * ATTRIBUTES[name].step * unit, 3)
    return Edit(f"{parameter}{amount:+g}", parameter, amount) if amount else None


# ---------------------------------------------------------------------------------------- labels of photos


@dataclass(frozen=True, eq=False)
class Labels:
    """Names of attributes [A], and values [A] by file name."""

    names: list[str]
    rows: dict[str, np.ndarray]

    def of(self, files: Sequence[Path]) -> np.ndarray:
        """Values [N, A] of these files; NaN for one without labels."""
        nothing = np.full(len(self.names), np.nan, np.float32)
        return np.stack([self.rows.get(file.name, nothing) for file in files])


def read_labels(path: Path) -> Labels:
    """Labels from a CSV (file name first, a heading), list_attr_celeba.txt or CelebAMask-HQ's layout.

    The last two have the count of images, the names, and a line for each image with 1 or -1. UserError for
    anything else.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels {path}: cannot be read ({error}); name a text file", 2) from None
    if lines and lines[0].strip().isdigit():
        table = [line.split() for line in lines[1:] if line.strip()]
        names, table = (table[0], table[1:]) if table else ([], [])
    else:
        table = [row for row in csv.reader(lines) if row]
        names, table = (table[0][1:], table[1:]) if table else ([], [])
    if not names or not table:
        raise UserError(f"--labels {path}: no labels; write a CSV of FILE,NAME,NAME... or CelebA's text", 2)
    rows = {}
    for number, row in enumerate(table, len(lines) - len(table) + 1):
        try:
            values = np.array(row[1:], np.float32)
        except ValueError:
            values = np.zeros(0, np.float32)
        if len(values) != len(names) or not np.isfinite(values).all():
            raise UserError(
                f"--labels {path}: line {number}: not {len(names)} numbers after the file's name", 2
            )
        rows[Path(row[0]).name] = values
    return Labels([name.strip() for name in names], rows)
