"""Load on a real Triton server: requests per second, waiting and batches with 1, 4 and 16 clients; memory.

python benchmarks/serving.py                                     # the embedded model (`make triton-check`)
python benchmarks/serving.py --out benchmarks/results/serving.json --page docs/scale.md
python benchmarks/serving.py --clients 4 --requests 20 --flat 0  # a try

Server and clients share this machine's processors. Batch sizes and waiting are Triton's own metrics.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

if TYPE_CHECKING:
    from benchmarks.triton_server import Server

SCHEMA = 1
_FLAT_CLIENTS, _SAMPLES = 4, 20  # of the run over which memory is watched
_ALONE = 20  # pictures of the baseline


def parser() -> argparse.ArgumentParser:
    from wagi_rt.values import count, positive

    parser = argparse.ArgumentParser(
        prog="serving.py",
        description=(__doc__ or "").split("\n")[0],
        epilog=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, metavar="DIR", help="serve this bundle (default: the embedded model)")
    add("--photo", type=Path, metavar="FILE", help="photo to send (default: one of the embedded samples)")
    add("--clients", default="1,4,16", metavar="A,B", help="clients that ask at once (default 1,4,16)")
    add("--requests", type=positive, default=200, metavar="N", help="requests of a series (default 200)")
    add("--flat", type=count, default=2000, metavar="N",
        help="requests over which memory is watched (default 2000; 0: none)")  # fmt: skip
    add("--max-batch", type=positive, default=8, metavar="N", help="as of to_triton.py (default 8)")
    add("--queue-delay", type=count, default=1000, metavar="US", help="as of to_triton.py (default 1000)")
    add("--threads", type=positive, metavar="N", help="as of to_triton.py")
    add("--machine", metavar="NAME", help="the machine's name in the report (default: the processor's)")
    add("--note", default="", metavar="TEXT", help="what disturbs the measurement, for the report")
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    add("--page", type=Path, metavar="PAGE", help="write the table between <!-- serving --> marks")
    return parser


def run(args: argparse.Namespace) -> int:
    """Make a repository, start the server, load it, report."""
    from benchmarks.report import insert
    from benchmarks.triton_server import Server, environment
    from export.to_triton import main as to_triton
    from wagi.files import write_json, write_text
    from wagi_rt import manifest as manifests
    from wagi_rt.errors import UserError

    place = environment()
    if place is None:
        raise UserError("no Triton here; `make triton-check` installs it, WAGI_TRITON names an environment")
    clients = _counts(args.clients)
    bundle = args.bundle or manifests.embedded()
    photo = (args.photo or manifests.embedded() / "samples" / "portrait-07.png").read_bytes()
    manifest = manifests.read(bundle)
    report = describe(args, manifest.name)
    say("the runtime alone")
    report["alone_ms"] = alone(bundle, photo, args.threads)
    with tempfile.TemporaryDirectory(prefix="wagi-serving-") as scratch:
        options = ["--max-batch", str(args.max_batch), "--queue-delay", str(args.queue_delay)]
        options += ["--threads", str(args.threads)] if args.threads else []
        if to_triton([str(bundle), "-o", f"{scratch}/repository", *options]):
            return 1
        with Server(place, Path(scratch, "repository")) as server:
            for kind, strengths in kinds(len(manifest.directions)).items():
                for number in clients:
                    say(f"{kind}, {number} clients")
                    found = series(server, photo, strengths, number, args.requests)
                    report["runs"].append({"kind": kind, **found})
            if args.flat:
                say(f"memory over {args.flat} requests")
                report["memory"] = memory(server, photo, args.flat)
    report["load_average"].append(os.getloadavg()[0])
    if args.out:
        write_json(args.out, report)
    print(text(report))
    if args.page:
        write_text(args.page, insert(args.page.read_text(), text(report), "serving"))
    return 0


def _counts(words: str) -> list[int]:
    from wagi_rt.errors import UserError

    if not all(word.isdecimal() and int(word) for word in words.split(",")):
        raise UserError(f"--clients {words}: whole numbers of at least 1, like 1,4,16", 2)
    return [int(word) for word in words.split(",")]


def kinds(directions: int) -> dict[str, list[float] | None]:
    """The series: name -> strengths."""
    edit = {"edit": [1.0] + [0.0] * (directions - 1)} if directions else {}
    return {"inversion": None, **edit}


def describe(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Machine, versions and command: the head of the report."""
    from benchmarks.machine import commit, processor

    words = ["python benchmarks/serving.py"]
    for key in ("bundle", "clients", "requests", "flat", "max_batch", "queue_delay", "threads"):
        value = getattr(args, key)
        if value not in (None, parser().get_default(key)):
            words.append(f"--{key.replace('_', '-')} {value.name if key == 'bundle' else value}")
    return {
        "schema": SCHEMA,
        "command": " ".join(words),
        "machine": args.machine or processor(),
        "processors": len(os.sched_getaffinity(0)),
        "note": args.note,
        "load_average": [os.getloadavg()[0]],  # before and after; the run itself makes some
        "model": name,
        "triton": "2.51.0 of nvidia-pytriton 0.7.0",
        "onnxruntime": importlib.metadata.version("onnxruntime"),
        "commit": commit(),
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "runs": [],
    }


