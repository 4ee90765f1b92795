"""One engine in a process of its own, for `wagi-rt tune`: a crash, a hang and its memory end with it.

stdout: a JSON object when it is open, and one for each line of stdin, which stands for a run: {}, {"ms",
"waited"} (ms too) or, as the last one, {"error"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from wagi_rt import backends, probes
from wagi_rt.engines import host
from wagi_rt.engines.base import EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.session import Session

_SEED = 0


def main() -> None:
    """The process. Arguments: a bundle and an EngineChoice, as one JSON list."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print

    def answer(**found: Any) -> None:
        print(json.dumps(found), file=answers, flush=True)

    bundle, *words = json.loads(sys.argv[1])
    choice = EngineChoice(*words)
    try:
        works, why = backends.engine_class(choice.backend).available()
        if not works:
            raise UserError(why)
        with Session(bundle, choice) as session:
            image = probes.images(session.size, _SEED, 1)
            session.restore(image)
            answer()
            for _ in sys.stdin:
                before, began = host.waited(), time.perf_counter()
                session.restore(image)
                ms = (time.perf_counter() - began) * 1000
                answer(ms=ms, waited=host.waited() - before)
    except UserError as error:
        answer(error=str(error))
    except MemoryError:
        answer(error="not enough memory")
