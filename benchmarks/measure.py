"""One model: open its candidates, let them take turns, and put the numbers beside the floor."""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import floor, processes
from benchmarks.candidates import TASKS, TORCH, Key, Opener, Skip, Work, precisions
from benchmarks.models import prepare
from benchmarks.timing import Samples, interleave
from export.rows import psnr_db
from wagi_rt import decoding, pictures, probes
from wagi_rt import manifest as manifests
from wagi_rt.chain import PIPELINE
from wagi_rt.errors import UserError
from wagi_rt.metrics import PEAK

Say = Callable[[str], None]
_SEED = 1
_STAGE_ROUNDS = 5


def measure(args: Namespace, size: int | None, scratch: Path, say: Say) -> dict[str, Any]:
    """The entry of a random model of `size`, or (None) of the bundle that was named or is embedded."""
    device = "cuda" if args.gpu else "cpu"
    opener = _opener(args, size, device)
    manifest = manifests.read(next(iter(opener.bundles.values())))
    say(f"opening the candidates of {manifest.name}")
    keys = _keys(args, list(opener.bundles), device)
    works, skipped = _open(opener, keys, say)
    if not works:
        raise UserError(f"{manifest.name}: nothing to measure ({'; '.join(skipped.values())})")
    most = probes.images(manifest.size, _SEED, max(key.batch for key in works))
    images = {key.batch: most[: key.batch] for key in works}
    psnr = {}
    first = None
    for key, work in works.items():
        result = work(images[key.batch])[:1]  # also compiles what compiles at the first run
        first = result if first is None else first
        psnr[key] = round(psnr_db(result, first, PEAK), 1)
    for times in opener.timed.values():
        times.clear()
    calls: dict[Any, Callable[[], object]] = {
        key: (lambda work=work, batch=images[key.batch]: work(batch)) for key, work in works.items()
    }
    one = [key for key in works if key.batch == int(args.batch[0])]  # people edit one picture at a time
    calls |= _afterwards(opener, images, [] if "edits" in args.without else one)
    series = list(dict.fromkeys(key.precision for key in works))
    rate_works = {(precision, name): pair for precision in series
                  for name, pair in floor.rate_works(precision, device).items()}  # fmt: skip
    calls |= {key: work for key, (work, _) in rate_works.items()}
    samples = interleave(calls, args.rounds, args.warmup, lambda text: say(f"{manifest.name}: {text}"))
    after = {key: samples.pop(key) for key in calls if isinstance(key, After)}
    rates = best_rates({key: (samples.pop(key), amount) for key, (_, amount) in rate_works.items()})
    report = {
        "model": manifest.name,
        "sha256": manifest.sha256,
        "size": manifest.size,
        "rates": {precision: vars(found) for precision, found in rates.items()},
        "floor": _floors(manifest, rates, args.batch),
        "stage_ms": stages(manifest.size),
        "runs": [_entry(manifest, key, times, psnr[key], rates) for key, times in samples.items()],
        "skipped": {str(key): reason for key, reason in skipped.items()},
    }
    report["after"] = [_entry_after(key, times, samples[key.key]) for key, times in after.items()]
    _compare(report["runs"])
    _add_graphs(report, opener, args.warmup)
    for opened in (works, calls, opener.timed, opener.opened):  # the processes need the memory
        opened.clear()
    if "memory" not in args.without and device == "cpu":
        _add_processes(report, opener, scratch, args.threads, say)
    return report


def _opener(args: Namespace, size: int | None, device: str) -> Opener:
    if size is None:
        manifest = manifests.read(args.bundle)
        return Opener(None, {manifest.precision: manifest.folder}, args.threads, device)
    wanted = args.precisions or (["fp32", "fp16"] if args.gpu else ["fp32"])
    runtime = any(backend not in TORCH for backend in args.backends)
    stored = ["fp32", *(p for p in wanted if runtime and p not in ("fp32", "bf16"))]
    made = {precision: prepare(args.work, size, args.encoder, precision, args.set) for precision in stored}
    bundles = {precision: bundle for precision, (_, bundle) in made.items()}
    return Opener(made["fp32"][0], bundles, args.threads, device)


def _keys(args: Namespace, stored: list[str], device: str) -> list[Key]:
    """Every sensible combination; the larger batches of the runtime's backends only."""
    wanted = args.precisions or (["fp32", "fp16"] if device == "cuda" else stored)
    batches = [int(batch) for batch in args.batch]
    return [
        Key(backend, precision, batch)
        for backend in args.backends
        for precision in wanted
        if precision in precisions(backend, device)
        for batch in (batches[:1] if backend in TORCH else batches)
    ]


def _open(opener: Opener, keys: list[Key], say: Say) -> tuple[dict[Key, Work], dict[Key, str]]:
    works, skipped = {}, {}
    for key in keys:
        try:
            works[key] = opener.open(key)
        except Skip as reason:
            skipped[key] = str(reason)
            say(f"skipped: {key}: {reason}")
    return works, skipped


class After(NamedTuple):
    """One of TASKS, by one candidate: work on an opened picture."""

    key: Key
    task: str


def _afterwards(opener: Opener, images: dict[int, np.ndarray], keys: list[Key]) -> dict[After, Callable]:
    """The works on opened pictures of all candidates that have them."""
    found = {}
    for key in keys:
        for task in TASKS:
            with suppress(Skip):
                found[After(key, task)] = opener.after(key, task, images[key.batch])
    return found


