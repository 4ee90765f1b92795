"""Parameters of a portrait: their ranges, their random draws, and the vector that a network sees."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from wagi.portraits.colours import COLOURS, Colour, draw_colours
from wagi.portraits.streams import stream

ALPHABET = " ABCDEFGHIJKLMNOPQRSTUVWXYZ0123"
WORDS = (
    "CAT ZEN MIT WAVE HERO STAR ROCK SKY K2 GAN NYC JAZZ LOVE COOL SUN FOX YES HI OK PUNK KING ACE "
    "RUN ICE MAX WOW TEX BIG UFO VIP DJ LA"
).split()


@dataclass(frozen=True)
class Range:
    """A continuous parameter: uniform in [low, high] with probability `chance`, otherwise zero.

    With `spread` it is normal around the middle instead, clipped to [low, high].
    """

    low: float
    high: float
    chance: float = 1.0
    spread: float | None = None

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        present = rng.random() < self.chance
        if self.spread is not None:
            middle = 0.5 * (self.low + self.high)
            value = float(np.clip(rng.normal(middle, self.spread), self.low, self.high))
        else:
            value = float(rng.uniform(self.low, self.high))
        return value if present else 0.0

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation, by formula."""
        if self.spread is not None:
            return 0.5 * (self.low + self.high), self.spread
        mean = self.chance * 0.5 * (self.low + self.high)
        square = self.chance * (self.low**2 + self.low * self.high + self.high**2) / 3
        return mean, math.sqrt(square - mean**2)


CONTINUOUS: dict[str, Range] = {
    "yaw": Range(-0.8, 0.8, spread=0.33),
    "pitch": Range(-0.3, 0.3, spread=0.11),
    "roll": Range(-0.2, 0.2, spread=0.06),
    "head_width": Range(0.9, 1.1),
    "jaw": Range(-1, 1),
    "chin": Range(-1, 1),
    "cheeks": Range(-1, 1),
    "nose_length": Range(-1, 1),
    "nose_width": Range(-1, 1),
    "eye_size": Range(0.88, 1.18),
    "eye_spacing": Range(-1, 1),
    "mouth_width": Range(0.85, 1.15),
    "lips": Range(0.6, 1.5),
    "brow_height": Range(-1, 1),
    "brow_weight": Range(0.5, 1.5),
    "smile": Range(-0.4, 1.0),
    "mouth_open": Range(0.1, 1.0, chance=0.25),
    "brow_raise": Range(-1, 1),
    "eyelids": Range(0.55, 1.0),
    "gaze_x": Range(-1, 1),
    "gaze_y": Range(-1, 1),
    "skin": Range(0, 1),
    "age": Range(0, 1),
    "freckles": Range(0.3, 1.0, chance=0.25),
    "blush": Range(0, 1),
    "lipstick": Range(0.4, 1.0, chance=0.3),
    "eyeshadow": Range(0.4, 1.0, chance=0.3),
    "scar": Range(0.6, 1.0, chance=0.06),
    "hair_length": Range(0.75, 1.25),
    "hair_volume": Range(0, 1),
    "hair_wave": Range(0, 1),
    "fringe": Range(0, 1),
    "part": Range(-1, 1),
    "hairline": Range(-1, 1),
    "light_azimuth": Range(-1.2, 1.2),
    "light_elevation": Range(0.1, 1.0),
    "light_warmth": Range(-1, 1),
    "light_contrast": Range(0.3, 1.0),
}

# Options and their probabilities; a pair of tables where the two `presentation`s differ.
Options = dict[str, float]
CATEGORIES: dict[str, tuple[Options, Options]] = {
    "hair_style": (
        {"short": 0.1, "spiky": 0.04, "bob": 0.24, "long": 0.3, "curly": 0.16, "afro": 0.08, "bun": 0.08},
        {"bald": 0.1, "buzz": 0.16, "short": 0.34, "spiky": 0.14, "long": 0.08, "curly": 0.1, "afro": 0.08},
    ),
    "beard": (
        {"none": 1.0},
        {"none": 0.4, "stubble": 0.2, "moustache": 0.12, "goatee": 0.12, "full": 0.16},
    ),
    "glasses": ({"none": 0.65, "round": 0.13, "square": 0.13, "sun": 0.09},) * 2,
    "hat": ({"none": 0.55, "beanie": 0.16, "cap": 0.18, "sunhat": 0.11},) * 2,
    "earrings": (
        {"none": 0.4, "stud": 0.15, "hoop": 0.25, "drop": 0.2},
        {"none": 0.78, "stud": 0.12, "hoop": 0.08, "drop": 0.02},
    ),
    "background": (
        {"plain": 0.24, "dots": 0.16, "stripes": 0.14, "plaid": 0.14, "leaves": 0.16, "bokeh": 0.16},
    )
    * 2,
    "clothes": ({"plain": 0.4, "stripes": 0.25, "plaid": 0.15, "dots": 0.2},) * 2,
    "accessory": (
        {"none": 0.85, "hand": 0.03, "flower": 0.05, "paint": 0.035, "camera": 0.01, "microphone": 0.025},
    )
    * 2,
}


