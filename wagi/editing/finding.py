"""Directions of attributes: found on one part of the pictures, measured on another, kept if they hold."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from wagi.editing import boundaries, world
from wagi.editing.attributes import Attribute, read_labels
from wagi.editing.judging import Judged, Reader, auc, code_reader, judge, portrait_reader
from wagi.editing.shifts import pair_directions, scene_pairs
from wagi.editing.world import World
from wagi.errors import UserError
from wagi.files import write_json
from wagi.model import NaiveInverter
from wagi_rt.directions import SUFFIX, Direction, is_name, write

_MOST_SCALE = 3.0  # beyond it an edit leaves the codes that E0 gives

COLUMNS = ("name", "auc", "effect", "leakage", "into", "range", "kept")


def find(
    args: argparse.Namespace, model: NaiveInverter, origin: str, predict: Callable[[Tensor], Tensor]
) -> list[dict[str, Any]]:
    """Rows of what was found; the directions that hold are files in args.out. Raises UserError.

    predict: images [N, 3, S, S] of portraits => their standardised parameters [N, 133].
    """
    found_in, held, reader = _worlds(args, model, predict)
    wanted = _wanted(args.names, found_in)
    if args.method == "pairs":
        vectors = _shifts(found_in, wanted, args.condition)
    else:
        vectors = _boundaries(found_in, wanted, args.condition)
    rows: list[dict[str, Any]] = []
    for attribute in tqdm(wanted, "directions", disable=None):
        found = vectors.get(attribute.name)
        rows.append(_measured(args, model, attribute, found, held, reader, origin))
        report = {"method": args.method, "attributes": held.names, "rows": rows}
        write_json(args.out / "directions.json", report)  # each time: a stopped run leaves what it measured
    return rows


def _measured(
    args: argparse.Namespace, model: NaiveInverter, attribute: Attribute, found: np.ndarray | None,
    held: World, reader: Reader, origin: str,
) -> dict[str, Any]:  # fmt: skip
    """The row of one attribute, whose shift per unit is `found`; its file is written if it holds."""
    path = args.out / f"{attribute.name}{SUFFIX}"
    path.unlink(missing_ok=True)
    if found is None:
        return {"name": attribute.name, "kept": "no: too few pictures differ in it"}
    vector = (attribute.step * found).astype(np.float32)
    own = held.names.index(attribute.name)
    if (area := auc(held.codes, vector, held.values[:, own])) < args.minimum_auc:
        reason = f"no: does not separate (AUC below {args.minimum_auc:g})"
        return {"name": attribute.name, "auc": area, "kept": reason}

    def judged_at(scale: float) -> Judged:
        return judge(model, held.codes, held.values, scale * vector, own, reader, args.rendered)

    judged = judged_at(1.0)
    if (scale := scale_to(attribute.step / max(held.values[:, own].std(), 1e-6), judged)) > 1:
        vector, judged = np.float32(scale) * vector, judged_at(scale)
    if limits := judged.range(args.most_leakage):
        note = f"{args.method}; measured on {len(held.codes)} held-out pictures, {args.rendered} rendered"
        write(path, _direction(attribute, vector, judged, held.names, limits, origin, note))
    return _row(attribute, judged, held.names, args.most_leakage)


def scale_to(step: float, judged: Judged) -> float:
    """The factor, from 1 to 3, after which one unit changes the attribute by `step` (both in deviations).

    The mean shift of the codes is shown in part only: they turn by different ways, and G0 is not linear.
    """
    effect = float(judged.slopes[judged.own])
    return min(max(step / effect, 1.0), _MOST_SCALE) if effect > 0 else 1.0


def _worlds(
    args: argparse.Namespace, model: NaiveInverter, predict: Callable[[Tensor], Tensor]
) -> tuple[World, World, Reader]:
    """The pictures to find directions in, those to measure on, and the reader of attributes."""
    if args.labels:
        both = world.photos(model, args.data, read_labels(args.labels), args.keep)
        count = min(args.holdout, len(both.codes) // 3)
        if not count:
            raise UserError(f"--data {args.data}: {len(both.codes)} labelled images are too few", 2)
        held, found_in = both.part(slice(count)), both.part(slice(count, None))
        return found_in, held, code_reader(model, found_in.codes, found_in.values)

    held = world.portraits(model, args.heldout or args.data, args.keep, 0, args.holdout)
    found_in = world.portraits(model, args.data, args.keep, args.holdout, None)
    return found_in, held, portrait_reader(predict)


def _wanted(names: list[str], found_in: World) -> list[Attribute]:
    known = {one.name: one for one in found_in.attributes}
    if wrong := [name for name in names if name not in known]:
        raise UserError(f"--names {wrong[0]}: there are {', '.join(known)}", 2)
    if wrong := [name for name in names or known if not is_name(name)]:
        raise UserError(f"--labels: attribute '{wrong[0]}': a name has letters, digits, '-' and '_' only", 2)
    return [known[name] for name in names or known]


def _conditions(condition: list[str], names: list[str]) -> list[str]:
    """The attributes that `--condition` names. Raises UserError, status 2."""
    others = names if condition == ["all"] else [] if condition == ["none"] else condition
    if wrong := [name for name in others if name not in names]:
        raise UserError(f"--condition {wrong[0]}: give all, none, or some of {', '.join(names)}", 2)
    return others


def _shifts(
    found_in: World, wanted: list[Attribute], condition: list[str] | None
) -> dict[str, np.ndarray]:  # => L,D
    """The mean shift per unit of each attribute in pairs, less what it shares with the conditions'."""
    assert found_in.params is not None
    others = _conditions(condition or ["none"], found_in.names)
    chosen = [one for one in found_in.attributes if one in wanted or one.name in others]
    before, after = scene_pairs(len(found_in.codes)).T
    shifts, changes = (x[after] - x[before] for x in (found_in.codes, found_in.params))
    found = pair_directions(shifts, changes, chosen)
    kept = {}
    for name in (one.name for one in wanted if one.name in found):
        rest, shape = found[name].ravel(), found[name].shape
        conditions = [found[other].ravel() for other in others if other != name and other in found]
        try:
            alone = boundaries.conditional(rest / np.linalg.norm(rest), conditions)
        except ValueError:
            continue
        rest = (rest @ alone) * alone
        kept[name] = rest.reshape(shape)
    return kept