def _entry_after(after: After, times: Samples, inversion: Samples) -> dict[str, Any]:
    """`of_inversion`: the median against that of the same candidate's inversion, of the same rounds."""
    latency = times.statistics()
    return {
        **after.key._asdict(),
        "task": after.task,
        "latency_ms": latency,
        "ms_per_image": round(latency["p50"] / after.key.batch, 3),
        "of_inversion": round(latency["p50"] / inversion.statistics()["p50"], 3),
    }


def best_rates(found: dict[tuple[str, str], tuple[Samples, float]]) -> dict[str, floor.Rates]:
    """The best of all rounds: what the machine can do, not what it did while others used it."""
    best = {key: amount / (min(times.wall) / 1000) for key, (times, amount) in found.items()}
    series = dict.fromkeys(precision for precision, _ in best)
    return {
        p: floor.Rates(round(max(best[p, "matmul"], best[p, "convolution"]), 1), round(best[p, "copy"], 2))
        for p in series
    }


def _floors(
    manifest: manifests.Manifest, rates: dict[str, floor.Rates], batches: list[str]
) -> dict[str, Any]:
    """{precision: {batch: {graph: what floor.describe says}}}."""
    names = list(manifest.parts)
    layers = {
        (name, batch): floor.layers(manifest.folder / manifest.graphs[name].file, int(batch))
        for name in names
        for batch in batches
    }
    return {
        p: {b: {name: floor.describe(layers[name, b], found, p) for name in names} for b in batches}
        for p, found in rates.items()
    }


def _entry(
    manifest: manifests.Manifest, key: Key, times: Samples, psnr: float, rates: dict[str, floor.Rates]
) -> dict[str, Any]:
    latency = times.statistics()
    entry = {
        **key._asdict(),
        "input_shape": [key.batch, 3, manifest.size, manifest.size],
        "latency_ms": latency,
        "cpu_ms": round(statistics.median(times.cpu), 3),
        "ms_per_image": round(latency["p50"] / key.batch, 3),
        "throughput_ips": round(key.batch * 1000 / latency["mean"], 4),
        "psnr_db": psnr,  # of the result, against the first candidate
        "floor_multiple": None,
        "cold_start_ms": None,
        "peak_rss_mb": None,
    }
    if PIPELINE in manifest.graphs:
        path = manifest.folder / manifest.graphs[PIPELINE].file
        least = floor.floor_ms(floor.layers(path, key.batch), rates[key.precision], key.precision)
        entry["floor_multiple"] = _multiple(latency["p50"], least)
    return entry


def _compare(runs: list[dict[str, Any]]) -> None:
    """Per image, against the reference where it ran."""
    base = next((run for run in runs if run["backend"] == "reference"), None)
    for run in runs:
        run["ratio"] = run["cpu_ratio"] = None
        if base is not None:
            per_image = base["batch"] / run["batch"]
            run["ratio"] = round(run["ms_per_image"] / base["ms_per_image"], 4)
            run["cpu_ratio"] = round(run["cpu_ms"] / base["cpu_ms"] * per_image, 4)


def _add_graphs(report: dict[str, Any], opener: Opener, warmup: int) -> None:
    """Latency of every graph, from the runs of the separate graphs."""
    for run in report["runs"]:
        graphs = opener.timed.get(Key(run["backend"], run["precision"], run["batch"]))
        if graphs is None:
            continue
        floors = report["floor"][run["precision"]][str(run["batch"])]
        run["graph_ms"] = {
            name: {
                "p50": round(p50 := statistics.median(times[warmup:]), 3),
                "floor_multiple": _multiple(p50, floors[name]["floor_ms"]),
            }
            for name, times in graphs.items()
        }


def _multiple(milliseconds: float, least: float) -> float | None:
    """None for a graph without layers."""
    return round(milliseconds / least, 3) if least else None


def _add_processes(report: dict[str, Any], opener: Opener, scratch: Path, threads: int, say: Say) -> None:
    """Peak memory, first use and cold start of single pictures, each in processes of its own."""
    photo = processes.write_photo(scratch, report["size"])
    edits = [run for run in report["after"] if run["task"] == "edit"]
    for run in [*report["runs"], *edits] if report["runs"][0]["batch"] == 1 else ():
        name, precision = run["backend"], run["precision"]
        if run["batch"] != 1 or name not in ("reference", "onnx", "openvino"):
            continue
        say(f"{report['model']}: a process of {name} {precision}")
        try:
            if name == "reference":
                assert opener.checkpoint is not None
                run |= processes.measure_reference(opener.checkpoint, threads)
            else:
                measure = processes.measure_edit if "task" in run else processes.measure_runtime
                run |= measure(photo, processes.Run(opener.bundle(precision), name, precision, threads))
        except processes.Failed as error:
            said = str(error).replace(f"{processes.ROOT}/", "")
            report["skipped"][f"process of {name} {precision}"] = said


def stages(size: int) -> dict[str, float]:
    """Median ms per image of what lies around the model; the same for every backend."""
    pixels = pictures.to_uint8(probes.images(size, _SEED, 1))[0]
    content = pictures.encode(pixels, ".jpg")
    picture = decoding.decode(content, size=size)
    image = pictures.to_float(pixels[None])

    def pre() -> np.ndarray:
        return pictures.to_float(pictures.fit_square(picture, size)[None])

    works: dict[str, Callable[[], object]] = {
        "decode": lambda: decoding.decode(content, size=size),
        "pre": pre,
        "post": lambda: pictures.to_uint8(image),
        "encode": lambda: pictures.encode(pixels, ".png"),
    }
    samples = interleave(works, _STAGE_ROUNDS, warmup=1)
    return {name: round(statistics.median(times.wall), 3) for name, times in samples.items()}
