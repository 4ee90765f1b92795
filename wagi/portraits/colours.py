"""The colours of a portrait: palettes, and how they are drawn."""

import colorsys

import numpy as np

from wagi.portraits.streams import stream

Colour = tuple[float, float, float]
COLOURS = (
    "hair_colour iris_colour lip_colour glasses_colour hat_colour trim_colour earring_colour clothes_colour "
    "clothes_colour2 background_colour background_colour2"
).split()
HAIR = [(0.07, 0.06, 0.06), (0.16, 0.1, 0.07), (0.3, 0.19, 0.11), (0.45, 0.28, 0.15), (0.78, 0.6, 0.32)]
HAIR += [(0.88, 0.76, 0.5), (0.62, 0.27, 0.1), (0.72, 0.72, 0.72), (0.07, 0.06, 0.06), (0.2, 0.13, 0.09)]
DYED = [(0.25, 0.42, 0.8), (0.85, 0.45, 0.62), (0.5, 0.3, 0.65), (0.2, 0.55, 0.5)]
IRIS = [(0.33, 0.19, 0.09), (0.2, 0.12, 0.07), (0.3, 0.5, 0.68), (0.32, 0.48, 0.28), (0.45, 0.45, 0.45)]
LIPS = [(0.75, 0.12, 0.17), (0.6, 0.1, 0.25), (0.82, 0.3, 0.35), (0.5, 0.12, 0.3), (0.85, 0.35, 0.2)]
FRAMES = [(0.1, 0.1, 0.11), (0.3, 0.17, 0.09), (0.72, 0.57, 0.25), (0.65, 0.66, 0.68), (0.65, 0.12, 0.12)]
METALS = [(0.85, 0.68, 0.28), (0.8, 0.8, 0.83), (0.8, 0.2, 0.25), (0.2, 0.6, 0.55), (0.85, 0.8, 0.7)]


def _hsv(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def _choice(rng: np.random.Generator, options: list[Colour], jitter: float) -> Colour:
    base = np.array(options[rng.integers(len(options))]) * rng.uniform(1 - jitter, 1 + jitter)
    red, green, blue = np.clip(base * (1 + rng.normal(0, jitter / 4, 3)), 0, 1)
    return float(red), float(green), float(blue)


def _hat_colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Hat and letters: always one dark and one light, so that the letters can be read."""
    hue = rng.random()
    dark = colorsys.hsv_to_rgb(hue, rng.uniform(0.4, 0.95), rng.uniform(0.15, 0.42))
    other = (hue + rng.uniform(0.25, 0.75)) % 1
    light = colorsys.hsv_to_rgb(other, rng.uniform(0.0, 0.42), rng.uniform(0.9, 1.0))
    return (dark, light) if rng.random() < 0.6 else (light, dark)


def draw_colours(seed: int) -> dict[str, Colour]:
    """Every colour of a portrait by name (COLOURS), each from its own stream."""
    rng = stream(seed, "hair_colour")
    dyed = rng.random() < 0.1
    hat, trim = _hat_colours(stream(seed, "hat_colour"))
    return {
        "hair_colour": _choice(rng, DYED if dyed else HAIR, 0.25),
        "iris_colour": _choice(stream(seed, "iris_colour"), IRIS, 0.2),
        "lip_colour": _choice(stream(seed, "lip_colour"), LIPS, 0.2),
        "glasses_colour": _choice(stream(seed, "glasses_colour"), FRAMES, 0.15),
        "hat_colour": hat,
        "trim_colour": trim,
        "earring_colour": _choice(stream(seed, "earring_colour"), METALS, 0.15),
        "clothes_colour": _hsv(stream(seed, "clothes_colour"), (0.1, 0.65), (0.25, 0.85)),
        "clothes_colour2": _hsv(stream(seed, "clothes_colour2"), (0.0, 0.6), (0.3, 0.95)),
        "background_colour": _hsv(stream(seed, "background_colour"), (0.1, 0.48), (0.35, 0.9)),
        "background_colour2": _hsv(stream(seed, "background_colour2"), (0.1, 0.48), (0.35, 0.9)),
    }