def _boundaries(
    found_in: World, wanted: list[Attribute], condition: list[str] | None
) -> dict[str, np.ndarray]:
    """The shift [D] per unit of each attribute along its conditional boundary's normal."""
    codes, names = found_in.codes.mean(axis=1), found_in.names
    others = _conditions(condition or ["all"], names)
    normals = {}
    for name in {*others, *(one.name for one in wanted)}:
        values = found_in.values[:, names.index(name)]
        if np.ptp(values):
            normals[name] = boundaries.boundary(codes, values)
    found = {}
    for one in wanted:
        if one.name in normals:
            kept = [normals[name] for name in others if name != one.name and name in normals]
            try:
                normal = boundaries.conditional(normals[one.name], kept)
            except ValueError:
                continue
            values = found_in.values[:, names.index(one.name)]
            found[one.name] = normal * boundaries.shift_per_unit(normal, codes, values)
    return found


def _row(attribute: Attribute, judged: Judged, names: list[str], most: float) -> dict[str, Any]:
    """The table's row, with every measured number for directions.json."""
    slopes, limits = judged.slopes, judged.range(most)
    others = np.abs(slopes)
    others[judged.own] = -1
    return {
        "name": attribute.name,
        "unit": attribute.unit,
        "auc": judged.auc,
        "effect": float(slopes[judged.own]),
        "leakage": float(others.max()) if len(names) > 1 else 0.0,
        "into": names[int(others.argmax())] if len(names) > 1 else None,
        "range": f"{limits[0]:g}..{limits[1]:g}" if limits else None,
        "kept": "yes"
        if limits
        else "no: another attribute changes by a share of its effect above --most-leakage",
        "strengths": list(judged.strengths),
        "changes": judged.changes.round(4).tolist(),
    }


def _direction(
    attribute: Attribute, vector: np.ndarray, judged: Judged, names: list[str], limits: tuple[float, float],
    origin: str, note: str,
) -> Direction:  # fmt: skip
    slopes = dict(zip(names, (round(float(value), 3) for value in judged.slopes), strict=True))
    effect = slopes.pop(attribute.name)
    return Direction(
        attribute.name, vector, attribute.unit, limits, round(judged.auc, 4), effect, slopes, origin, note
    )
