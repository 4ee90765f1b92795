"""The paper's statements, held against a report of ours: in words, and whether each holds."""

from collections.abc import Callable
from typing import Any, NamedTuple

Report = dict[str, Any]  # the JSON of a report
Finding = tuple[str, bool | None]  # our numbers, and whether the statement holds; None: not measurable


HIGH = ("LH", "HL", "HH")
MARGINAL = 0.1  # a change below this share


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


def _without(row: str) -> Finding:
    return f"{row}: not in this report", None


def best(
    label: str,
    lower: tuple[str, ...],
    higher: tuple[str, ...] = (),
    apart: tuple[str, ...] = (),
    key: str = "row",
) -> Callable[[Report], Finding]:
    """A row is the best one in each of these columns that the report has; rows `apart` do not count."""

    def judge(report: Report) -> Finding:
        held, said = True, []
        for column in (*lower, *higher):
            found = {row: v for row, v in values(report, column, key).items() if row not in apart}
            if not found:
                continue
            if label not in found:
                return _without(label)
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
            return _without(gone[0])
        change = found[first] / found[second] - 1
        said = f"{column}: {first} {found[first]:.4g}, {second} {found[second]:.4g} ({change:+.1%})"
        return said, change < 0 and at_least <= -change <= at_most

    return judge


def _pairs(column: str, pairs: str) -> Callable[[Report], Finding]:
    """Of table 3's rows, by their letters: the first of each pair has less."""

    def judge(report: Report) -> Finding:
        found = {name[1]: value for name, value in values(report, column).items() if name.startswith("(")}
        there = [(pair[0], pair[1]) for pair in pairs.split() if found.keys() >= set(pair)]
        return _said(column, found), all(found[one] < found[two] for one, two in there) if there else None

    return judge


levels = _pairs("L2", "ea fb gc hd")  # a second feature level, wavelets alike
higher = _pairs("L_wave", "ca cb ge gf")  # wavelets at l_w = 11 against 7 and 9, features alike


def _finest(report: Report, norm: str) -> dict[str, dict[str, Any]]:
    """Method -> its line of the finest level."""
    lines = (line for line in report["rows"] if line["norm"] == norm and line["level"] == 0)
    return {line["method"]: line for line in lines}


def _high(line: dict[str, Any]) -> float:
    return sum(_mean(line[band]) for band in HIGH)


def bands(norm: str) -> Callable[[Report], Finding]:
    """Figures 2b (L2) and 7 (L1): the last method errs least in each high band of the finest level."""

    def judge(report: Report) -> Finding:
        lines = _finest(report, norm)
        *others, last = lines.values()
        held = all(_mean(last[band]) < min(_mean(line[band]) for line in others) for band in HIGH)
        said = {f"{method} {band}": _mean(line[band]) for method, line in lines.items() for band in HIGH}
        return _said(f"{norm}, finest level", said), held

    return judge


def biased(report: Report) -> Finding:
    """Section 1: high-rate models lower LL's error, those of the high bands marginally or not at all."""
    lines, first = _finest(report, "L2"), "ReStyle (e4e)"
    if gone := [name for name in (first, "HyperStyle", "HFGI") if name not in lines]:
        return _without(gone[0])
    said, held = [], True
    for name in ("HyperStyle", "HFGI"):
        low = _mean(lines[name]["LL"]) / _mean(lines[first]["LL"]) - 1
        high = _high(lines[name]) / _high(lines[first]) - 1
        held &= low < -MARGINAL < high
        said.append(f"{name} LL {low:+.1%}, LH + HL + HH {high:+.1%}")
    return f"L2 against {first}, finest level: {'; '.join(said)}", held


def thirty(norm: str, methods: tuple[str, ...]) -> Callable[[Report], Finding]:
    """Section 3.2, A.1: the error of LL is around 30 times that of the high bands; 20 to 45 counts."""

    def judge(report: Report) -> Finding:
        lines = _finest(report, norm)
        if gone := [name for name in methods if name not in lines]:
            return _without(gone[0])
        found = {name: _mean(lines[name]["LL / mean of the others"]) for name in methods}
        held = all(20 < value < 45 for value in found.values())
        return _said(f"LL / others, {norm}, finest level", found), held

    return judge


def _fits(report: Report) -> dict[tuple[str, str], dict[str, Any]]:
    return {(line["generator"], line["spectral loss"]): line for line in report["rows"]}


def spectral(report: Report) -> Finding:
    """Figure 8: with the term spectra come nearer and pictures get worse, with both generators."""
    found, held = _fits(report), True
    for kind in ("stylegan2", "swagan"):
        without, term = found[kind, "no"], found[kind, "yes"]
        held &= _mean(term["L2"]) > _mean(without["L2"])
        held &= _mean(term["spectral distance"]) < _mean(without["spectral distance"])
    return report["notes"][0], held


def fitted(report: Report) -> Finding:
    """Figure 8: by L2 alone SWAGAN fits most of the top octave (its power to 3 dB), StyleGAN2 does not."""
    column = "top octave [dB]"
    found = {kind: _mean(line[column]) for (kind, term), line in _fits(report).items() if term == "no"}
    return _said(column, found), found["swagan"] <= 3 < found["stylegan2"]


def octaves(report: Report) -> Finding:
    """Figure 9: from A to B less is lost than from B to C, all levels down to each left out."""
    found = {
        line["configuration"]: _mean(line["l2"])
        for line in report["rows"]
        if line["left out"] == "all levels down to it" and line["configuration"] in "ABC"
    }
    return _said("L2, all levels down to it", found), found["B"] - found["A"] < found["C"] - found["B"]
