"""The paper's statements, held against a report of ours: in words, and whether each holds."""

from collections.abc import Callable
from typing import Any, NamedTuple

Report = dict[str, Any]  # the JSON of a report
Finding = tuple[str, bool | None]  # our numbers, and whether the statement holds; None: not measurable


class Claim(NamedTuple):
    """One statement of the paper; `judge` reads our report, None leaves it to the eye."""

    statement: str
    judge: Callable[[Report], Finding] | None = None


def _mean(cell: Any) -> float:
    return float(cell["mean"] if isinstance(cell, dict) else cell)


def values(report: Report, column: str, key: str = "row") -> dict[str, float]:
    """Row -> its mean in a column, of the rows that have it."""
    return {line[key]: _mean(line[column]) for line in report["rows"] if line.get(column) is not None}


def _said(column: str, found: dict[str, float]) -> str:
    return f"{column}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items())


def best(
    label: str, lower: tuple[str, ...], higher: tuple[str, ...] = (), apart: tuple[str, ...] = ()
) -> Callable:
    """A row is the best one in each of these columns that the report has; rows `apart` do not count."""

    def judge(report: Report) -> Finding:
        held, said = True, []
        for column in (*lower, *higher):
            found = {row: v for row, v in values(report, column).items() if row not in apart}
            if not found:
                continue
            target = min(found.values()) if column in lower else max(found.values())
            held &= found[label] == target
            said.append(_said(column, found))
        return "; ".join(said), held

    return judge


def less(
    column: str, first: str, second: str, at_least: float = 0.0, at_most: float = 1.0
) -> Callable[[Report], Finding]:
    """The first row's value is below the second's, by a share of it between these two."""

    def judge(report: Report) -> Finding:
        found = values(report, column)
        if gone := [row for row in (first, second) if row not in found]:
            return f"{gone[0]}: does not exist at this size", None
        change = found[first] / found[second] - 1
        said = f"{column}: {first} {found[first]:.4g}, {second} {found[second]:.4g} ({change:+.1%})"
        return said, change < 0 and at_least <= -change <= at_most

    return judge


def layers(report: Report) -> Finding:
    """Table 3's statement: (g) is the best in L2 and L_wave."""
    label = next(name for name in values(report, "L2") if name.startswith("(g)"))
    return best(label, ("L2", "L_wave"), apart=("naive inversion",))(report)


def levels(report: Report) -> Finding:
    """Table 3: (e) to (h), with a second feature level, have less L2 than (a) to (d), wavelets alike."""
    found = {name[1]: value for name, value in values(report, "L2").items() if name.startswith("(")}
    pairs = [(one, two) for one, two in zip("abcd", "efgh", strict=True) if one in found and two in found]
    return _said("L2", found), all(found[two] < found[one] for one, two in pairs)


def bands(report: Report) -> Finding:
    """Figures 2b and 7: the last method errs least in each high band of the finest level."""
    lines = [line for line in report["rows"] if line["norm"] == "L2" and line["level"] == 0]
    errors = {line["method"]: sum(_mean(line[band]) for band in ("LH", "HL", "HH")) for line in lines}
    held = all(
        min(lines, key=lambda line: _mean(line[band])) is lines[-1] for band in ("LH", "HL", "HH")
    )  # fmt: skip
    return _said("LH + HL + HH, L2, finest level", errors), held


def thirty(norm: str, methods: tuple[str, ...]) -> Callable[[Report], Finding]:
    """Section 3.2, A.1: the error of LL is around 30 times that of the high bands; 20 to 45 counts."""

    def judge(report: Report) -> Finding:
        found = {
            line["method"]: _mean(line["LL / mean of the others"])
            for line in report["rows"]
            if line["norm"] == norm and line["level"] == 0 and line["method"] in methods
        }
        held = all(20 < value < 45 for value in found.values())
        return _said(f"LL / others, {norm}, finest level", found), held

    return judge


def spectral(report: Report) -> Finding:
    """Figure 8: with the term spectra come nearer and pictures get worse, with both generators."""
    found = {(line["generator"], line["spectral loss"]): line for line in report["rows"]}
    held = True
    for kind in ("stylegan2", "swagan"):
        without, term = found[kind, "no"], found[kind, "yes"]
        held &= _mean(term["L2"]) > _mean(without["L2"])
        held &= _mean(term["spectral distance"]) < _mean(without["spectral distance"])
    return report["notes"][0], held


def octaves(report: Report) -> Finding:
    """Figure 9: from A to B less is lost than from B to C, all levels down to each left out."""
    found = {
        line["configuration"]: _mean(line["l2"])
        for line in report["rows"]
        if line["left out"] == "all levels down to it" and line["configuration"] in "ABC"
    }
    return _said("L2, all levels down to it", found), found["B"] - found["A"] < found["C"] - found["B"]
