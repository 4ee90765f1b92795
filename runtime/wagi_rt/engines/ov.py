"""The OpenVINO engine, for CPUs: FP32, or bf16 with sensitive layers and coordinates in FP32.

Each graph is compiled for the batch size that comes (a fixed shape runs about a fifth faster than a dynamic
one).
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from wagi_rt import files
from wagi_rt.chain import Chain, Tensors
from wagi_rt.engines import host
from wagi_rt.engines.base import DEFAULT, EngineChoice, GraphEngine
from wagi_rt.engines.ov_graph import add_wavelets, keep_coordinates, keep_fp32
from wagi_rt.errors import UserError
from wagi_rt.manifest import REMEDY, Manifest

OPTION = "--backend openvino"
_HINTS = {"fp32": "f32", "bf16": "bf16"}  # always said: OpenVINO would take bf16 by itself where it can
LIMIT_PSNR_DB = {"bf16": 45.0}  # on the bundle's probes
_MOST_SIZES = 2  # batch sizes of a graph that stay compiled: a folder's, and that of its last batch


def import_openvino() -> ModuleType:
    """openvino, or one line that says how to install it.

    Without its telemetry, which contacts Intel on import: it goes on where that module is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
        import openvino.frontend.onnx
    except ImportError as error:
        if getattr(error, "name", None) == "openvino":
            reason = "OpenVINO is not installed; run: pip install 'wagi[openvino]'"
        else:
            cause = " ".join(str(error).split())
            reason = f"OpenVINO does not load ({cause}); run: pip install 'wagi[openvino]'"
        raise UserError(f"{OPTION}: {reason}", status=2) from None
    return openvino


def precisions(core: Any) -> list[str]:
    """The precisions that this CPU has, as OpenVINO reports them."""
    return ["fp32", "bf16"] if "BF16" in _capabilities(core) else ["fp32"]


def _capabilities(core: Any) -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _version(openvino: ModuleType) -> str:
    return str(openvino.__version__).partition("-")[0]


class OvEngine(GraphEngine):
    """The bundle's graphs on the CPU; each is read at once or at its first run, and compiled when it runs."""

    @staticmethod
    def available() -> tuple[bool, str]:
        try:
            openvino = import_openvino()
        except UserError as error:
            return False, str(error).removeprefix(f"{OPTION}: ")
        return True, f"OpenVINO {_version(openvino)} on cpu, {' and '.join(precisions(openvino.Core()))}"

    @staticmethod
    def devices() -> list[str]:
        return ["cpu"]

    def __init__(
        self, manifest: Manifest, choice: EngineChoice = DEFAULT, chain: Chain | None = None
    ) -> None:
        """Reads the graphs of `chain`, see OrtEngine."""
        super().__init__(manifest, choice)
        if self._kind != "cpu":
            line = f"{OPTION}: runs on the CPU only; use --device cpu, not {self.device}"
            raise UserError(line, status=2)
        precision = choice.precision or "fp32"
        self._reduced = precision != "fp32"
        if self._reduced:
            self.precision = precision
        self.limit_psnr_db = LIMIT_PSNR_DB.get(precision)
        self._openvino = import_openvino()
        self._core = self._openvino.Core()
        if precision not in precisions(self._core):
            found = ", ".join(_capabilities(self._core))
            raise UserError(
                f"--precision {precision}: this CPU does not compute in it (OpenVINO reports {found}); "
                "use --precision fp32"
            )
        add_wavelets(self._core)
        self._large = manifest.total_bytes > files.SMALL
        if self._large:
            host.return_blocks()
        self._blobs = self._cache()
        self._config = self._make_config(precision, choice.threads or host.limit())
        self._compiled: dict[str, dict[int, Any]] = {}  # graph -> batch size -> model
        self._models = {name: self._read(name) for name in (chain or manifest.chain).graphs}

    @property
    def version(self) -> str:
        return _version(self._openvino)

    def _run(self, graph: str, inputs: Tensors, keep: frozenset[str]) -> Tensors:
        names = self.manifest.graphs[graph].outputs
        try:
            model = self._compile(graph, len(next(iter(inputs.values()))))
            found = model({name: np.ascontiguousarray(value) for name, value in inputs.items()})
            return {name: np.array(found[name]) for name in names}  # the request's memory is used again
        except UserError:
            raise
        except MemoryError:
            raise UserError("not enough memory for this batch; use a smaller --batch") from None
        except Exception as error:  # OpenVINO raises RuntimeError for everything
            raise UserError(
                f"graph '{graph}' failed on {self.device} ({_reason(error)}); try a smaller --batch"
            ) from None

    def _close(self) -> None:
        self._compiled.clear()
        self._models.clear()

    def _cache(self) -> Path | None:
        """The folder for OpenVINO's compiled models of this bundle; None for large ones and where it is not
        usable."""
        model = sorted(self.manifest.hashes.values())
        folder = files.root() / "openvino" / files.key(self.version, files.processor(), model)
        if self._large:
            return None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
        except OSError:
            return None  # compile every time
        files.prune(folder.parent)
        return folder if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else None

    def _compile_cached(self, model: Any) -> Any:
        """Compile, or take what OpenVINO has kept; only files that are as they were when they were kept."""
        for path in self._kept():
            if not files.is_sealed(path):
                with suppress(OSError):
                    path.unlink()
        before = self._kept()
        compiled = self._core.compile_model(model, "CPU", self._config)
        for path in self._kept() - before:
            with suppress(OSError):
                files.seal(path)
        return compiled

    def _kept(self) -> set[Path]:
        return set() if self._blobs is None else set(self._blobs.glob("*.blob"))

    def _make_config(self, precision: str, threads: int | None) -> dict[str, Any]:
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        if self._blobs is not None:
            config["CACHE_DIR"] = str(self._blobs)
        return config

    def _read(self, name: str) -> Any:
        path = self.manifest.folder / self.manifest.graphs[name].file
        try:
            model = self._core.read_model(str(path))
        except Exception as error:
            raise UserError(f"{path}: OpenVINO cannot load it ({_reason(error)}); {REMEDY}") from None
        self._check_names(name, path, model)
        if self._reduced:
            keep_fp32(self._core, model)
            keep_coordinates(model)
        return model

    def _check_names(self, name: str, path: Path, model: Any) -> None:
        graph = self.manifest.graphs[name]
        for ports, declared in ((model.inputs, graph.inputs), (model.outputs, graph.outputs)):
            found = {
                port.get_any_name(): tuple(side.get_max_length() for side in list(port.partial_shape)[1:])
                for port in ports
            }
            if found != declared or any(port.element_type.get_type_name() != "f32" for port in ports):
                raise UserError(f"{path}: its inputs or outputs are not those of the manifest; {REMEDY}")

    def _compile(self, graph: str, batch: int) -> Any:
        sizes = self._compiled.setdefault(graph, {})
        if batch not in sizes:
            if len(sizes) == _MOST_SIZES:
                del sizes[next(iter(sizes))]
            # What was read is let go of when it is compiled: it holds the weights a second time.
            model = self._models.pop(graph, None) or self._read(graph)
            shapes = self.manifest.graphs[graph].inputs
            model.reshape({name: [batch, *shape] for name, shape in shapes.items()})
            sizes[batch] = self._compile_cached(model)
            if self._large:  # OpenVINO keeps the files mapped of which it has packed a copy
                for name in self.manifest.files:
                    host.forget_mapped(self.manifest.folder / name)
        return sizes[batch]


def _reason(error: BaseException) -> str:
    """The last line that says something: OpenVINO begins with places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (said or [type(error).__name__])[0][:200]