def alone(bundle: Path, photo: bytes, threads: int | None) -> dict[str, float]:
    """Median milliseconds from file to file in one process without a server, by kind."""
    import wagi_rt
    from benchmarks.timing import interleave
    from wagi_rt import pictures

    with wagi_rt.load(bundle, threads=threads) as session:
        names = sorted(session.manifest.directions)
        works = {"inversion": lambda: pictures.encode(session.invert(photo)[0].image, ".png")}
        if names:
            edit = {names[0]: 1.0}
            works["edit"] = lambda: pictures.encode(session.open(photo).edit(edit).image, ".png")
        found = interleave(works, rounds=_ALONE, warmup=1)
    return {kind: round(samples.statistics()["p50"], 2) for kind, samples in found.items()}


def series(
    server: Server, photo: bytes, strengths: list[float] | None, clients: int, requests: int
) -> dict[str, Any]:
    """Every client asks again as soon as it has its answer. RuntimeError when one is not answered."""
    from benchmarks.timing import statistics

    before, started = server.metrics(), time.perf_counter()
    latencies = ask(server, photo, strengths, clients, requests, lambda done: None)
    seconds = time.perf_counter() - started
    counted = server.metrics()
    parts = {}
    for model, old in before.items():
        found = {name: value - old[name] for name, value in counted[model].items()}
        if found["exec_count"]:
            parts[model] = {
                "batch": round(found["count"] / found["exec_count"], 2),
                "queue_ms": round(found["queue_duration_us"] / found["request_success"] / 1000, 2),
                "compute_ms": round(found["compute_infer_duration_us"] / found["request_success"] / 1000, 2),
            }
    return {
        "clients": clients,
        "requests": requests,
        "per_second": round(requests / seconds, 2),
        "latency_ms": statistics(latencies),
        "parts": parts,
    }


def memory(server: Server, photo: bytes, requests: int) -> dict[str, Any]:
    """Megabytes of the server and its models while requests go on: [[requests so far, MB], ...]."""
    step = max(1, requests // _SAMPLES)
    samples = [[0, round(server.memory(), 1)]]

    def watch(done: int) -> None:
        if done % step == 0:
            samples.append([done, round(server.memory(), 1)])

    ask(server, photo, None, _FLAT_CLIENTS, requests, watch)
    late = [size for done, size in samples if done * 4 >= requests]
    return {"requests": requests, "mb": samples, "growth_mb": round(late[-1] - late[0], 1)}


def ask(
    server: Server,
    photo: bytes,
    strengths: list[float] | None,
    clients: int,
    requests: int,
    watch: Callable[[int], None],
) -> list[float]:
    """Milliseconds of each request; `watch` hears how many are done. RuntimeError unless all are answered."""
    from benchmarks.triton_server import Client

    latencies: list[float] = []
    failures: list[str] = []
    lock, left = threading.Lock(), iter(range(requests))

    def client() -> None:
        connection = Client(server)
        while not failures:
            with lock:
                if next(left, None) is None:
                    break
            started = time.perf_counter()
            try:
                reply = connection.infer([photo], strengths and [strengths])
                line = reply.error if reply.status != 200 else ""
            except OSError as error:
                line = str(error) or type(error).__name__
            with lock:
                latencies.append((time.perf_counter() - started) * 1000)
                failures.extend([line] if line else [])
                watch(len(latencies))
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"a request was not answered: {failures[0]}")
    return latencies


def text(report: dict[str, Any]) -> str:
    """The report for people, as docs/scale.md shows it."""
    from benchmarks.report import digits, table

    rows = []
    for one in report["runs"]:
        model = next(part for name, part in one["parts"].items() if name.endswith("_model"))
        latency = one["latency_ms"]
        figures = (one["per_second"], latency["p50"], latency["p99"], model["batch"], model["queue_ms"])
        rows.append([one["kind"], str(one["clients"]), *map(digits, figures)])
    header = ["kind", "clients", "pictures/s", "p50 ms", "p99 ms", "mean batch", "mean wait ms"]
    alone = ", ".join(f"{kind} {digits(ms)} ms" for kind, ms in report["alone_ms"].items())
    lines = [table(header, rows), "", f"One process without a server, file to file, median: {alone}."]
    if watched := report.get("memory"):
        first, last = watched["mb"][0][1], watched["mb"][-1][1]
        lines[-1] += (
            f" Memory of all processes over {watched['requests']} requests: {first:.0f} MB before, "
            f"{last:.0f} MB after; over the last three quarters {watched['growth_mb']:+.1f} MB."
        )
    busy = f"; {report['note']}" if report["note"] else ""
    where = f"{report['model']}, {report['machine']}, {report['processors']} processors{busy}"
    return "\n".join([*lines, "", f"*{where}:* `{report['command']}`"])


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a step failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
