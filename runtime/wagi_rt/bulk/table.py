"""A report as a Parquet file, where pyarrow is installed."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from wagi_rt import files
from wagi_rt.errors import UserError


def require() -> None:
    """UserError without pyarrow, before any work."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        line = "--report: Parquet needs pyarrow; run: pip install pyarrow, or name a .jsonl"
        raise UserError(line, status=2) from None


def write(rows: Path, path: Path) -> None:
    """The rows of a .jsonl as a Parquet file; columns as the rows have them."""
    import pyarrow
    from pyarrow import json, parquet

    try:
        table = json.read_json(rows)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--report {path}: rows do not fit a table ({reason}); they are in {rows}") from None
    content = BytesIO()
    parquet.write_table(table, content)
    files.write_atomic(path, content.getvalue())
