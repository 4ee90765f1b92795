"""Reports of an evaluation: a table for people, JSON for programs, a CSV line per picture."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wagi.evaluation.protocols import MEASURES, Protocol
from wagi.files import write_json, write_text

SCHEMA = 1
RANGE, QUANTISATION = [-1, 1], "8 bit, rounded"


def describe(protocol: Protocol, model_size: int) -> dict[str, Any]:
    """A protocol with its sizes resolved, for the JSON."""
    return {
        "name": protocol.name,
        "summary": protocol.summary,
        "resolution": protocol.size or model_size,
        "range": RANGE,
        "quantisation": QUANTISATION,
        "resize": protocol.resize,
        "metrics": {
            name: {
                "label": MEASURES[name].label,
                "better": MEASURES[name].better,
                "settings": MEASURES[name].settings,
                "resolution": protocol.size_of(name, model_size),
            }
            for name in protocol.metrics
        },
    }


def number(value: float | None) -> str:
    """Four significant digits; a dash for what is infinite or undefined."""
    return "-" if value is None else f"{value:#.4g}".rstrip(".")


def columns(rows: list[list[str]]) -> list[str]:
    """Lines with the first column to the left and the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return lines


def table(report: Mapping[str, Any]) -> str:
    """The whole report as aligned text."""
    protocol, model, data = report["protocol"], report["model"], report["data"]
    lines = [
        f"protocol  {protocol['name']}: {protocol['summary']}; {protocol['resolution']} px, "
        f"range [-1, 1], {protocol['quantisation']}",
        f"model     {model['path']} ({model['kind']}, {model['size']} px, sha256 {model['sha256'][:16]}), "
        f"{model['runs']}",
        f"data      {data['source']}: {data['count']} images measured, {len(data['skipped'])} skipped",
        "",
        *columns([_HEADER, *(_row(report, name) for name in report["results"])]),
    ]
    if report["bands"]:
        lines += ["", "Mean squared error by Haar band (level 0 is the finest)", *columns(_bands(report))]
    if report["not_measured"]:
        lines += ["", *(f"not measured: {_label(k)} {v}" for k, v in report["not_measured"].items())]
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"skipped {name}: {reason}" for name, reason in data["skipped"].items()]
    return "\n".join(lines)


_HEADER = ["metric", "px", "better", "naive", "+-", "median", "final", "+-", "median", "final/naive"]


def _label(name: str) -> str:
    return MEASURES[name].label


def _row(report: Mapping[str, Any], name: str) -> list[str]:
    sides, facts = report["results"][name], report["protocol"]["metrics"][name]
    cells = [facts["label"], str(facts["resolution"]), facts["better"]]
    means = []
    for side in ("naive", "final"):
        found = sides[side]
        means.append(found["value"] if "value" in found else found["mean"])
        cells += [number(means[-1]), number(found.get("std")), number(found.get("median"))]
    naive, final = means
    ratio = final / naive if naive and final is not None and facts["better"] == "lower" else None
    return [*cells, number(ratio)]


def _bands(report: Mapping[str, Any]) -> list[list[str]]:
    rows = [["", "LL", "LH", "HL", "HH", "LH+HL+HH"]]
    for side, levels in report["bands"].items():
        for k, level in enumerate(levels):
            rows.append([f"{side} level {k}", *(number(value) for value in level.values())])
    return rows


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Per-picture values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(out: Path, report: Mapping[str, Any], rows: list[dict[str, Any]] | None) -> None:
    """OUT/evaluation.json, OUT/evaluation.txt and, with rows, OUT/images.csv."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "evaluation.json", report)
    write_text(out / "evaluation.txt", table(report) + "\n")
    if rows is not None:
        write_text(out / "images.csv", csv_text(rows))
