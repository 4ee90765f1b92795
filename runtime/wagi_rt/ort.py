"""The ONNX Runtime backend: a context manager with `run(graph, {name: array}) -> {name: array}`."""

from __future__ import annotations

from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from wagi_rt.errors import UserError
from wagi_rt.manifest import REMEDY, Manifest

_ERRORS_ONLY_RAISED = 4  # ONNX Runtime's log level that leaves stderr to us; failures still raise


def import_onnxruntime() -> ModuleType:
    """onnxruntime, or one line that says how to install it."""
    try:
        import onnxruntime
    except ImportError as error:
        if getattr(error, "name", None) == "onnxruntime":
            reason = "ONNX Runtime is not installed; run: pip install 'wagi[cpu]' (or 'wagi[gpu]')"
        else:
            reason = (
                f"ONNX Runtime does not load ({' '.join(str(error).split())}); run: pip install 'wagi[cpu]'"
            )
        raise UserError(f"--backend onnx: {reason}", status=2) from None
    return onnxruntime


def parse_device(device: str) -> tuple[str, int]:
    """ "cpu" => ("cpu", 0), "cuda" => ("cuda", 0), "cuda:1" => ("cuda", 1); else UserError."""
    kind, colon, index = device.partition(":")
    if (kind == "cuda" and (not colon or index.isdecimal())) or device == "cpu":
        return kind, int(index or 0)
    raise UserError(f"--device {device}: unknown device; use cpu, cuda or cuda:N", status=2)


class OrtBackend:
    """One ONNX Runtime session per graph of the bundle, on exactly the device that was named."""

    def __init__(self, manifest: Manifest, device: str = "cpu", threads: int | None = None) -> None:
        kind, index = parse_device(device)
        self.manifest = manifest
        self.device = "cpu" if kind == "cpu" else f"cuda:{index}"
        self._ort = import_onnxruntime()
        self._provider, options = "CPUExecutionProvider", {}
        if kind == "cuda":
            self._provider, options = "CUDAExecutionProvider", {"device_id": str(index)}
            self._require_cuda()
        self._providers = [(self._provider, options)]
        self._sessions = {name: self._open(name, threads) for name in manifest.graphs}

    @property
    def version(self) -> str:
        return str(self._ort.__version__)

    def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one graph of the bundle; tensors are bound by name, float32."""
        names = list(self.manifest.graphs[graph].outputs)
        try:
            return dict(zip(names, self._sessions[graph].run(names, inputs), strict=True))
        except MemoryError:
            raise UserError("not enough memory for this batch; use a smaller --batch") from None
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = _first_line(error)
            raise UserError(
                f"graph '{graph}' failed on {self.device} ({reason}); try a smaller --batch"
            ) from None

    def close(self) -> None:
        self._sessions.clear()

    def __enter__(self) -> OrtBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_cuda(self) -> None:
        if self._provider not in self._ort.get_available_providers():
            raise UserError(
                f"--device {self.device}: this ONNX Runtime has no CUDA; "
                "use --device cpu, or: pip uninstall onnxruntime && pip install 'wagi[gpu]'",
                status=2,
            )
        if hasattr(self._ort, "preload_dlls"):
            self._ort.preload_dlls()  # finds the CUDA libraries that pip installed

    def _open(self, name: str, threads: int | None) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY_RAISED
        options.inter_op_num_threads = 1
        if threads is not None:
            options.intra_op_num_threads = threads
        # Five sessions take turns: without this the idle one's threads spin while the next one computes.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = self.manifest.folder / self.manifest.graphs[name].file
        try:
            session = self._ort.InferenceSession(str(path), options, providers=self._providers)
        except Exception as error:
            reason = _first_line(error)
            raise UserError(
                f"{path}: ONNX Runtime cannot load it on {self.device} ({reason}); {REMEDY}"
            ) from None
        if self._provider not in session.get_providers():  # ONNX Runtime would go on with the CPU
            raise UserError(
                f"--device {self.device}: CUDA could not be started; check the driver with nvidia-smi, "
                "or use --device cpu"
            )
        self._check_names(name, session)
        return session

    def _check_names(self, name: str, session: Any) -> None:
        graph = self.manifest.graphs[name]
        for tensors, declared in (
            (session.get_inputs(), graph.inputs),
            (session.get_outputs(), graph.outputs),
        ):
            found = {tensor.name: (tuple(tensor.shape[1:]), tensor.type) for tensor in tensors}
            if found != {key: (shape, "tensor(float)") for key, shape in declared.items()}:
                path = self.manifest.folder / graph.file
                raise UserError(f"{path}: its inputs or outputs are not those of the manifest; {REMEDY}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
