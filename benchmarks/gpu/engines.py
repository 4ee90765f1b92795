"""Sections `lean`, `engines` and `onnxruntime`: what `wagi-rt` runs on a GPU, as far as it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu import plugin
from benchmarks.gpu.common import ROOT, Machine, Skip, attempt
from wagi_rt.engines import trt_plans
from wagi_rt.errors import UserError

_SECONDS = {"engines": 240.0, "onnxruntime": 60.0}


def run_lean(machine: Machine) -> dict[str, Any]:
    """Probe, runtime object, plugin library. In a dry run the refusal without a driver is the result."""
    from wagi_rt.engines.trt import TrtEngine

    usable, detail = TrtEngine.available()
    found: dict[str, Any] = {"available": usable, "detail": detail}
    if machine.dry and not usable:
        return {**found, "plugins": attempt(lambda: _plugins(machine))}
    if not usable:
        raise Skip(detail)
    from wagi_rt.engines.trt_cuda import Device
    from wagi_rt.engines.trt_program import Runtime, import_tensorrt

    device = Device(0)
    try:
        runtime = Runtime(device, import_tensorrt())
        found |= {"gpu": device.name, "driver_cuda": device.driver, "broken_plan": _refusal(runtime)}
        return {**found, "plugins": attempt(lambda: _plugins(machine))}
    finally:
        device.close()


def _plugins(machine: Machine) -> list[str]:
    """The creators that TensorRT finds after loading the library; needs no driver."""
    from wagi_rt.engines.trt_program import import_tensorrt

    try:
        trt = import_tensorrt()
    except UserError as error:
        raise Skip(str(error)) from None
    trt_plans.load_plugins(trt, plugin.library(machine))
    return list(trt_plans.PLUGINS)


def _refusal(runtime: Any) -> str:
    """The real TensorRT's answer to a plan that is none: one line, no crash."""
    try:
        runtime.deserialise("plan", b"not a plan" * 100, ({}, {}))
    except UserError as error:
        return str(error)
    raise RuntimeError("TensorRT took a plan that is none")


def run_engines(machine: Machine) -> dict[str, Any]:
    """export/to_engine.py on the bundle with the full TensorRT, then latency through the backend."""
    from wagi_rt.engines.trt import TrtEngine

    usable, detail = TrtEngine.available()
    if not usable:
        raise Skip(detail)
    machine.require(_SECONDS["engines"], "building engines")
    bundle = _bundle(machine)
    environment = {**os.environ, "WAGI_CACHE": str(machine.scratch / "cache")}
    command = [sys.executable, str(ROOT / "export" / "to_engine.py"), str(bundle), "--max-batch", "4"]
    try:
        environment["WAGI_PLUGINS"] = str(plugin.library(machine))
    except Skip:
        command.append("--no-plugins")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=machine.left(), env=environment, cwd=ROOT
    )
    if done.returncode == 2:
        raise Skip(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-500:])
    os.environ |= environment
    return {
        "bundle": str(bundle.name),
        "table": done.stdout.splitlines(),
        "latency_ms": _latency(machine, bundle),
    }


def _latency(machine: Machine, bundle: Path) -> dict[str, Any]:
    """Whole inversions between host arrays, copies included, for batches 1 and 4."""
    from wagi_rt import manifest as manifests
    from wagi_rt import probes
    from wagi_rt.engines.trt import TrtEngine

    manifest = manifests.read(bundle)
    with TrtEngine(manifest) as engine:
        images = {batch: probes.images(manifest.size, 20, batch) for batch in (1, 4)}
        return {
            f"batch {batch}": machine.milliseconds(
                lambda array=array: engine.run_chain(manifest.chain, {"image": array}), waits=True
            )
            for batch, array in images.items()
        }


def run_onnxruntime(machine: Machine) -> dict[str, Any]:
    """ONNX Runtime's CUDA provider against its CPU provider on the bundle, and both latencies."""
    try:
        import onnxruntime
    except ImportError:
        raise Skip("onnxruntime is not installed") from None
    import wagi_rt
    from wagi_rt import manifest as manifests
    from wagi_rt import probes
    from wagi_rt.metrics import psnr_of_all

    providers = onnxruntime.get_available_providers()
    device = "cuda" if "CUDAExecutionProvider" in providers else "cpu"
    if device == "cpu" and not machine.dry:
        raise Skip(f"onnxruntime {onnxruntime.__version__} has no CUDA provider; install onnxruntime-gpu")
    machine.require(0 if machine.dry else _SECONDS["onnxruntime"], "ONNX Runtime")
    manifest = manifests.read(_bundle(machine))
    images = probes.images(manifest.size, 20, 1)
    with wagi_rt.load(manifest.folder, device="cpu") as session:
        wanted = session.restore(images).image
    with wagi_rt.load(manifest.folder, device=device) as session:
        found = session.restore(images).image
        latency = machine.milliseconds(lambda: session.restore(images), waits=True)
    return {
        "version": onnxruntime.__version__,
        "bundle": manifest.folder.name,
        "device": device,
        "precision": manifest.precision,
        "psnr_db": _decibel(psnr_of_all(found, wanted)),
        "latency_ms": latency,
    }


def _decibel(value: float) -> float:
    """JSON has no infinity."""
    return round(min(value, 200.0), 2)


def _bundle(machine: Machine) -> Path:
    from wagi_rt.manifest import embedded

    return machine.bundle or embedded()
