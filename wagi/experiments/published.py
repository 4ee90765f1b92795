"""The paper's numbers, as far as this project knows them: for reading beside ours, never mixed with them."""

from typing import Any

from wagi.experiments.tables import markdown_table

UNKNOWN = "not published here"
_HEADING = (
    "The paper's own numbers (1024 px faces, trained on FFHQ, tested on CelebA-HQ; other data, size and "
    "budget, so only the order of rows compares):"
)
# Table 4 is complete; the rows of tables 1 to 3 that are known follow from it (decision 36).
_HFGI = {"L2": 0.023, "L_wave": 0.351, "SSIM": 0.661, "ID": 0.864}
_WAGI = {"L2": 0.011, "L_wave": 0.230, "SSIM": 0.753, "ID": 0.906}
_ROWS: dict[str, dict[str, dict[str, float]]] = {
    "table1": {"pSp": {}, "e4e": {}, "ReStyle (e4e)": {}, "HyperStyle": {}, "HFGI": _HFGI, "WaGI": _WAGI},
    "table2": {"A": _HFGI, "B": {}, "C": {}, "D": _WAGI},
    "table3": {f"({letter})": _WAGI if letter == "g" else {} for letter in "abcdefgh"},
    "table4": {
        "HFGI (lf=7)": _HFGI,
        "HFGI (lf=7,9,11)": {"L2": 0.036, "L_wave": 0.377, "SSIM": 0.704, "ID": 0.795},
        "WaGI (lf=7,9,11)": {"L2": 0.017, "L_wave": 0.302, "SSIM": 0.699, "ID": 0.873},
        "WaGI (lf=7,9 and lw=11)": _WAGI,
    },
}
_COLUMNS = {
    "table1": ("L2", "L_wave", "LPIPS", "SSIM", "ID"),
    "table2": ("L1(ADA)", "L2", "SSIM"),
    "table3": ("L2", "L_wave", "LPIPS", "SSIM", "ID"),
    "table4": ("L2", "L_wave", "SSIM", "ID"),
}


def table(name: str) -> str:
    """The published table `name` as markdown; what is not known says so."""
    columns = _COLUMNS[name]
    rows: list[dict[str, Any]] = [
        {"row": label, **{c: f"{known[c]:.3f}" if c in known else UNKNOWN for c in columns}}
        for label, known in _ROWS[name].items()
    ]
    return f"{_HEADING}\n\n{markdown_table(rows, ['row', *columns])}"
