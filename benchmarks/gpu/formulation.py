"""Section `torch`: the exact export formulation in PyTorch, eager, as a CUDA graph, and compiled.

The modules are those that export/to_onnx.py traces (export.graphs), so their latency is what TensorRT has to
beat, on any image that has PyTorch. Weights are random: latency does not depend on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.common import Machine, Skip, attempt

# Sum of per-layer rooflines on an H200-class GPU in FP16, batch 1 (decision 49).
FLOOR_MS = {"ffhq1024": 0.77, "ffhq256": 0.48}
_COMPILE_SECONDS, _MODEL_SECONDS = 150.0, 40.0


def run(machine: Machine) -> dict[str, Any]:
    """{preset: {form of the up-convolution: latencies, and parity with FP32}}."""
    import torch

    # Parity runs compare with true FP32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    presets = ["smoke"] if machine.dry else list(FLOOR_MS)
    with torch.inference_mode():
        return {preset: attempt(lambda preset=preset: _preset(machine, preset)) for preset in presets}


def random_model(preset: str) -> Any:
    """A WaGI model of a preset with random weights, gates and noise that are not neutral."""
    import torch

    from wagi.config import ModelConfig
    from wagi.model import WaGI
    from wagi.networks.build import build_part
    from wagi.presets import PRESETS

    torch.manual_seed(0)
    config = ModelConfig(**PRESETS[preset]["model"])
    model = WaGI(*(build_part(config, part) for part in ("generator", "encoder", "aligner", "fusion"))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(0.1)
            elif name.startswith("fusion.") and not parameter.any():
                parameter.normal_(0, 0.01)
    return model


def _preset(machine: Machine, preset: str) -> dict[str, Any]:
    import torch

    from export.graphs import build_graphs
    from export.synthesis import UP_FORMS

    machine.require(0 if machine.dry else _MODEL_SECONDS, preset)
    model, device = random_model(preset), machine.device
    size = model.generator.size
    image = (torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1).to(device)
    found: dict[str, Any] = {"size": size, "batch": 1, "floor_ms": FLOOR_MS.get(preset)}
    wanted, found["fp32 eager"] = _single(machine, _pipeline(build_graphs(model, "fp32"), device), image)
    for up in UP_FORMS:
        half = _pipeline(build_graphs(model, "fp16", up), device)
        found[up] = attempt(lambda half=half: _forms(machine, half, image, wanted))
        if not machine.dry:
            torch.cuda.empty_cache()
    # The form `plugin` is a node of ONNX files only; its kernel is timed in the section `skip`.
    wavelet = _pipeline(build_graphs(model, "fp16", skip="wavelet"), device)
    found["skip wavelet"] = attempt(lambda: _forms(machine, wavelet, image, wanted))
    best = min(UP_FORMS, key=lambda up: _best(found[up]))
    # Tracing the pipeline takes ten seconds of CPU: a dry run takes the aligner.
    name = "align" if machine.dry else "pipeline"
    graph = build_graphs(model, "fp16", best)[name]
    inputs = list(graph.inputs.values()) if machine.dry else [image]
    found[f"{best} compiled"] = attempt(lambda: _compiled(machine, graph.module.to(device), inputs))
    reference = model.to(device)
    found["training formulation, fp32 eager"] = machine.milliseconds(
        lambda: reference.invert(image), iterations=20
    )
    if not machine.dry:
        latency = min(_best(found[up]) for up in UP_FORMS)
        found["best_multiple_of_floor"] = round(latency / FLOOR_MS[preset], 3)
        found["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return found


def _pipeline(graphs: dict[str, Any], device: str) -> Any:
    return graphs["pipeline"].module.to(device)


def _single(machine: Machine, module: Any, image: Any) -> tuple[Any, dict[str, float]]:
    """The FP32 result, which the half-precision forms are compared with, and its latency."""
    return module(image)[2], machine.milliseconds(lambda: module(image), iterations=20)


def _best(found: dict[str, Any]) -> float:
    """The lowest median of a form's latencies."""
    times = [value["p50"] for value in found.values() if isinstance(value, dict) and "p50" in value]
    return min(times, default=float("inf"))


def _forms(machine: Machine, module: Any, image: Any, wanted: Any) -> dict[str, Any]:
    """Eager and CUDA-graph latency of a half-precision pipeline, and its PSNR against FP32."""
    result = module(image)[2]
    error = float((result.double() - wanted.double()).square().mean())
    psnr = (
        200.0 if error == 0 else round(10 * math.log10(4 / error), 2)
    )  # images span 2; JSON has no infinity
    found = {"finite": bool(result.isfinite().all()), "psnr_db": psnr}
    found["eager"] = machine.milliseconds(lambda: module(image))
    found["cuda graph"] = attempt(lambda: machine.milliseconds(_captured(machine, lambda: module(image))))
    return found


def _captured(machine: Machine, work: Callable[[], Any]) -> Callable[[], Any]:
    """`work` as the replay of a CUDA graph: fixed buffers, one launch."""
    if machine.dry:
        raise Skip("CUDA graphs need a GPU")
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def _compiled(machine: Machine, module: Any, inputs: list[Any]) -> dict[str, Any]:
    """torch.compile, and its CUDA graph. In a dry run without the code generator, which takes minutes."""
    import torch

    machine.require(0 if machine.dry else _COMPILE_SECONDS, "torch.compile")
    compiled = torch.compile(module, backend="eager") if machine.dry else torch.compile(module, dynamic=False)
    compiled(*inputs)
    found = {"compiled": machine.milliseconds(lambda: compiled(*inputs))}
    graph = attempt(lambda: machine.milliseconds(_captured(machine, lambda: compiled(*inputs))))
    return {**found, "compiled, cuda graph": graph}
