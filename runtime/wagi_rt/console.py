"""Lines on stderr; stdout is for results."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(line: str) -> None:
    """One line on stderr; names that the terminal cannot show are escaped, a closed stderr is ignored."""
    with suppress(OSError, ValueError):
        line = " ".join(line.splitlines())
        encoding = sys.stderr.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)
