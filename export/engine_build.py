"""ONNX -> TensorRT plan: everything that needs the full `tensorrt` package (parser and builder), version 11.

TensorRT 11 knows strongly typed networks only: the precision is the graph's, no builder flag changes it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from wagi_rt.chain import Shapes
from wagi_rt.errors import UserError
from wagi_rt.files import write_beside

LEAST_VERSION = 11
_INSTALL = "run: pip install 'wagi[build]' (it fetches NVIDIA's libraries)"
_SECONDS_BETWEEN_LINES = 2.0


@dataclass(frozen=True)
class Options:
    """Settings of a build. The batches are the profile's; the spatial sizes are static."""

    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 4
    level: int = 3
    version_compatible: bool = True  # for the lean runtime
    tf32: bool = False


@dataclass(frozen=True)
class Built:
    plan: bytes
    plugin_layers: int


def import_builder() -> Any:
    """The full tensorrt, or one line that says what is missing. Only after `trt_cuda.probe`."""
    try:
        trt = import_module("tensorrt")
    except ModuleNotFoundError:
        message = f"building engines needs the full tensorrt package, which is not installed; {_INSTALL}"
        raise UserError(message, 2) from None
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the full tensorrt package does not load ({reason}); {_INSTALL}") from None
    if not hasattr(trt, "Builder") or int(trt.__version__.split(".")[0]) < LEAST_VERSION:
        raise UserError(f"tensorrt {trt.__version__} cannot build these engines, 11 or newer can; {_INSTALL}")
    return trt


def build(
    trt: Any, log: Any, model: Path, shapes: Shapes, options: Options, cache: Path, say: Callable[[str], None]
) -> Built:
    """Parse `model` and build its plan, one profile over the batch.

    log: the builder's logger (trt_program.logger). shapes: the inputs without the batch. cache: the
    timing cache, read and renewed. say: one line of progress. UserError when TensorRT refuses the graph.
    """
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):  # from the file: external data lies beside it
        reason = parser.get_error(0).desc() if parser.num_errors else log.first()
        raise UserError(f"{model}: TensorRT cannot parse it ({' '.join(reason.split())[:300]})")
    config = _config(trt, builder, options)
    config.add_optimization_profile(_profile(builder, shapes, options))
    timings = config.create_timing_cache(_read(cache))
    config.set_timing_cache(timings, False)
    monitor = _monitor(trt, say)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise UserError(
            f"{model}: TensorRT cannot build it ({log.first()}); try --level 2 or a smaller --max-batch"
        )
    _write(cache, bytes(memoryview(config.get_timing_cache().serialize())))
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return Built(bytes(memoryview(plan)), sum(layer.type == trt.LayerType.PLUGIN_V3 for layer in layers))


def _config(trt: Any, builder: Any, options: Options) -> Any:
    config, flags = builder.create_builder_config(), trt.BuilderFlag
    config.builder_optimization_level = options.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that layers and formats can be read
    if options.version_compatible:
        config.set_flag(flags.VERSION_COMPATIBLE)
        config.set_flag(flags.EXCLUDE_LEAN_RUNTIME)
    if not options.tf32:
        config.clear_flag(flags.TF32)
    return config


def _profile(builder: Any, shapes: Shapes, options: Options) -> Any:
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        sizes = (options.min_batch, options.opt_batch, options.max_batch)
        profile.set_shape(name, *((batch, *shape) for batch in sizes))
    return profile


def _read(cache: Path) -> bytes:
    return cache.read_bytes() if cache.is_file() else b""


def _write(cache: Path, content: bytes) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_beside(cache, content)


def progress_line(phase: str, step: int, steps: int) -> str:
    return f"  {phase}: {step + 1} of {steps}"


def _monitor(trt: Any, say: Callable[[str], None]) -> Any:
    """TensorRT's progress as lines; a function, because the base class comes with TensorRT."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self._steps: dict[str, int] = {}
            self._shown = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """False stops the build. The caller is C++, where an exception would end the process."""
            try:
                if time.monotonic() - self._shown > _SECONDS_BETWEEN_LINES:
                    self._shown = time.monotonic()
                    say(progress_line(phase_name, step, self._steps.get(phase_name, step + 1)))
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

    return Monitor()
