"""Edits of a portrait: those that a text names, and the scenes of several edits that training reads."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wagi.errors import UserError
from wagi.portraits.colours import COLOURS, draw_colours
from wagi.portraits.parameters import CATEGORIES, CONTINUOUS, Portrait, edit, options, sample
from wagi.portraits.streams import stream

_CONTINUOUS = re.compile(r"([a-z_]+)([+-]\d*\.?\d+)")
_CATEGORY = re.compile(r"([a-z_]+)=(\w+)")
OTHER = "other"
# What changes together when another value is asked for by one name.
GROUPS: dict[str, tuple[str, ...]] = {
    "background": ("background", "background_colour", "background_colour2"),
    "light": ("light_azimuth", "light_elevation", "light_warmth", "light_contrast"),
    "hair": ("hair_style", "hair_length", "hair_volume", "hair_wave", "fringe"),
    "clothes": ("clothes", "clothes_colour", "clothes_colour2"),
    **{name: (name,) for name in COLOURS},
}


@dataclass(frozen=True)
class Edit:
    """A change of one thing: `yaw+0.3` and `hair_colour+0.2` add, `glasses=square` gives what a portrait did
    not have, `hat=none` takes away what it had, `light=other` draws anew.

    `change` is the amount in the parameter's unit (of a colour in each channel, 0 to 1), 1 for a category;
    `option` is a category's new value.
    """

    text: str
    parameter: str
    change: float
    option: str = ""

    def apply(self, portrait: Portrait) -> Portrait | None:
        """The edited portrait, or None where the edit leaves the parameter's range or changes nothing."""
        if self.option == OTHER:
            return edit(portrait, **redrawn(portrait, self.parameter))
        value = getattr(portrait, self.parameter)
        if self.option:
            applies = (value == "none") != (self.option == "none")
            return edit(portrait, **{self.parameter: self.option}) if applies else None
        if self.parameter in COLOURS:
            mixed = tuple(channel + self.change for channel in value)
            fits = min(mixed) >= 0 and max(mixed) <= 1
            return edit(portrait, **{self.parameter: mixed}) if fits else None
        span, changed = CONTINUOUS[self.parameter], value + self.change
        low = min(span.low, 0.0) if span.chance < 1 else span.low
        return edit(portrait, **{self.parameter: changed}) if low <= changed <= span.high else None


def parse_edit(text: str) -> Edit:
    """`NAME+AMOUNT`, `NAME-AMOUNT`, `NAME=OPTION` or `NAME=other`. Raises UserError, status 2."""
    found = _CONTINUOUS.fullmatch(text)
    if found and (found[1] in CONTINUOUS or found[1] in COLOURS) and float(found[2]):
        return Edit(text, found[1], float(found[2]))
    if found := _CATEGORY.fullmatch(text):
        name, option = found.groups()
        added = name in CATEGORIES and "none" in options(name) and option in options(name)
        if added or (name in GROUPS and option == OTHER):
            return Edit(text, name, 1.0, option)
    added_names = ", ".join(name for name in CATEGORIES if "none" in options(name))
    raise UserError(
        f"{text}: write NAME+AMOUNT or NAME-AMOUNT for a continuous parameter or a colour (yaw+0.3), "
        f"NAME=OPTION for one of {added_names} (glasses=square, hat=none), "
        f"NAME=other for one of {', '.join(GROUPS)}",
        2,
    )


def redrawn(portrait: Portrait, group: str) -> dict[str, Any]:
    """New values of all parameters of a group, those of a portrait that the seed decides."""
    seed = int(stream(portrait.seed, f"other {group}").integers(2**62))
    other, colours = sample(seed), draw_colours(seed)
    return {name: colours.get(name, getattr(other, name)) for name in GROUPS[group]}


# ------------------------------------------------------------------------------------------ training scenes

PER_SCENE = 5
TURNED = (False, False, False, True, True)  # which of a scene's pictures show the other view
BASE = (0, 0, 0, 3, 3)  # the picture of the source's appearance in the same view


def _continuous(name: str) -> Callable[[Portrait, np.random.Generator], dict[str, Any]]:
    """A new value, at least a quarter of the range away; to and from nothing for what few portraits have."""
    span = CONTINUOUS[name]

    def draw(portrait: Portrait, rng: np.random.Generator) -> dict[str, Any]:
        value = getattr(portrait, name)
        if span.chance < 1:
            return {name: 0.0 if value else float(rng.uniform(span.low, span.high))}
        new = rng.uniform(span.low, span.high)
        while abs(new - value) < (span.high - span.low) / 4:
            new = rng.uniform(span.low, span.high)
        return {name: float(new)}

    return draw


