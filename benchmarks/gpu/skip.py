"""Section `skip`: the SkipUpsample kernel against torch, and beside the other two forms of the skip path."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.common import Machine
from benchmarks.gpu.haar import WrongKernels, library

# [n, c, h, w] of the smaller bands: [n, 4c, h, w].
SHAPES = ((1, 3, 32, 32), (2, 3, 17, 9), (3, 5, 1, 2))
TIMED = {"256 px": (1, 3, 128, 128), "1024 px": (1, 3, 256, 256), "1024 px batch 32": (32, 3, 256, 256)}


def run(machine: Machine) -> dict[str, Any]:
    """{"parity": {case: largest difference}, "latency": {size: {form: ms}}}."""
    kernel = _kernel(machine)
    parity = {f"{name} {'x'.join(map(str, shape))}": _parity(machine, kernel, shape, half)
              for shape in SHAPES for name, half in (("fp32", False), ("fp16", True))}  # fmt: skip
    sizes = {"tiny": (1, 3, 8, 8)} if machine.dry else TIMED
    result = {"parity": parity, "latency": {name: _latency(machine, kernel, s) for name, s in sizes.items()}}
    if wrong := [name for name, found in parity.items() if not found["passed"]]:
        raise WrongKernels(f"wrong results: {', '.join(wrong)}", result)
    return result


def _kernel(machine: Machine) -> Callable[..., None]:
    """(skip, coefficients, out) => launched onto torch's current stream."""
    import torch

    function = ctypes.CDLL(str(library(machine))).wagi_skip_upsample
    function.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int] * 5 + [ctypes.c_void_p]

    def launch(skip: Any, coefficients: Any, out: Any) -> None:
        n, bands, h, w = skip.shape
        stream = None if machine.dry else torch.cuda.current_stream().cuda_stream
        half = int(skip.dtype == torch.float16)
        places = (tensor.data_ptr() for tensor in (skip, coefficients, out))
        if status := function(*places, n, bands // 4, h, w, half, stream):
            raise RuntimeError(f"kernel launch returned CUDA error {status}")

    return launch


def _inputs(machine: Machine, shape: tuple[int, ...], half: bool) -> tuple[Any, Any]:
    import torch

    n, c, h, w = shape
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float16 if half else torch.float32
    sides = ((n, 4 * c, h, w), (n, 4 * c, 2 * h, 2 * w))
    skip, coefficients = (torch.randn(s, generator=generator).to(dtype).to(machine.device) for s in sides)
    return skip, coefficients


def _parity(
    machine: Machine, kernel: Callable[..., None], shape: tuple[int, ...], half: bool
) -> dict[str, Any]:
    """Against the training formulation in double precision."""
    import torch

    from wagi.haar import haar, inverse_haar
    from wagi.networks.layers import Upsample

    skip, coefficients = _inputs(machine, shape, half)
    out = torch.full_like(coefficients, float("nan"))
    kernel(skip, coefficients, out)
    larger = haar(Upsample().double()(inverse_haar(skip.cpu().double())))
    error = float((out.cpu().double() - larger - coefficients.cpu().double()).abs().max())
    limit = 2.0**-9 + 1e-6 if half else 3e-6  # half a unit in the last place of values below 8
    return {"max_abs": error, "limit": limit, "passed": error <= limit}


def _latency(machine: Machine, kernel: Callable[..., None], shape: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds of the three forms in FP32, as the FP16 export has them, and of the kernel in FP16 too."""
    import torch

    from export.skip import SkipPath
    from wagi.networks.swagan import Generator

    skip, coefficients = _inputs(machine, shape, half=False)
    found: dict[str, Any] = {}
    for form in ("folded", "wavelet"):
        module = SkipPath(Generator(32, style_dim=8, max_channels=4), form).to(machine.device).eval()
        found[form] = machine.milliseconds(lambda module=module: module(skip, coefficients))
    for name, half in (("kernel", False), ("kernel fp16", True)):
        given = _inputs(machine, shape, half)
        out = torch.empty_like(given[1])
        found[name] = machine.milliseconds(lambda given=given, out=out: kernel(*given, out))
    found["bytes"] = skip.nbytes + 2 * coefficients.nbytes
    return found
