"""Pictures per second of `wagi-rt bulk` against its number of workers and against one `wagi-rt invert`.

python benchmarks/bulk.py                                     # the embedded model, 1 worker and one per core
python benchmarks/bulk.py --actors 1,2,4 --count 2000 --out benchmarks/results/bulk.json --page docs/scale.md
python benchmarks/bulk.py --count 8 --actors 1 --rounds 1     # a try

Every figure is of whole commands, from files to files, metrics included. Each runs with `--count` pictures
and with one: the difference gives the rate, and what one takes longer than with `invert` is Ray's start.
Memory is the peak of all processes together, shared pages counted once (PSS).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]  # runs from any checkout, installed or not

SCHEMA = 1
_COMMAND = "from wagi_rt.cli import command; command()"
_BETWEEN = 0.25  # seconds between two looks at the memory
_WORKER = "ray::Worker"
Counts = dict[str, float]


def parser() -> argparse.ArgumentParser:
    from wagi_rt.values import positive

    parser = argparse.ArgumentParser(
        prog="bulk.py",
        description=(__doc__ or "").split("\n")[0],
        epilog=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, metavar="DIR", help="model (default: the embedded one)")
    add("--photo", type=Path, metavar="FILE", help="picture that all copies are of (default: a sample)")
    add("--count", type=positive, default=500, metavar="N", help="pictures of a run (default 500)")
    add("--actors", metavar="A,B", help="numbers of workers (default: 1 and one per core)")
    add("--threads", type=positive, default=1, metavar="N", help="of each worker (default 1)")
    add("--batch", type=positive, default=1, metavar="N", help="as of bulk and invert (default 1)")
    add("--rounds", type=positive, default=3, metavar="N", help="medians of so many (default 3)")
    add("--machine", metavar="NAME", help="the machine's name in the report (default: the processor's)")
    add("--note", default="", metavar="TEXT", help="what disturbs the measurement, for the report")
    add("--out", type=Path, metavar="FILE", help="write the report as JSON")
    add("--page", type=Path, metavar="PAGE", help="write the table between <!-- bulk --> marks")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure all commands in turns, report."""
    from benchmarks.report import insert
    from benchmarks.timing import interleave
    from wagi.files import write_json, write_text

    actors = _numbers(args.actors) if args.actors else sorted({1, len(os.sched_getaffinity(0))})
    report = describe(args)
    with tempfile.TemporaryDirectory(prefix="wagi-bulk-") as scratch:
        photos = {count: copies(args, Path(scratch, f"in-{count}"), count) for count in (1, args.count)}
        memory: dict[tuple[str, int], list[Counts]] = {}
        works = {}
        for name, words in commands(args, actors).items():
            for count, folder in photos.items():
                seen = memory.setdefault((name, count), [])
                works[name, count] = job([words[0], str(folder), *words[1:]], Path(scratch, "out"), seen)
        found = interleave(works, args.rounds, warmup=0, report=say)
    seconds = {key: statistics.median(samples.wall) / 1000 for key, samples in found.items()}
    report["runs"] = [entry(name, args.count, seconds, memory) for name in commands(args, actors)]
    report["ray"] = cost(report["runs"])
    report["load_average"].append(os.getloadavg()[0])
    if args.out:
        write_json(args.out, report)
    print(text(report))
    if args.page:
        write_text(args.page, insert(args.page.read_text(), text(report), "bulk"))
    return 0


def _numbers(words: str) -> list[int]:
    from wagi_rt.errors import UserError

    if not all(word.isdecimal() and int(word) for word in words.split(",")):
        raise UserError(f"--actors {words}: whole numbers of at least 1, like 1,2,4", 2)
    return [int(word) for word in words.split(",")]


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """Machine, versions and command: the head of the report."""
    from benchmarks.machine import commit, processor
    from wagi_rt import manifest

    words = ["python benchmarks/bulk.py"]
    for key in ("bundle", "photo", "count", "actors", "threads", "batch", "rounds"):
        value = getattr(args, key)
        if value != parser().get_default(key):
            words.append(f"--{key} {value.name if isinstance(value, Path) else value}")
    bundle = manifest.read(args.bundle)
    return {
        "schema": SCHEMA,
        "command": " ".join(words),
        "machine": args.machine or processor(),
        "processors": len(os.sched_getaffinity(0)),
        "note": args.note,
        "load_average": [os.getloadavg()[0]],  # before and after; the run itself makes some
        "model": f"{bundle.name} ({bundle.size} px)",
        "versions": {name: importlib.metadata.version(name) for name in ("ray", "onnxruntime")},
        "commit": commit(),
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "count": args.count,
        "rounds": args.rounds,
    }


