"""Findings of latency.py as Markdown and as a picture.

python benchmarks/report.py benchmarks/results/cpu.json                        # the tables
python benchmarks/report.py benchmarks/results/cpu.json --readme README.md     # into its marked place
python benchmarks/report.py benchmarks/results/*.json --plot latency.png
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]


def _number(value: float | None, digits: int = 2, unit: str = "") -> str:
    return "" if value is None else f"{value:.{digits}f}{unit}"


def digits(value: float | None) -> str:
    """Three digits are what a latency is good for."""
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latency_table(report: dict[str, Any]) -> str:
    """The README's table: every candidate of every model, and under it machine and command."""
    from benchmarks.candidates import BACKENDS, TASKS

    header = ["model", "backend", "precision", "batch", "ms per image", "against reference",
              "times the floor", "PSNR", "peak memory"]  # fmt: skip
    rows = [
        [
            f"{model['model']} ({model['size']} px)",
            BACKENDS[run["backend"]],
            run["precision"],
            str(run["batch"]),
            digits(run["ms_per_image"]),
            _number(run["ratio"]),
            _number(run["floor_multiple"]),
            "equal" if run["psnr_db"] >= 200 else _number(run["psnr_db"], 0, " dB"),
            _number(run["peak_rss_mb"] and run["peak_rss_mb"] / 1000, 2, " GB"),
        ]
        for model in report["models"]
        for run in model["runs"]
    ]
    after = [
        [
            f"{model['model']} ({model['size']} px)",
            BACKENDS[run["backend"]],
            run["precision"],
            str(run["batch"]),
            TASKS[run["task"]],
            digits(run["ms_per_image"]),
            _number(run["of_inversion"]),
            digits(run.get("cold_start_ms")),
            _number(run.get("peak_rss_mb") and run["peak_rss_mb"] / 1000, 2, " GB"),
        ]
        for model in report["models"]
        for run in model.get("after", ())  # reports from before it was measured have none
    ]
    names = ["model", "backend", "precision", "batch", "of an opened picture", "ms per image",
             "against its inversion", "process ms", "peak memory"]  # fmt: skip
    more = f"\n\n{table(names, after)}" if after else ""
    rounds = f"medians of {report['iterations']} interleaved rounds, {report['threads']} threads"
    return f"{table(header, rows)}{more}\n\n*{report['machine']}; {rounds}:* `{report['command']}`"


def text(report: dict[str, Any]) -> str:
    """Everything, for people."""
    parts = [latency_table(report)]
    for model in report["models"]:
        parts += [_floor_text(model), _spread_text(model), _graphs_text(model)]
        stages = ", ".join(f"{name} {digits(value)}" for name, value in model["stage_ms"].items())
        parts.append(f"Around the model, ms per image: {stages}")
        parts += [f"Skipped: {name}: {reason}" for name, reason in model["skipped"].items()]
    if cold := report.get("cold_start"):
        parts.append(
            f"Cold start, embedded model: `wagi-rt invert` {digits(cold['invert_ms'])} ms = "
            f"{cold['invert_ratio']:.2f} x (imports {digits(cold['imports_ms'])} "
            f"+ run {digits(cold['run_ms'])}); `wagi-rt --help` {digits(cold['help_ms'])} ms = "
            f"{cold['help_ratio']:.2f} x argparse alone"
        )
    return "\n\n".join(part for part in parts if part)


def _floor_text(model: dict[str, Any]) -> str:
    rows = [
        [precision, batch, name, _number(row["gmac"]), _number(row["weights_mb"], 1),
         _number(row["activations_mb"], 1), digits(row["floor_ms"])]
        for precision, batches in model["floor"].items()
        for batch, graphs in batches.items()
        for name, row in graphs.items()
    ]  # fmt: skip
    rates = "; ".join(
        f"{precision} {rate['gflops']:.0f} GFLOP/s, {rate['gbytes']:.1f} GB/s"
        for precision, rate in model["rates"].items()
    )
    header = ["precision", "batch", "graph", "GMAC", "weights MB", "activations MB", "floor ms"]
    return f"Floor of {model['model']} ({rates}):\n\n{table(header, rows)}"