def _switch(name: str) -> Callable[[Portrait, np.random.Generator], dict[str, Any]]:
    """Off what is there (or another of its kind, one time in four), on what is not."""

    def draw(portrait: Portrait, rng: np.random.Generator) -> dict[str, Any]:
        value = getattr(portrait, name)
        others = [option for option in options(name) if option not in ("none", value)]
        off = value != "none" and rng.random() < 0.75
        return {name: "none" if off else str(rng.choice(others))}

    return draw


def _group(name: str) -> Callable[[Portrait, np.random.Generator], dict[str, Any]]:
    return lambda portrait, rng: redrawn(portrait, name)


_APPEARANCE: dict[str, tuple[float, Callable[[Portrait, np.random.Generator], dict[str, Any]]]] = {
    **{name: (weight, _continuous(name)) for name, weight in (
        ("smile", 0.12), ("age", 0.05), ("skin", 0.09), ("lipstick", 0.03), ("eyeshadow", 0.02),
        ("mouth_open", 0.03), ("eyelids", 0.02), ("brow_raise", 0.02), ("freckles", 0.02),
    )},
    **{name: (weight, _switch(name)) for name, weight in (
        ("glasses", 0.15), ("hat", 0.11), ("beard", 0.08), ("earrings", 0.02), ("accessory", 0.01),
    )},
    **{name: (weight, _group(name)) for name, weight in (
        ("hair_colour", 0.11), ("hair", 0.09), ("background", 0.09), ("light", 0.09), ("clothes", 0.02),
        ("hat_colour", 0.01), ("iris_colour", 0.01),
    )},
}  # fmt: skip


def _appearance(portrait: Portrait, rng: np.random.Generator) -> Portrait:
    """Another appearance in the same view: one change, or two at once."""
    names = list(_APPEARANCE)
    weights = np.array([_APPEARANCE[name][0] for name in names])
    chosen = rng.choice(names, 1 + int(rng.random() < 0.35), replace=False, p=weights / weights.sum())
    for name in chosen:
        portrait = edit(portrait, **_APPEARANCE[str(name)][1](portrait, rng))
    return portrait


def _turn(portrait: Portrait, rng: np.random.Generator) -> dict[str, float]:
    """Another yaw, pitch, or both: by a visible angle, within the range."""
    which = rng.choice(3, p=[0.7, 0.12, 0.18])
    changes: dict[str, float] = {}
    for name, least, most in (("yaw", 0.1, 0.65), ("pitch", 0.06, 0.25)):
        if which == (0 if name == "pitch" else 1):
            continue
        span, value = CONTINUOUS[name], getattr(portrait, name)
        turn = rng.uniform(least, most) * rng.choice([-1, 1])
        inside = span.low <= value + turn <= span.high
        changes[name] = float(np.clip(value + turn if inside else value - turn, span.low, span.high))
    return changes


def scene(portrait: Portrait) -> list[Portrait]:
    """The portrait, two other appearances of it, a turn, and the first of those appearances turned.

    The seed decides all. Any two of them, in either order, are an edit and its source.
    """
    rng = stream(portrait.seed, "scene")
    first, second = _appearance(portrait, rng), _appearance(portrait, rng)
    turn = _turn(portrait, rng)
    return [portrait, first, second, edit(portrait, **turn), edit(first, **turn)]


# ------------------------------------------------------------------------------------------ single edits


def counterfactual(portrait: Portrait) -> Portrait:
    """The same person with another yaw, pitch, smile or age; the seed decides which one, and how much."""
    rng = stream(portrait.seed, "counterfactual")
    name = str(rng.choice(["yaw", "pitch", "smile", "age"], p=[0.55, 0.1, 0.25, 0.1]))
    span = CONTINUOUS[name]
    if name in ("yaw", "pitch"):  # a turn by a visible angle, towards the front from beyond the middle
        turn = rng.uniform(0.3, 1.0) * (0.45 if name == "yaw" else 0.15)
        value = getattr(portrait, name) - math.copysign(turn, getattr(portrait, name) + rng.normal(0, 0.3))
    else:
        value = rng.uniform(span.low, span.high)
    return edit(portrait, **{name: float(np.clip(value, span.low, span.high))})