def copies(args: argparse.Namespace, folder: Path, count: int) -> Path:
    """A folder with the picture so many times: every one is read, decoded and computed anew."""
    from wagi_rt import manifest

    photo = args.photo or manifest.embedded() / "samples" / "portrait-07.png"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06}{photo.suffix}").write_bytes(photo.read_bytes())
    return folder


def commands(args: argparse.Namespace, actors: list[int]) -> dict[str, list[str]]:
    """Name -> command and options, less inputs and output."""
    options = ["-q", "--batch", str(args.batch), *(["-m", str(args.bundle)] if args.bundle else [])]
    bulk = ["bulk", *options, "--threads", str(args.threads), "--ray", "local"]
    invert = ["invert", *options, "--json"]
    found = {"invert": invert, "invert --threads 1": [*invert, "--threads", "1"]}
    return found | {f"bulk --actors {number}": [*bulk, "--actors", str(number)] for number in actors}


def job(words: list[str], out: Path, memory: list[Counts]) -> Callable[[], None]:
    """A call that runs `wagi-rt WORDS -o OUT` to its end, and appends its peaks of memory."""

    def call() -> None:
        import shutil

        from wagi_rt.errors import UserError

        path = os.pathsep.join([str(ROOT), str(ROOT / "runtime")])
        command = [sys.executable, "-c", _COMMAND, *words, "-o", str(out)]
        with tempfile.TemporaryFile() as lines:
            process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=lines
            )
            memory.append(peaks(process))
            lines.seek(0)
            if process.returncode:
                raise UserError(f"{words[0]}: {lines.read().decode(errors='replace').strip()[-500:]}")
        shutil.rmtree(out)

    return call


def peaks(process: subprocess.Popen) -> Counts:
    """The most MB that a process and those below it took at once until it ended: total, workers, rest."""
    most = {"total": 0.0, "workers": 0.0, "rest": 0.0}
    while process.poll() is None:
        now = {"workers": 0.0, "rest": 0.0}
        for pid, name in family(process.pid).items():
            with suppress(OSError, StopIteration):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                now["workers" if name.startswith(_WORKER) else "rest"] += kilobytes * 1024 / 1e6
        now["total"] = now["workers"] + now["rest"]
        most = {key: max(value, now[key]) for key, value in most.items()}
        time.sleep(_BETWEEN)
    return most


def family(root: int) -> dict[int, str]:
    """A process and those below it: number -> how it calls itself."""
    below: dict[int, list[int]] = {}
    names = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            pid = int(path.parent.name)
            below.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(pid)
            names[pid] = (path.parent / "cmdline").read_text()
    found = [root]
    for pid in found:
        found += below.get(pid, [])
    return {pid: names.get(pid, "") for pid in found}


def entry(
    name: str,
    count: int,
    seconds: dict[tuple[str, int], float],
    memory: dict[tuple[str, int], list[Counts]],
) -> dict[str, Any]:
    """One line of the report."""
    many, one = seconds[name, count], seconds[name, 1]
    peak = {key: round(max(found[key] for found in memory[name, count]), 1) for key in memory[name, count][0]}
    return {
        "command": name,
        "seconds": round(many, 2),
        "one_seconds": round(one, 2),
        "per_second": round((count - 1) / (many - one), 3) if many > one else None,
        "memory_mb": peak,
    }


def cost(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The price of Ray: seconds until its workers work, MB beside them."""
    alone, bulk = runs[0], [one for one in runs if one["command"].startswith("bulk")]
    return {
        "start_seconds": round(min(one["one_seconds"] for one in bulk) - alone["one_seconds"], 2),
        "memory_mb": max(one["memory_mb"]["rest"] for one in bulk),
    }


def text(report: dict[str, Any]) -> str:
    """The report for people, as docs/scale.md shows it."""
    from benchmarks.report import digits, table

    base = report["runs"][0]["per_second"]
    rows = []
    for one in report["runs"]:
        rate = one["per_second"]
        share = rate / base if rate and base else None
        day = f"{rate * 86400 / 1e6:.2f} million" if rate else ""
        times = [digits(one["seconds"]), digits(one["one_seconds"]), digits(rate), digits(share)]
        rows.append([f"`{one['command']}`", *times, day, digits(one["memory_mb"]["total"])])
    times = [f"s for {report['count']}", "s for one", "pictures/s", "times `invert`"]
    ray = report["ray"]
    price = f"{ray['start_seconds']:.1f} s at the start and {ray['memory_mb']:.0f} MB beside its workers"
    busy = f"; {report['note']}" if report["note"] else ""
    where = f"{report['model']}, {report['machine']}, {report['processors']} processors{busy}"
    found = table(["command", *times, "a day", "MB"], rows)
    return f"{found}\n\nRay costs {price}.\n\n*{where}:* `{report['command']}`"


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a step failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
