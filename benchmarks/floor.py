"""The least time a graph can take: multiplications and memory traffic of its layers against the machine.

A layer is a convolution or a matrix product. It needs its multiplications at the machine's matrix rate, and
the reading of its input and weights and the writing of its output at the memory's bandwidth; the floor of a
graph is the sum over its layers of the larger one. Everything between layers counts as free. An algorithm
that needs fewer multiplications (Winograd) may go below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH = "N"
_BYTES = {"fp32": 4, "fp16-weights": 4, "bf16": 2, "fp16": 2}
_CONVOLUTIONS, _PRODUCTS = ("Conv", "ConvTranspose"), ("Gemm", "MatMul")
_SIDES = {"cpu": (2048, 1 << 26), "cuda": (8192, 1 << 28)}  # matrix side, values copied
_CHANNELS, _PIXELS = 512, 64  # of the convolution: the generator's largest layers


@dataclass(frozen=True)
class Layer:
    """Work of one layer, whole batch."""

    macs: int
    weights: int  # values
    activations: int  # values read and written
    kind: str = "Conv"  # Conv, ConvTranspose, Gemm, MatMul; FIR: a Conv of every channel by itself


@dataclass(frozen=True)
class Rates:
    """Rates that the machine reached."""

    gflops: float  # 2 per multiplication with addition; the faster of matrix product and convolution
    gbytes: float  # per second, reads and writes together


def layers(path: Path, batch: int) -> list[Layer]:
    """The layers of an ONNX file (without reading its weights) for inputs of this batch."""
    import onnx
    import onnx.inliner
    import onnx.shape_inference

    model = onnx.inliner.inline_local_functions(onnx.load(path, load_external_data=False))
    # The exporter's own shapes, which name the batch; inference adds those inside the wavelet functions.
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param == BATCH:
                side.dim_value = batch
    shapes = _constants(model.graph)
    stored = set(shapes)
    # Weights that are stored in half precision.
    stored |= {n.output[0] for n in model.graph.node if n.op_type == "Cast" and n.input[0] in stored}
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [side.dim_value for side in value.type.tensor_type.shape.dim]
    chosen = (node for node in graph.node if node.op_type in (*_CONVOLUTIONS, *_PRODUCTS))
    return [_layer(node, shapes, stored, path) for node in chosen]


def _constants(graph: Any) -> dict[str, list[int]]:
    found = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = next(list(a.t.dims) for a in node.attribute if a.name == "value")
    return found


def _layer(node: Any, shapes: dict[str, list[int]], stored: set[str], path: Path) -> Layer:
    first, second, out = (shapes.get(name, [0]) for name in (*node.input[:2], node.output[0]))
    if 0 in (*first, *second, *out):
        raise ValueError(f"{path}: shape inference does not reach node {node.name}")
    attributes = {a.name: a.i for a in node.attribute}
    kind = node.op_type
    if kind == "Conv":
        kind = "FIR" if 1 < second[0] == attributes.get("group") else kind
        macs = math.prod(out) * math.prod(second[1:])
    elif kind == "ConvTranspose":
        macs = math.prod(first) * math.prod(second[1:])
    else:
        inner = first[-2] if attributes.get("transA") else first[-1]
        macs = math.prod(out) * inner
    constant = [node.input[1] in stored, node.input[0] in stored]
    weights = sum(math.prod(s) for s, held in zip((second, first), constant, strict=True) if held)
    return Layer(macs, weights, math.prod(first) + math.prod(second) - weights + math.prod(out), kind)


def floor_ms(found: list[Layer], rates: Rates, precision: str = "fp32") -> float:
    """The sum of the layers' rooflines."""
    size = _BYTES[precision]
    return sum(
        max(
            2 * layer.macs / (rates.gflops * 1e6),
            (layer.weights + layer.activations) * size / (rates.gbytes * 1e6),
        )
        for layer in found
    )


def describe(found: list[Layer], rates: Rates, precision: str = "fp32") -> dict[str, float]:
    """The row of one graph."""
    size = _BYTES[precision]
    return {
        "layers": len(found),
        "gmac": round(sum(layer.macs for layer in found) / 1e9, 3),
        "weights_mb": round(sum(layer.weights for layer in found) * size / 1e6, 2),
        "activations_mb": round(sum(layer.activations for layer in found) * size / 1e6, 2),
        "floor_ms": round(floor_ms(found, rates, precision), 4),
    }


def rate_works(precision: str, device: str = "cpu") -> dict[str, tuple[Callable[[], object], float]]:
    """{"matmul", "convolution" or "copy": (work, its GFLOP or GB)}, in torch with the threads that are set.

    Both kinds of arithmetic, because a library can be far from the hardware's limit in one of them.
    """
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    side, count = _SIDES[device]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    maps = torch.randn(max(1, side // 2048), _CHANNELS, _PIXELS, _PIXELS, device=device).to(dtype)
    kernel = torch.randn(_CHANNELS, _CHANNELS, 3, 3, device=device).to(dtype)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def convolve() -> None:
        with torch.inference_mode():
            torch.conv2d(maps, kernel, padding=1)
        wait()

    return {
        "matmul": (lambda: (torch.mm(a, b, out=product), wait()), 2 * side**3 / 1e9),
        "convolution": (convolve, 2 * maps.numel() * kernel[0].numel() / 1e9),
        "copy": (lambda: (target.copy_(source), wait()), 2 * 4 * count / 1e9),
    }