@dataclass(frozen=True)
class Portrait:
    """Every parameter of one picture. `seed` feeds what is not a parameter (single hairs, freckle places)."""

    seed: int
    yaw: float
    pitch: float
    roll: float
    head_width: float
    jaw: float
    chin: float
    cheeks: float
    nose_length: float
    nose_width: float
    eye_size: float
    eye_spacing: float
    mouth_width: float
    lips: float
    brow_height: float
    brow_weight: float
    smile: float
    mouth_open: float
    brow_raise: float
    eyelids: float
    gaze_x: float
    gaze_y: float
    skin: float
    age: float
    freckles: float
    blush: float
    lipstick: float
    eyeshadow: float
    scar: float
    hair_length: float
    hair_volume: float
    hair_wave: float
    fringe: float
    part: float
    hairline: float
    light_azimuth: float
    light_elevation: float
    light_warmth: float
    light_contrast: float
    hair_style: str
    beard: str
    glasses: str
    hat: str
    earrings: str
    background: str
    clothes: str
    accessory: str
    letters: str
    hair_colour: Colour
    iris_colour: Colour
    lip_colour: Colour
    glasses_colour: Colour
    hat_colour: Colour
    trim_colour: Colour
    earring_colour: Colour
    clothes_colour: Colour
    clothes_colour2: Colour
    background_colour: Colour
    background_colour2: Colour


def _letters(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.06:
        return ""
    if kind < 0.66:
        return WORDS[rng.integers(len(WORDS))]
    return "".join(ALPHABET[i] for i in rng.integers(1, 27, rng.integers(2, 5)))


def sample(seed: int) -> Portrait:
    """Draw a portrait. Equal seeds give equal portraits; each field has its own random stream."""
    values: dict[str, Any] = {name: span.draw(stream(seed, name)) for name, span in CONTINUOUS.items()}
    presentation = int(stream(seed, "presentation").random() < 0.5)
    for name, tables in CATEGORIES.items():
        table = tables[presentation]
        values[name] = str(stream(seed, name).choice(list(table), p=list(table.values())))
    if presentation and stream(seed, "make-up").random() < 0.9:
        values["lipstick"] = values["eyeshadow"] = 0.0
    values |= draw_colours(seed)
    return Portrait(seed=seed, letters=_letters(stream(seed, "letters")), **values)


def edit(portrait: Portrait, **changes: Any) -> Portrait:
    """The same portrait with other parameters, for instance `edit(p, yaw=0.3, smile=1.0)`.

    Raises ValueError for a name that is not a parameter, an unknown option or more than four letters.
    """
    names = {field.name for field in dataclasses.fields(Portrait)} - {"seed"}
    for name, value in changes.items():
        if name not in names:
            raise ValueError(f"{name!r} is not a portrait parameter; known: {', '.join(sorted(names))}")
        if name in CATEGORIES and value not in options(name):
            raise ValueError(f"{name}={value!r}: choose one of {', '.join(options(name))}")
        if name == "letters" and (len(value) > 4 or any(letter not in ALPHABET for letter in value)):
            raise ValueError(f"letters={value!r}: at most four of {ALPHABET.strip()}")
    return dataclasses.replace(portrait, **changes)


def options(category: str) -> list[str]:
    """The options of a categorical parameter, in the order of the vector's one-hot values."""
    first, second = CATEGORIES[category]
    return sorted(first | second)


# Names of the vector's columns before the colours.
COLUMNS = list(CONTINUOUS) + [f"{name}={option}" for name in CATEGORIES for option in options(name)]


def _one_hot(category: str, value: str) -> list[float]:
    first, second = CATEGORIES[category]
    result = []
    for option in options(category):
        share = 0.5 * (first.get(option, 0.0) + second.get(option, 0.0))
        standardised = (float(option == value) - share) / math.sqrt(share * (1 - share))
        result.append(min(max(standardised, -3.0), 3.0))
    return result


def _letter_code(portrait: Portrait) -> list[float]:
    """Five bits (-1 or 1) for each of four letters; zeros where no hat shows them."""
    if portrait.hat == "none":
        return [0.0] * 20
    codes = [ALPHABET.index(letter) for letter in portrait.letters.ljust(4)]
    return [1.0 if code >> bit & 1 else -1.0 for code in codes for bit in range(5)]


def vector(portrait: Portrait) -> np.ndarray:
    """The parameters as float32 [NUM_PARAMETERS], standardised, all within [-4, 4].

    Order: CONTINUOUS, one-hots of CATEGORIES, COLOURS (red, green, blue each), the letter code.
    """
    values: list[float] = []
    for name, span in CONTINUOUS.items():
        mean, deviation = span.moments()
        values.append((getattr(portrait, name) - mean) / deviation)
    for name in CATEGORIES:
        values += _one_hot(name, getattr(portrait, name))
    for name in COLOURS:
        values += [(channel - 0.45) / 0.27 for channel in getattr(portrait, name)]
    values += _letter_code(portrait)
    return np.clip(np.array(values, np.float32), -4, 4)


def attributes(portrait: Portrait) -> dict[str, Any]:
    """The parameters as a dict that JSON can hold."""
    return dataclasses.asdict(portrait)


NUM_PARAMETERS = len(CONTINUOUS) + sum(len(options(name)) for name in CATEGORIES) + 3 * len(COLOURS) + 20
