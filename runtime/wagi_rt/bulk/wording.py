"""Edits by text of `wagi-rt bulk`: options for all pictures, cells of a table for one."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

from wagi_rt import values, worded
from wagi_rt.commands.sources import ByText
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest

TEXT, NEUTRAL, STRENGTH = COLUMNS = "text", "neutral", "text_strength"


class Wording:
    """--text, --neutral, --text-strength and --text-threshold; a row's cells go before the first three.

    columns: a table has some of COLUMNS, whose unknown words are errors of their rows.
    """

    def __init__(self, bundle: Manifest, args: Namespace) -> None:
        self._bundle, self._args = bundle, args
        self._neutral = worded.NEUTRAL if args.neutral is None else args.neutral
        self._threshold = worded.THRESHOLD if args.text_threshold is None else args.text_threshold
        self.columns = False

    def allow_columns(self) -> None:
        """Note that a table has some of COLUMNS. UserError where the bundle has no text model."""
        worded.alone(self._bundle, self._args.backend)
        self.columns = True

    def row(self, cells: Mapping[str, str]) -> ByText | None:
        """The edit by text of a picture with these cells, or None. UserError for a strength that is none."""
        text = cells.get(TEXT) or self._args.text
        if text is None:
            return None
        strength = self._args.text_strength
        if given := cells.get(STRENGTH):
            strength = values.finite(given)
            if strength is None:
                raise UserError(f"{STRENGTH} {given}: must be a number", status=2)
        return ByText(text, cells.get(NEUTRAL) or self._neutral, strength, self._threshold)

    def check(self) -> None:
        """UserError (status 2) for options that go with no text, or that the model does not know."""
        args = self._args
        if args.text is None and not self.columns:
            if args.neutral is not None or args.text_threshold is not None:
                where = "--text TEXT, or a table's column `text`"
                raise UserError(f"--neutral, --text-threshold: go with {where}", status=2)
            return
        texts = worded.alone(self._bundle, args.backend)
        if args.text is not None:
            texts.direction(args.text, self._neutral, self._threshold)
        else:
            texts.check([self._neutral], self._threshold)
