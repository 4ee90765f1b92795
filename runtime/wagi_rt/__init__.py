"""WaGI's runtime: invert images with an exported bundle, without PyTorch.

`import wagi_rt` is light: numpy, Pillow and the engine are imported by `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from wagi_rt.session import Session

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    bundle: str | PathLike[str] | None = None,
    backend: str = "onnx",
    device: str = "cpu",
    threads: int | None = None,
) -> Session:
    """Open a bundle folder (None: the embedded demo model) as a Session, ready for `.invert(images)`.

    device: "cpu", "cuda" or "cuda:N"; the device named is the one that runs, or UserError is raised.
    threads: CPU threads of the engine, None for its own choice.
    """
    from wagi_rt.session import Session

    return Session(bundle, backend=backend, device=device, threads=threads)
