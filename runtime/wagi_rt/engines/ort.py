"""The ONNX Runtime engine: one session per graph that is run, on exactly the device that was named."""

from __future__ import annotations

import ctypes
import functools
import io
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from wagi_rt import files
from wagi_rt.chain import Chain, Tensors
from wagi_rt.engines import host
from wagi_rt.engines.base import DEFAULT, EngineChoice, GraphEngine
from wagi_rt.engines.ort_cache import WEIGHTS, open_session
from wagi_rt.errors import UserError
from wagi_rt.manifest import REMEDY, Manifest

_CUDA_PART = "libonnxruntime_providers_cuda.so"
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_WIDENED = 32 * host.MEGABYTE  # more than any half-precision weight, widened while it is used
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


@functools.cache
def _share_arena(onnxruntime: ModuleType) -> None:
    """One arena for the large models of this process, as large as they need together at their largest batch.

    Without one a quarter of an inversion's time is page faults; the arena that a session has by itself grows
    by doubling, to half a gigabyte too much at 1024 px (benchmarks/README.md).
    """
    kind, memory = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    as_requested = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": -1,
                    "max_dead_bytes_per_chunk": -1}  # fmt: skip
    with suppress(Exception):  # no class of its own: the program around us registered one, which then serves
        onnxruntime.create_and_register_allocator(
            onnxruntime.OrtMemoryInfo("Cpu", kind, 0, memory), onnxruntime.OrtArenaCfg(as_requested)
        )


class OrtEngine(GraphEngine):
    """A bundle on the CPU or on one GPU."""

    concurrent = True  # sessions and bindings may be used by several threads at once

    @staticmethod
    def available() -> tuple[bool, str]:
        try:
            found = import_onnxruntime()
        except UserError as error:
            return False, str(error).removeprefix("--backend onnx: ")
        return True, f"ONNX Runtime {found.__version__} on {', '.join(OrtEngine.devices())}"

    @staticmethod
    def devices() -> list[str]:
        """The kinds of devices that the installed wheel was built for (a driver may still be missing)."""
        cuda = _CUDA in import_onnxruntime().get_available_providers()
        return ["cpu", "cuda"] if cuda else ["cpu"]

    def __init__(
        self, manifest: Manifest, choice: EngineChoice = DEFAULT, chain: Chain | None = None
    ) -> None:
        """Opens the graphs of `chain` (None: the manifest's default); others when they are first run."""
        super().__init__(manifest, choice)
        self._threads = choice.threads or host.limit()
        self._ort = import_onnxruntime()
        self._provider, options = _CPU, {}
        if self._kind == "cuda":
            self._provider, options = _CUDA, {"device_id": str(self._index)}
            self._require_cuda()
        self._providers = [(self._provider, options)]
        self._large = self._kind == "cpu" and manifest.total_bytes > files.SMALL
        # Half weights of a large model stay half in memory and are widened while they are used.
        self._lean = self._large and manifest.precision == "fp16-weights"
        if self._lean:
            host.return_blocks(_WIDENED)
        elif self._large:
            host.return_blocks()
            _share_arena(self._ort)
        self._sessions = {name: self._open(name) for name in (chain or manifest.chain).graphs}

    @property
    def version(self) -> str:
        return str(self._ort.__version__)

    def _run(self, graph: str, inputs: Tensors, keep: frozenset[str]) -> Tensors:
        """With IO binding: what stays on the device are OrtValues, which a next graph takes as they are."""
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = self._open(graph)
            session = self._sessions[graph]
        try:
            return self._bound(session, graph, inputs, keep)
        except MemoryError:
            raise UserError("not enough memory for this batch; use a smaller --batch") from None
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = _first_line(error)
            raise UserError(
                f"graph '{graph}' failed on {self.device} ({reason}); try a smaller --batch"
            ) from None

    def _bound(self, session: Any, graph: str, inputs: Tensors, keep: frozenset[str]) -> Tensors:
        binding = session.io_binding()
        # The binding refers to the arrays' memory: `held` keeps copies alive until the end of the run.
        held = {k: np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
        for name, value in held.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        names = list(self.manifest.graphs[graph].outputs)
        for name in names:
            kind, index = (self._kind, self._index) if name in keep else ("cpu", 0)
            binding.bind_output(name, kind, index)
        session.run_with_iobinding(binding)
        found = dict(zip(names, binding.get_outputs(), strict=True))
        return {name: value if name in keep else value.numpy() for name, value in found.items()}

    def _close(self) -> None:
        self._sessions.clear()

    def _require_cuda(self) -> None:
        if _CUDA not in self._ort.get_available_providers():
            raise UserError(
                f"--device {self.device}: this ONNX Runtime has no CUDA; "
                "use --device cpu, or: pip uninstall onnxruntime && pip install 'wagi[gpu]'",
                status=2,
            )
        self._ort.set_default_logger_severity(_ERRORS_ONLY_RAISED)
        with redirect_stdout(io.StringIO()):  # it prints what it does not find
            self._ort.preload_dlls()  # finds the CUDA libraries that pip installed

    def _open(self, name: str) -> Any:
        path = self.manifest.folder / self.manifest.graphs[name].file
        try:
            if self._kind == "cpu" and not self._lean:
                session = open_session(self.manifest, name, self.version, self._create)
            else:
                session = self._create(path, False, None)
        except Exception as error:
            reason = _first_line(error)
            raise UserError(
                f"{path}: ONNX Runtime cannot load it on {self.device} ({reason}); {REMEDY}"
            ) from None
        if self._provider not in session.get_providers():  # ONNX Runtime would go on with the CPU
            library = _missing_library(self._ort)
            what = (
                f"{library} is missing; run: pip install 'wagi[gpu]'"
                if library
                else ("check the driver with nvidia-smi")
            )
            line = f"--device {self.device}: CUDA could not be started; {what}, or use --device cpu"
            raise UserError(line)
        self._check_names(name, session)
        return session

    def _create(self, path: Path, optimised: bool, save: Path | None) -> Any:
        """See wagi_rt.engines.ort_cache.Create."""
        options = self._ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY_RAISED
        options.inter_op_num_threads = 1
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        add = options.add_session_config_entry
        # Threads that spin while they wait take the time of the next session, of decoding and of encoding:
        # half of all CPU time of a small model (benchmarks/README.md).
        add("session.intra_op.allow_spinning", "0")
        if self._large:  # a pattern would be a second arena, of the first batch's size
            options.enable_mem_pattern = False
            add("session.use_env_allocators", "0" if self._lean else "1")
        elif self._kind == "cpu" and not self.manifest.int8:
            # Packing takes as long as it saves in twenty runs; int8 layers take 1.7 times without it.
            add("session.disable_prepacking", "1")
        disabled = None
        if self._lean:
            options.enable_cpu_mem_arena = False
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            disabled = ["ConstantFolding"]
        if optimised:
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if save is not None:
            options.optimized_model_filepath = str(save)
            add("session.optimized_model_external_initializers_file_name", WEIGHTS)
            add("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        return self._ort.InferenceSession(
            str(path), options, providers=self._providers, disabled_optimizers=disabled
        )

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


def _missing_library(onnxruntime: ModuleType) -> str:
    """The first library that ONNX Runtime's CUDA part needs and the system does not find; empty for none."""
    part = Path(onnxruntime.__file__ or "").parent / "capi" / _CUDA_PART
    try:
        ctypes.CDLL(str(part))
    except OSError as error:  # "libcudnn.so.9: cannot open shared object file: ..."
        name, _, reason = str(error).partition(": ")
        return name if "cannot open shared object" in reason and name != str(part) else ""
    return ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
