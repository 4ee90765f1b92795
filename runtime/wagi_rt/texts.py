"""Texts as the numbers that a text model reads: a small list of words, or CLIP's byte pairs."""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from wagi_rt.errors import UserError, printable

# CLIP's merges: its first 49152 numbers less 512 letters and two marks. The public file has more lines.
_MERGES = 49152 - 256 - 2
_LONGEST = 40  # letters of a word in a message


class Words:
    """A text as numbers of its words: 1 for the first of `vocabulary`, one past the last for the end."""

    def __init__(self, vocabulary: Sequence[str], context: int) -> None:
        self.numbers = {word: number for number, word in enumerate(vocabulary, 1)}
        self.context = context

    def __call__(self, text: str) -> np.ndarray:  # => [context] int64
        """The words' numbers, the end, and zeros. UserError for a word that the model does not know."""
        words = re.findall(r"\w+", text.lower())
        if not words:
            raise UserError(f"the text '{printable(text)[:_LONGEST]}' has no words", 2)
        for word in words:
            if word not in self.numbers:
                raise self._unknown(word)
        return _row([self.numbers[word] for word in words], len(self.numbers) + 1, self.context)

    def _unknown(self, word: str) -> UserError:
        import difflib

        near = difflib.get_close_matches(word, self.numbers, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(self.numbers)}"
        return UserError(f"'{printable(word)[:_LONGEST]}' is no word of this model; {hint}", 2)


def _row(numbers: list[int], end: int, context: int, start: tuple[int, ...] = ()) -> np.ndarray:
    """[context] int64: start, numbers, end, zeros. UserError where that is too long."""
    most = context - 1 - len(start)
    if len(numbers) > most:
        raise UserError(f"a text of {len(numbers)} tokens, the model reads {most}; say it in fewer words", 2)
    row = np.zeros(context, np.int64)
    row[: len(start) + len(numbers) + 1] = [*start, *numbers, end]
    return row


class BytePairs:
    """CLIP's tokens (Radford et al. 2021) from the public list of merges, one pair a line below a heading.

    Broken encodings are not mended (OpenAI's code does, by ftfy).
    """

    # A word, a single digit, or a run of anything else.
    _SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\w\s]|_)+")

    def __init__(self, merges: Sequence[tuple[str, str]], context: int) -> None:
        letters = list(self._letters.values())
        words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
        self.numbers = {word: number for number, word in enumerate(words)}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.start, self.end, self.context = len(words), len(words) + 1, context

    @cached_property
    def _letters(self) -> dict[int, str]:
        """A visible letter for each byte, in the order of the published numbers."""
        visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = [byte for byte in range(256) if byte not in visible]
        return {byte: chr(byte) for byte in visible} | {byte: chr(256 + k) for k, byte in enumerate(hidden)}

    def __call__(self, text: str) -> np.ndarray:  # => [context] int64
        """Start, tokens, end, and zeros. UserError for a text that is too long."""
        text = " ".join(html.unescape(html.unescape(text)).split()).lower()
        found = [number for word in self._SPLIT.findall(text) for number in self._tokens(word)]
        return _row(found, self.end, self.context, start=(self.start,))

    def _tokens(self, word: str) -> list[int]:
        parts = [self._letters[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(zip(parts, parts[1:], strict=False), key=lambda pair: self.ranks.get(pair, _MERGES))
            if best not in self.ranks:
                break
            merged, k = [], 0
            while k < len(parts):
                twice = tuple(parts[k : k + 2]) == best
                merged.append("".join(best) if twice else parts[k])
                k += 1 + twice
            parts = merged
        return [self.numbers[part] for part in parts]


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of bpe_simple_vocab_16e6.txt.gz, or of merges.txt. Raises UserError."""
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode().split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path", 2) from None
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a list of merges ({error})") from None
    pairs = [tuple(line.split()) for line in lines[1 : _MERGES + 1] if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{path}: not CLIP's merges; give bpe_simple_vocab_16e6.txt.gz or merges.txt")
    return pairs  # type: ignore[return-value]
