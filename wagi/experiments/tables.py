"""Reports of experiments: a markdown table for people, the same as JSON for programs, figures."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from wagi.files import beside, write_json, write_text

Row = Mapping[str, Any]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """One number over seeds: mean, std (n - 1; None for one value), min, max, values. A cell of a table."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def cell(value: Any) -> str:
    """One table cell: numbers with four significant digits, a dash for what a row does not have.

    What `spread` returned is written `mean ± std (min..max)`.
    """
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        mean, low, high = (cell(value[key]) for key in ("mean", "min", "max"))
        return mean if value["min"] == value["max"] else f"{mean} ± {value['std']:.1g} ({low}..{high})"
    if isinstance(value, float):
        return f"{value:#.4g}".rstrip(".")
    return str(value)


def markdown_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A markdown table with the columns aligned for reading as text; missing values are dashes."""
    lines = [list(columns), *([cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(3, *(len(line[k]) for line in lines)) for k in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    padded = ((text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def write_report(
    out: str | Path, name: str, rows: Sequence[Row], columns: Sequence[str], meta: Mapping[str, Any]
) -> str:
    """Write OUT/NAME.md and OUT/NAME.json => the markdown text.

    Args:
        rows: one mapping per row; keys that are not in `columns` go to the JSON only.
        columns: the table's columns in order.
        meta: how the numbers came about. `title` is the heading; `notes` (a list of texts) stand below the
            table; everything else is listed as `key: value` above it. All of it is in the JSON.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    facts = [f"- {key}: {value}" for key, value in meta.items() if key not in ("title", "notes")]
    parts = [f"# {meta.get('title', name)}", "\n".join(facts), markdown_table(rows, columns)]
    parts += list(meta.get("notes", ()))
    text = "\n\n".join(part for part in parts if part)
    write_text(folder / f"{name}.md", text + "\n")
    write_json(folder / f"{name}.json", {"name": name, **meta, "columns": list(columns), "rows": list(rows)})
    return text


def new_figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """An empty figure, in inches, that needs no display (matplotlib's Agg canvas)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def show(axes: Axes, image: Tensor, title: str = "") -> None:
    """One picture [3, S, S] in [-1, 1], clamped, its pixels as they are, without axes."""
    axes.imshow(image.detach().clamp(-1, 1).add(1).div(2).permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_title(title, fontsize=7)
    axes.set_axis_off()


def write_figure(out: str | Path, name: str, figure: Figure) -> Path:
    """Write OUT/NAME.png => its path."""
    path = Path(out) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as part:
        figure.savefig(part, format="png", dpi=110)
    return path
