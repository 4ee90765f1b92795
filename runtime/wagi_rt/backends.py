"""The engines there are, which of them work here, and how one is opened. Imports an engine only when asked.

The backend that runs is the one that is named: one that cannot run raises UserError, and only `auto`, which
says what it passed over, tries the next one.
"""

from __future__ import annotations

import os

from wagi_rt import TYPE_CHECKING
from wagi_rt.errors import UserError

if TYPE_CHECKING:  # the command line's --help needs the names below and nothing that is imported here
    from collections.abc import Iterable, Iterator
    from typing import Any

    from wagi_rt.chain import Chain
    from wagi_rt.engines.base import Engine, EngineChoice
    from wagi_rt.manifest import Manifest
    from wagi_rt.measured import Row


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
# The order of measured speed (benchmarks/README.md), which `auto` follows where nothing was measured.
_FASTEST_FIRST = (("trt", "cuda"), ("onnx", "cuda"), ("openvino", "cpu"), ("onnx", "cpu"))


_WORTH = 1.05  # a lower precision has to be faster by so much


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
    if precision not in (None, AUTO, *PRECISIONS):
        known = ", ".join((*PRECISIONS, AUTO))
        raise UserError(f"--precision {precision}: must be one of {known}", status=2)
    kind = parse_device(device)[0] if device else None
    if name == AUTO:
        return
    entry = BACKENDS[name]
    if kind and kind not in entry.devices:
        runs = " or ".join(entry.devices)
        raise UserError(f"--device {device}: --backend {name} runs on {runs} only", status=2)
    if precision not in (None, AUTO, *entry.precisions):
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


def candidates(choice: EngineChoice) -> list[EngineChoice]:
    """The choices of an `auto`, in the order of speed elsewhere; lower precisions, where allowed, last."""
    from wagi_rt.engines.base import parse_device

    kind = parse_device(choice.device)[0] if choice.device else None
    if choice.backend != AUTO:
        kind = kind or BACKENDS[choice.backend].devices[0]
    plain = None if choice.precision == AUTO else choice.precision
    found = [
        choice._replace(backend=name, device=choice.device or device, precision=plain)
        for name, device in _FASTEST_FIRST
        if choice.backend in (name, AUTO) and kind in (None, device)
    ]
    lower = [one._replace(precision=key) for one in found for key in BACKENDS[one.backend].precisions[1:]]
    return found + (lower if choice.precision == AUTO else [])


def _title(one: EngineChoice | Row) -> str:
    """`openvino bf16 on cpu`, the same for what is to be opened and what was measured."""
    precision = "" if one.precision in (None, PRECISIONS[0]) else f" {one.precision}"
    return f"{one.backend}{precision} on {(one.device or '').partition(':')[0]}"


def _by_title(rows: Iterable[Row]) -> dict[str, Row]:
    return {_title(row): row for row in rows}


def _ranked(choice: EngineChoice, rows: Iterable[Row]) -> Iterator[tuple[EngineChoice, str]]:
    """(candidate, what it failed with when it was measured): the fastest first, then those without a time.

    A lower precision without a time has not shown that it is good enough.
    """
    known = _by_title(rows)
    timed, untimed, failed = [], [], []
    for one in candidates(choice):
        row = known.get(_title(one))
        lower = one.precision not in (None, choice.precision)
        if row is None and not lower:
            untimed.append((one, ""))
        elif row is not None and row.ms is not None:
            timed.append((row.ms * (_WORTH if lower else 1), one))
        elif row is not None:
            failed.append((one, row.error))
    timed.sort(key=lambda found: found[0])
    yield from ((one, "") for _, one in timed)
    yield from untimed
    yield from failed


def fastest(choice: EngineChoice, rows: Iterable[Row]) -> Row | None:
    """The row of what `auto` opens; None where nothing that it may open was measured."""
    rows = list(rows)
    first = next(iter(_ranked(choice, rows)))[0]
    found = _by_title(rows).get(_title(first))
    return found if found and found.ms is not None else None


def open_engine(
    manifest: Manifest,
    choice: EngineChoice,
    chain: Chain,
    judged: Iterable[Chain] = (),
    rows: Iterable[Row] = (),
) -> tuple[str, Engine, list[str]]:
    """The engine named, or with `auto` the first that works => (its backend, itself, what was passed over).

    choice: one that `check` let pass. chain: what will run first. judged: inversions and edits by which an
    engine of lower precision has to prove itself. rows: what was measured here. UserError when none can run
    this bundle on that device.
    """

    def opened(one: EngineChoice) -> Engine:
        engine = engine_class(one.backend)(manifest, one, chain)
        if engine.limit_psnr_db is not None:
            from wagi_rt import probes

            try:
                for way in judged:
                    probes.require(engine, way)
            except BaseException:
                engine.close()
                raise
        return engine

    if AUTO not in (choice.backend, choice.precision):
        return choice.backend, opened(choice), []
    ranked = list(_ranked(choice, rows))
    passed_over = []
    for turn, (one, _) in enumerate(ranked):
        try:
            check(one)
            works, why = engine_class(one.backend).available()
            if works:
                engine = opened(one)
                passed_over += [f"{_title(other)}: {why}" for other, why in ranked[turn + 1 :] if why]
                return one.backend, engine, passed_over
        except UserError as error:
            why = str(error)
        passed_over.append(f"{_title(one)}: {why}")
    raise UserError(f"--backend {choice.backend}: nothing here can run it ({'; '.join(passed_over)})")
