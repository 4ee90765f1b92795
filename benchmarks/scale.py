"""The table of docs/scale.md: a day of a machine and the price of a million pictures, from latency.py's JSON.

python benchmarks/scale.py                       # prints it
python benchmarks/scale.py --page docs/scale.md  # into its marked place
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]

REPORTS = ("embedded.json", "cpu.json")
_ENGINES = ("onnx", "openvino")
_NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
_DAY, _HOUR, _MONTH = 86_400_000, 3_600_000, 30 * 86_400_000  # milliseconds


def rows(report: dict[str, Any]) -> list[list[str]]:
    """A line for each engine and precision at batch 1.

    Milliseconds of processor time are those of all threads, with what is around the model: decoding, fitting,
    rounding and PNG. A machine that is kept busy does cores / that many pictures.
    """
    from benchmarks.report import digits

    found = []
    for model in report["models"]:
        around = sum(model["stage_ms"].values())
        for run in model["runs"]:
            if run["backend"] not in _ENGINES or run["batch"] != 1:
                continue
            busy = run["cpu_ms"] + around
            found.append([
                f"{model['model']} ({model['size']} px)",
                f"{_NAMES[run['backend']]}, {run['precision']}",
                digits(busy),
                f"{around / busy:.0%}",
                _count(_DAY / busy * report["threads"]),
                digits(busy * 1e6 / _HOUR),
                digits(busy * 1e9 / _MONTH),
            ])  # fmt: skip
    return found


def _count(number: float) -> str:
    """5.23 million, 61.6 thousand."""
    return f"{number / 1e6:.3g} million" if number >= 1e6 else f"{number / 1e3:.3g} thousand"


def table(reports: list[dict[str, Any]]) -> str:
    """All of them in one table, and under it machine and files."""
    from benchmarks.report import table as markdown

    header = ["model", "engine", "processor ms", "of it around the model", "a day", "core hours per million",
              "cores for a billion in 30 days"]  # fmt: skip
    machine = "; ".join(dict.fromkeys(f"{one['machine']}, {one['threads']} threads" for one in reports))
    files = " and ".join(f"`benchmarks/results/{name}`" for name in REPORTS)
    found = markdown(header, [row for report in reports for row in rows(report)])
    return f"{found}\n\n*{machine}; from {files}:* `python benchmarks/scale.py --page docs/scale.md`"


def committed() -> list[dict[str, Any]]:
    """The reports that the table is made of."""
    return [json.loads((ROOT / "benchmarks" / "results" / name).read_text()) for name in REPORTS]


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 a step failed."""
    from benchmarks.report import insert
    from wagi.errors import run_command
    from wagi.files import write_text

    parser = argparse.ArgumentParser(prog="scale.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--page", type=Path, metavar="PAGE", help="write it between <!-- day --> marks")
    page = parser.parse_args(argv).page

    def run() -> None:
        text = table(committed())
        print(text)
        if page:
            write_text(page, insert(page.read_text(), text, "day"))

    return run_command(run, "; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