def _spread_text(model: dict[str, Any]) -> str:
    rows = [
        [run["backend"], run["precision"], str(run["batch"]),
         *(digits(run["latency_ms"][name]) for name in ("min", "p50", "p90", "p99")), digits(run["cpu_ms"]),
         _number(run["cpu_ratio"]), _number(run["throughput_ips"]), digits(run["cold_start_ms"]),
         digits(run.get("first_use_ms")), _number(run.get("first_use_rss_mb"), 0)]
        for run in model["runs"]
    ]  # fmt: skip
    header = ["backend", "precision", "batch", "min ms", "p50", "p90", "p99", "CPU ms", "CPU ratio",
              "images/s", "cold process ms", "first use ms", "first use MB"]  # fmt: skip
    return table(header, rows)


def _graphs_text(model: dict[str, Any]) -> str:
    rows = [
        [
            run["backend"],
            run["precision"],
            str(run["batch"]),
            name,
            digits(found["p50"]),
            _number(found["floor_multiple"]),
        ]
        for run in model["runs"]
        for name, found in run.get("graph_ms", {}).items()
    ]
    return (
        table(["backend", "precision", "batch", "graph", "p50 ms", "times the floor"], rows) if rows else ""
    )


def marked(page: str, name: str = "latency") -> str | None:
    """The text between the markers of a page; None without markers."""
    found = re.search(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", page, re.DOTALL)
    return found[1].strip() if found else None


def insert(page: str, table: str, name: str = "latency") -> str:
    """The page with the table between its markers. ValueError without markers."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if marked(page, name) is None:
        raise ValueError(f"no lines {begin} and {end}")
    return re.sub(f"{begin}\n.*?\n{end}", lambda _: f"{begin}\n\n{table}\n\n{end}", page, flags=re.DOTALL)


def plot(reports: list[dict[str, Any]], path: Path) -> None:
    """Cost per image against resolution (smallest batch), and against batch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs = [(model["size"], run) for report in reports for model in report["models"] for run in model["runs"]]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    least = min(run["batch"] for _, run in runs)
    _lines(
        axes[0],
        [(f"{r['backend']} {r['precision']}", s, r["ms_per_image"]) for s, r in runs if r["batch"] == least],
    )
    axes[0].set(title=f"batch {least}", xlabel="image size (px)", xscale="log", yscale="log")
    batched = {(s, r["backend"], r["precision"]) for s, r in runs if r["batch"] > least}
    points = [
        (f"{r['backend']} {r['precision']}, {s} px", r["batch"], r["ms_per_image"])
        for s, r in runs
        if (s, r["backend"], r["precision"]) in batched
    ]
    _lines(axes[1], points)
    axes[1].set(title="larger batches", xlabel="batch", ylim=(0, None))
    for axis in axes:
        ticks = sorted({x for line in axis.get_lines() for x in line.get_xdata()})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axis.set_xticks([], minor=True)
        axis.set_ylabel("ms per image")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _lines(axis: Any, points: list[tuple[str, float, float]]) -> None:
    for label in dict.fromkeys(label for label, _, _ in points):
        chosen = sorted((x, y) for name, x, y in points if name == label)
        axis.plot(*zip(*chosen, strict=True), marker="o", label=label)
    if points:
        axis.legend(fontsize=8)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="report.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="JSON", help="files that latency.py --out wrote")
    add("--plot", type=Path, metavar="PNG", help="draw cost against resolution and batch")
    add("--readme", type=Path, metavar="PAGE", help="write the latency tables between <!-- latency --> marks")
    return parser


def run(args: argparse.Namespace) -> int:
    from wagi.errors import UserError
    from wagi.files import beside, write_text

    try:
        reports = [json.loads(path.read_text()) for path in args.results]
        if args.plot:
            with beside(args.plot) as part:
                plot(reports, part.with_suffix(".png"))
                part.with_suffix(".png").replace(part)
        if args.readme:
            tables = "\n\n".join(latency_table(report) for report in reports)
            write_text(args.readme, insert(args.readme.read_text(), tables))
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, KeyError) as error:
        named = args.readme or ", ".join(map(str, args.results))
        raise UserError(f"{named}: {error}; give reports of latency.py and a page with markers") from None
    print("\n\n".join(text(report) for report in reports))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a file cannot be read or written, 2 wrong usage."""
    args = parser().parse_args(argv)
    from wagi.errors import run_command

    return run_command(lambda: run(args), "")


if __name__ == "__main__":
    sys.exit(main())
