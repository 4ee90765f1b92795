"""Values of options: texts of the command line, read and checked."""

from __future__ import annotations

import argparse
import math

from wagi_rt.backends import NAMES


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{text}'")
    return value


def count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not '{text}'")
    return value


def finite(text: str) -> float | None:
    """The number that a text says; None for no number and for infinite ones."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def number(text: str) -> float:
    value = finite(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"must be a number, not '{text}'")
    return value


def weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be over 0 and at most 1, not '{text}'")
    return value


def backend(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"this version has no '{text}'; it has: {', '.join(NAMES)}")
    return text


def address(text: str) -> str:
    if text in ("local", "auto") or (":" in text and not text.startswith(("/", "."))):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is no HOST:PORT; put INPUT before --ray")
