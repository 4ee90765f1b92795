"""Captions of portraits: what can be said of one in words, and sentences of some of it."""

import colorsys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from wagi.portraits.colours import Colour
from wagi.portraits.parameters import Portrait

Holds = Callable[[Portrait], bool]
# The names of colours that hair and things are called by.
_HAIR = {
    "black": (0.09, 0.07, 0.06), "brown": (0.34, 0.21, 0.12), "blond": (0.83, 0.68, 0.41),
    "red": (0.62, 0.27, 0.1), "grey": (0.72, 0.72, 0.72), "blue": (0.25, 0.42, 0.8),
    "pink": (0.85, 0.45, 0.62), "purple": (0.5, 0.3, 0.65), "green": (0.2, 0.55, 0.5),
}  # fmt: skip
# Upper ends of hues, in degrees.
_HUES = {
    15: "red", 45: "orange", 70: "yellow", 165: "green", 255: "blue", 300: "purple", 345: "pink", 360: "red"
}  # fmt: skip
_THINGS = (*dict.fromkeys(_HUES.values()), "brown", "black", "grey", "white")
_HATS = {"beanie": "beanie", "cap": "cap", "sunhat": "sun hat"}
_STYLES = {"bob": "a bob", "afro": "an afro", "bun": "a bun", "spiky": "spiky hair", "curly": "curly hair"}
_BEARDS = {"stubble": "stubble", "moustache": "a moustache", "goatee": "a goatee", "full": "a full beard"}
_GLASSES = {"round": "round glasses", "square": "square glasses", "sun": "sunglasses"}
_BACKGROUNDS = {"plain": "plain", "dots": "dotted", "stripes": "striped", "plaid": "plaid", "leaves": "leafy"}


class Fact(NamedTuple):
    """Words that are true of some portraits. A caption has one fact of a kind; slot: its place in it."""

    kind: str
    slot: str  # adjective, noun, with, without or doing
    words: str
    holds: Holds


def _hair_colour(colour: Colour) -> str:
    return min(_HAIR, key=lambda name: sum((a - b) ** 2 for a, b in zip(colour, _HAIR[name], strict=True)))


def _thing_colour(colour: Colour) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    if saturation < 0.18 or value < 0.2:
        return "black" if value < 0.25 else "grey" if value < 0.8 else "white"
    name = next(name for end, name in _HUES.items() if 360 * hue <= end)
    return "brown" if name == "orange" and value < 0.55 else name


def _is(parameter: str, option: str) -> Holds:
    return lambda p: getattr(p, parameter) == option


def _coloured(parameter: str, name: str, there: Holds = lambda p: True) -> Holds:
    return lambda p: there(p) and _thing_colour(getattr(p, parameter)) == name


def _haired(name: str) -> Holds:
    return lambda p: _hair(p) and _hair_colour(p.hair_colour) == name


def _hair(p: Portrait) -> bool:
    return p.hair_style not in ("bald", "buzz")


def _some(parameter: str) -> Holds:
    return lambda p: getattr(p, parameter) != "none"


def _man(p: Portrait) -> bool:
    return p.beard != "none" or p.hair_style in ("bald", "buzz")


def _woman(p: Portrait) -> bool:
    return not _man(p) and (p.lipstick > 0 or p.eyeshadow > 0 or p.hair_style in ("bob", "bun"))


