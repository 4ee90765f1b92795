"""Which engines there are, which of them work here, and how one is opened. Imports an engine only when asked.

The backend that runs is the one that is named (design.md): a backend that cannot run raises UserError, and
only `auto`, which says what it passed over, tries the next one.
"""

from __future__ import annotations

from importlib import import_module

from wagi_rt import TYPE_CHECKING
from wagi_rt.errors import UserError

if TYPE_CHECKING:  # the command line's --help needs the names below and nothing that is imported here
    from types import ModuleType
    from typing import Any, Protocol

    import numpy as np

    from wagi_rt.manifest import Manifest

    class Backend(Protocol):
        """What runs the graphs; a context manager made from (manifest, device, threads).

        Optional beside these: `run_pipeline(image) -> {ws, naive_r, result}`, a whole inversion on the
        device; `run_resident`, which is `run` but may leave outputs on the device (objects with `.numpy()`);
        `precision`, where it differs from the bundle's; `limit_psnr_db`, what it must reach on the bundle's
        probes before it is used.
        """

        device: str

        @property
        def version(self) -> str: ...

        def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...

        def close(self) -> None: ...


class Entry:
    """One engine. Its module has the class and `available() -> (works here, what it is or why not)`.

    kind: the class. devices: that it knows, the default first. options: what the class takes besides
    manifest, device and threads.
    """

    def __init__(
        self, title: str, module: str, kind: str, devices: tuple[str, ...], options: tuple[str, ...] = ()
    ) -> None:
        self.title, self.module, self.kind = title, module, kind
        self.devices, self.options = devices, options

    def load(self) -> ModuleType:
        return import_module(self.module)


BACKENDS = {
    "onnx": Entry("ONNX Runtime", "wagi_rt.engines.ort", "OrtBackend", ("cpu", "cuda"), ("pieces",)),
    "openvino": Entry("OpenVINO", "wagi_rt.engines.ov", "OvBackend", ("cpu",), ("pieces", "precision")),
    "trt": Entry("TensorRT", "wagi_rt.engines.trt", "TrtBackend", ("cuda",)),
}
AUTO = "auto"
NAMES = (*BACKENDS, AUTO)
PRECISIONS = ("fp32", "bf16")
# The order of measured speed (benchmarks/README.md), which `auto` follows.
_FASTEST_FIRST = (("trt", "cuda"), ("onnx", "cuda"), ("openvino", "cpu"), ("onnx", "cpu"))


def parse_device(device: str) -> tuple[str, int]:
    """ "cpu" => ("cpu", 0), "cuda" => ("cuda", 0), "cuda:1" => ("cuda", 1); else UserError."""
    kind, colon, index = device.partition(":")
    if (kind == "cuda" and (not colon or index.isdecimal())) or device == "cpu":
        return kind, int(index or 0)
    raise UserError(f"--device {device}: unknown device; use cpu, cuda or cuda:N", status=2)


def check(name: str, device: str | None = None, precision: str | None = None) -> None:
    """UserError (status 2) when these do not go together, whatever is installed."""
    if name not in NAMES:
        raise UserError(f"backend '{name}' is not in this version; it has: {', '.join(NAMES)}", status=2)
    if precision is not None and precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: must be one of {', '.join(PRECISIONS)}", status=2)
    kind = parse_device(device)[0] if device else None
    if name == AUTO:
        return
    entry = BACKENDS[name]
    if kind and kind not in entry.devices:
        runs = " or ".join(entry.devices)
        raise UserError(f"--device {device}: --backend {name} runs on {runs} only", status=2)
    if precision and "precision" not in entry.options:
        able = ", ".join(key for key, other in BACKENDS.items() if "precision" in other.options)
        raise UserError(
            f"--precision {precision}: --backend {name} computes as the bundle was exported; "
            f"use --backend {able}",
            status=2,
        )


def describe() -> dict[str, dict[str, Any]]:
    """Name -> {"available": bool, "detail": what it is or why not, "devices": [...] when available}."""
    report: dict[str, dict[str, Any]] = {}
    for name, entry in BACKENDS.items():
        module = entry.load()
        works, detail = module.available()
        report[name] = {"available": works, "detail": detail}
        if works:
            report[name]["devices"] = module.devices() if hasattr(module, "devices") else list(entry.devices)
    return report


def open_backend(
    name: str, manifest: Manifest, device: str | None, threads: int | None, **options: Any
) -> tuple[str, Backend, list[str]]:
    """The backend named, or with `auto` the first that works => (its name, itself, what was passed over).

    options: "pieces" (the separate graphs will be needed, not the pipeline) and "precision" (None: the
    default). UserError when it cannot run this bundle on that device.
    """
    check(name, device, options.get("precision"))
    if name != AUTO:
        return name, _open(name, manifest, device or BACKENDS[name].devices[0], threads, options), []
    passed_over = []
    for candidate, kind in _FASTEST_FIRST:
        wanted = device or kind
        if parse_device(wanted)[0] != kind:
            continue
        try:
            check(candidate, wanted, options.get("precision"))
            works, why = BACKENDS[candidate].load().available()
            if works:
                return candidate, _open(candidate, manifest, wanted, threads, options), passed_over
        except UserError as error:
            why = str(error)
        passed_over.append(f"{candidate} on {kind}: {why}")
    raise UserError(f"--backend auto: nothing here can run it ({'; '.join(passed_over)})")


def _open(
    name: str, manifest: Manifest, device: str, threads: int | None, options: dict[str, Any]
) -> Backend:
    entry = BACKENDS[name]
    known = {key: value for key, value in options.items() if key in entry.options and value is not None}
    opened: Backend = getattr(entry.load(), entry.kind)(manifest, device, threads, **known)
    return opened
