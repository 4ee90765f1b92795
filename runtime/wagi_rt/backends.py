"""The engines there are, which of them work here, and how one is opened. Imports an engine only when asked.

The backend that runs is the one that is named: one that cannot run raises UserError, and only `auto`, which
says what it passed over, tries the next one.
"""

from __future__ import annotations

import os

from wagi_rt import TYPE_CHECKING
from wagi_rt.errors import UserError

if TYPE_CHECKING:  # the command line's --help needs the names below and nothing that is imported here
    from typing import Any

    from wagi_rt.chain import Chain
    from wagi_rt.engines.base import Engine, EngineChoice
    from wagi_rt.manifest import Manifest


class Entry:
    """One backend: title, devices that it knows (the default first), precisions it can be asked for."""

    def __init__(self, title: str, devices: tuple[str, ...], precisions: tuple[str, ...] = ()) -> None:
        self.title, self.devices, self.precisions = title, devices, precisions


PRECISIONS = ("fp32", "bf16")
BACKENDS = {
    "onnx": Entry("ONNX Runtime", ("cpu", "cuda")),
    "openvino": Entry("OpenVINO", ("cpu",), PRECISIONS),
    "trt": Entry("TensorRT", ("cuda",)),
}
AUTO = "auto"
NAMES = (*BACKENDS, AUTO)
_THREADS_PER_CORE = 4  # more is a mistake, and takes minutes to start
# The order of measured speed (benchmarks/README.md), which `auto` follows.
_FASTEST_FIRST = (("trt", "cuda"), ("onnx", "cuda"), ("openvino", "cpu"), ("onnx", "cpu"))


def engine_class(name: str) -> type[Engine]:
    """The class of a backend; what it needs is imported when one is made."""
    if name == "onnx":
        from wagi_rt.engines.ort import OrtEngine

        return OrtEngine
    if name == "openvino":
        from wagi_rt.engines.ov import OvEngine

        return OvEngine
    from wagi_rt.engines.trt import TrtEngine

    return TrtEngine


def check(choice: EngineChoice) -> None:
    """UserError (status 2) when these do not go together, whatever is installed."""
    from wagi_rt.engines.base import parse_device

    name, device, threads, precision = choice
    if name not in NAMES:
        raise UserError(f"backend '{name}' is not in this version; it has: {', '.join(NAMES)}", status=2)
    if threads is not None and threads < 1:
        raise UserError(f"--threads {threads}: must be at least 1", status=2)
    if threads is not None and threads > (most := _THREADS_PER_CORE * (os.cpu_count() or 1)):
        raise UserError(f"--threads {threads}: more than {most} never helps here; use fewer", status=2)
    if precision is not None and precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: must be one of {', '.join(PRECISIONS)}", status=2)
    kind = parse_device(device)[0] if device else None
    if name == AUTO:
        return
    entry = BACKENDS[name]
    if kind and kind not in entry.devices:
        runs = " or ".join(entry.devices)
        raise UserError(f"--device {device}: --backend {name} runs on {runs} only", status=2)
    if precision and precision not in entry.precisions:
        able = ", ".join(key for key, other in BACKENDS.items() if other.precisions)
        raise UserError(
            f"--precision {precision}: --backend {name} computes as the bundle was exported; "
            f"use --backend {able}",
            status=2,
        )


def describe() -> dict[str, dict[str, Any]]:
    """Name -> {"available": bool, "detail": what it is or why not, "devices": [...] when available}."""
    report: dict[str, dict[str, Any]] = {}
    for name in BACKENDS:
        engine = engine_class(name)
        works, detail = engine.available()
        report[name] = {"available": works, "detail": detail}
        if works:
            report[name]["devices"] = engine.devices()
    return report


def open_engine(manifest: Manifest, choice: EngineChoice, chain: Chain) -> tuple[str, Engine, list[str]]:
    """The backend named, or with `auto` the first that works => (its name, itself, what was passed over).

    choice: one that `check` let pass. chain: what will run first. UserError when it cannot run this bundle on
    that device.
    """
    if choice.backend != AUTO:
        return choice.backend, engine_class(choice.backend)(manifest, choice, chain), []
    from wagi_rt.engines.base import parse_device

    passed_over = []
    for name, kind in _FASTEST_FIRST:
        candidate = choice._replace(backend=name, device=choice.device or kind)
        if parse_device(candidate.device or kind)[0] != kind:
            continue
        try:
            check(candidate)
            works, why = engine_class(name).available()
            if works:
                return name, engine_class(name)(manifest, candidate, chain), passed_over
        except UserError as error:
            why = str(error)
        passed_over.append(f"{name} on {kind}: {why}")
    raise UserError(f"--backend auto: nothing here can run it ({'; '.join(passed_over)})")