def _facts() -> list[Fact]:
    add = [
        Fact("mood", "adjective", "smiling", lambda p: p.smile > 0.6),
        Fact("mood", "adjective", "happy", lambda p: p.smile > 0.6),
        Fact("mood", "adjective", "sad", lambda p: p.smile < 0.0),
        Fact("mood", "adjective", "serious", lambda p: p.smile < 0.2),
        Fact("age", "adjective", "young", lambda p: p.age < 0.3),
        Fact("age", "adjective", "old", lambda p: p.age > 0.7),
        Fact("hair", "adjective", "bald", _is("hair_style", "bald")),
        Fact("noun", "noun", "man", _man),
        Fact("noun", "noun", "woman", _woman),
        *(Fact("noun", "noun", noun, lambda p: True) for noun in ("person", "face", "portrait")),
        Fact("glasses", "with", "glasses", _some("glasses")),
        *(Fact("glasses", "with", words, _is("glasses", name)) for name, words in _GLASSES.items()),
        Fact("glasses", "without", "glasses", _is("glasses", "none")),
        Fact("hat", "with", "a hat", _some("hat")),
        *(Fact("hat", "with", f"a {words}", _is("hat", name)) for name, words in _HATS.items()),
        Fact("hat", "without", "a hat", _is("hat", "none")),
        Fact("beard", "with", "a beard", lambda p: p.beard in ("goatee", "full")),
        *(Fact("beard", "with", words, _is("beard", name)) for name, words in _BEARDS.items()),
        Fact("beard", "without", "a beard", _is("beard", "none")),
        *(Fact("hair", "with", words, _is("hair_style", name)) for name, words in _STYLES.items()),
        Fact(
            "hair", "with", "long hair", lambda p: p.hair_style in ("long", "curly") and p.hair_length > 0.9
        ),
        Fact("hair", "with", "short hair", lambda p: p.hair_style in ("short", "buzz", "spiky")),
        *(Fact("hair colour", "with", f"{name} hair", _haired(name)) for name in _HAIR),
        Fact("hair colour", "with", "dark hair", lambda p: _hair(p) and _luma(p.hair_colour) < 0.2),
        Fact("hair colour", "with", "light hair", lambda p: _hair(p) and _luma(p.hair_colour) > 0.5),
        Fact("skin", "with", "dark skin", lambda p: p.skin > 0.65),
        Fact("skin", "with", "light skin", lambda p: p.skin < 0.35),
        Fact("mouth", "with", "an open mouth", lambda p: p.mouth_open > 0.3),
        Fact("lips", "with", "lipstick", lambda p: p.lipstick > 0.4),
        Fact("eyes", "with", "eyeshadow", lambda p: p.eyeshadow > 0.4),
        Fact("earrings", "with", "earrings", _some("earrings")),
        Fact("turn", "doing", "looking left", lambda p: p.yaw < -0.2),
        Fact("turn", "doing", "looking right", lambda p: p.yaw > 0.2),
        Fact("turn", "doing", "looking straight ahead", lambda p: abs(p.yaw) < 0.1),
        Fact("nod", "doing", "looking up", lambda p: p.pitch > 0.08),
        Fact("nod", "doing", "looking down", lambda p: p.pitch < -0.08),
        Fact("light", "doing", "lit from the left", lambda p: p.light_azimuth < -0.5),
        Fact("light", "doing", "lit from the right", lambda p: p.light_azimuth > 0.5),
    ]
    for name in _THINGS:
        thing = f"{_article(name)} {name}"
        hat = _coloured("hat_colour", name, _some("hat"))
        add += [
            Fact("hat", "with", f"{thing} hat", hat),
            Fact("clothes", "with", f"{thing} shirt", _coloured("clothes_colour", name)),
            Fact("background", "with", f"{thing} background", _coloured("background_colour", name)),
        ]
    for option, words in _BACKGROUNDS.items():
        add.append(Fact("background", "with", f"a {words} background", _is("background", option)))
    for option in ("stripes", "plaid", "dots"):
        words = f"a {_BACKGROUNDS[option]} shirt"
        add.append(Fact("clothes", "with", words, _is("clothes", option)))
    return add


def _luma(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


FACTS = _facts()
_MOST_KINDS = 5  # facts of a caption besides its noun


def truth(portrait: Portrait) -> np.ndarray:  # => [len(FACTS)] bool
    """True for the FACTS that hold."""
    return np.array([fact.holds(portrait) for fact in FACTS])


def draw(known: np.ndarray, rng: np.random.Generator) -> list[int]:
    """The numbers of some of the FACTS that hold, one of a kind, a noun most of the time."""
    by_kind: dict[str, list[int]] = {}
    for k in np.flatnonzero(known):
        by_kind.setdefault(FACTS[k].kind, []).append(int(k))
    nouns = by_kind.pop("noun")
    kinds = rng.permutation(sorted(by_kind))[: rng.integers(1, _MOST_KINDS + 1)]
    chosen = [int(rng.choice(by_kind[kind])) for kind in kinds]
    return chosen + [int(rng.choice(nouns))] * bool(rng.random() < 0.8)


def sentence(chosen: Sequence[int], rng: np.random.Generator) -> str:
    """A caption with these facts: `a smiling man with round glasses and a red hat, looking left`."""

    def said(slot: str) -> list[str]:
        return [FACTS[k].words for k in chosen if FACTS[k].slot == slot]

    subject = said("adjective") + said("noun")
    if said("noun") and rng.random() < 0.8:
        subject.insert(0, _article(subject[0]))
    comma = "," if not said("noun") and subject else ""
    parts = [" ".join(subject) + comma] if subject else []
    for word in ("with", "without"):
        if things := said(word):
            last = f" {rng.choice(['and', ','])} " if word == "with" else " or "
            parts.append(f"{word} " + last.join(filter(None, [", ".join(things[:-1]), things[-1]])))
    parts += said("doing")
    return " ".join(parts).strip(", ").replace(" ,", ",")


# Every word that a caption can have.
_LINKS = "a an and of or with without".split()
VOCABULARY = sorted({word for fact in FACTS for word in fact.words.split()} | set(_LINKS))
