"""WaGI's runtime: invert images with an exported bundle, without PyTorch.

`import wagi_rt` is light: numpy, Pillow and the engine are imported by `load`. It also turns ONNX Runtime's
telemetry off, which contacts Microsoft when the library is imported (decision 54); with
ORT_DISABLE_TELEMETRY=0 in the environment it stays on. OpenVINO is imported without its telemetry.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # as type checkers know it; importing typing would be a tenth of `wagi-rt --help`
if TYPE_CHECKING:
    from os import PathLike

    from wagi_rt.session import Session

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    bundle: str | PathLike[str] | None = None,
    backend: str = "onnx",
    device: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    naive: bool = False,
) -> Session:
    """Open a bundle folder (None: the embedded demo model) as a Session, ready for `.invert(images)`.

    backend: "onnx", "openvino", "trt", or "auto" for the fastest here: the one that `wagi-rt tune` measured
        for this bundle, else the first that works in the order of speed elsewhere.
    device: "cpu", "cuda" or "cuda:N" (None: the CPU; a GPU with "trt"); the device named is the one that
        runs, or UserError is raised.
    threads: CPU threads of the engine, None for one per core within what this process may use.
    precision: "fp32" or "bf16" arithmetic of the backend "openvino"; "auto" lets "auto" choose bf16 where it
        was measured to be faster and passes its checks. Edits in bf16 have a check of their own.
    naive: results also hold the naive inversion at full size, which takes another pass of the generator.

    A session may be used by several threads: each gets the results of its own images. ONNX Runtime runs them
    at the same time, the other engines one after another. A process that is forked while a session is open
    opens its own; calls in the child, and after `close`, raise UserError.
    """
    from wagi_rt.engines.base import EngineChoice
    from wagi_rt.session import Session

    return Session(bundle, EngineChoice(backend, device, threads, precision), naive, editing=None)
