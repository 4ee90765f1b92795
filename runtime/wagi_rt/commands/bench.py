"""`wagi-rt bench`: one JSON object with the latency of whole inversions, from file bytes to file bytes."""

from __future__ import annotations

import io
import json
import platform
import subprocess
import sys
import time
from argparse import Namespace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import PIL
from PIL import Image

from wagi_rt import __version__, decoding, pictures
from wagi_rt.commands.invert import announce, measure_later, open_session, require_precision
from wagi_rt.console import put, say
from wagi_rt.errors import UserError
from wagi_rt.session import Session

SCHEMA = 1
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "trt": "tensorrt"}
STAGES = ("prepare", "infer", "post", "encode")


def bench(args: Namespace, started: float) -> int:
    """The command. `started`: time.perf_counter() on entering our code, from where cold start counts."""
    prepared = time.perf_counter()
    content = _photo() if args.image is None else _read(args.image)
    started += time.perf_counter() - prepared
    with open_session(args) as session:
        require_precision(session, args.half)
        _once(session, content, 1)
        cold_start = (time.perf_counter() - started) * 1000
        if not args.quiet:
            announce(session)
            say(f"{args.warmup} to warm up, then {_amount(args)}")
        for _ in range(args.warmup):
            _once(session, content, args.batch)
        times = _measure(session, content, args)
        report = _report(session, args, np.array(times) * 1000, cold_start)
    put(json.dumps(report))
    measure_later(session, args.quiet)
    if not args.quiet:
        latency, rate = report["latency_ms"], report["throughput_ips"]
        say(f"p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms, {rate:.2f} images/s")
    return 0


def _amount(args: Namespace) -> str:
    return f"{args.duration} s" if args.duration else f"{args.iterations} iterations of {args.batch}"


def _measure(session: Session, content: bytes, args: Namespace) -> list[list[float]]:
    times = []
    end = time.perf_counter() + (args.duration or 0)
    while not times or (time.perf_counter() < end if args.duration else len(times) < args.iterations):
        times.append(_once(session, content, args.batch))
    return times


def _once(session: Session, content: bytes, batch: int) -> list[float]:
    """Seconds of each stage for one batch, every image decoded and encoded."""
    marks = [time.perf_counter()]
    prepared = [session.prepare(content) for _ in range(batch)]
    marks.append(time.perf_counter())
    inversion = session.restore(np.stack([one.image for one in prepared]))
    marks.append(time.perf_counter())
    results = session.results(inversion, prepared)
    marks.append(time.perf_counter())
    for result in results:
        pictures.encode(result.image, ".png")
    marks.append(time.perf_counter())
    return [after - before for before, after in zip(marks, marks[1:], strict=False)]


def _report(session: Session, args: Namespace, stages: np.ndarray, cold_start: float) -> dict[str, Any]:
    """stages: [iterations, stages] in ms."""
    total = stages.sum(axis=1)
    p50, p90, p95, p99 = np.percentile(total, (50, 90, 95, 99))
    latency = {
        "mean": total.mean(), "std": total.std(), "min": total.min(), "p50": p50,
        "p90": p90, "p95": p95, "p99": p99, "max": total.max(),
    }  # fmt: skip
    manifest = session.manifest
    return {
        "schema": SCHEMA,
        "model": manifest.name,
        "sha256": manifest.sha256,
        "backend": session.backend_name,
        "device": session.engine.device,
        "gpu": _gpu(session.engine.device),
        "precision": session.precision,
        "batch": args.batch,
        "input_shape": [args.batch, 3, session.size, session.size],
        "threads": args.threads,
        "warmup": args.warmup,
        "iterations": len(total),
        "latency_ms": {name: round(float(value), 3) for name, value in latency.items()},
        "throughput_ips": round(args.batch * 1000 / float(total.mean()), 3),
        "stage_ms": {name: round(float(v), 3) for name, v in zip(STAGES, stages.mean(axis=0), strict=True)},
        "cold_start_ms": round(cold_start, 1),
        "peak_rss_mb": _peak_rss_mb(),
        "versions": {
            "wagi": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            _PACKAGES[session.backend_name]: session.engine.version,
        },
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _photo() -> bytes:
    """A 1024x1024 JPEG with smooth and busy parts, the same every time."""
    ramp = np.linspace(0, 1, 1024)
    base = np.stack(
        [np.add.outer(ramp, ramp) / 2, np.multiply.outer(ramp, ramp), np.subtract.outer(ramp, ramp) ** 2]
    )
    noise = np.random.default_rng(0).normal(0, 0.05, base.shape)
    pixels = np.rint((base + noise).clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise UserError(f"--image {path}: cannot be read ({error.strerror}); check the path") from None
    decoding.decode(content, name=f"--image {path}")
    return content


def _gpu(device: str) -> str | None:
    """The GPU's name as the driver gives it, None on a CPU."""
    if device == "cpu":
        return None
    query = ["nvidia-smi", f"--id={device.partition(':')[2]}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _peak_rss_mb() -> float | None:
    """Peak memory of this process; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
