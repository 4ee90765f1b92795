"""Edits of attributes, each of a picture of its own: what Figures 5 and 12 show, by any number of systems."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from wagi.data import open_dataset, to_float
from wagi.editing.attributes import true_edit
from wagi.errors import UserError, option
from wagi.experiments.comparison import comparison, with_labels, write_picture
from wagi.experiments.models import Inverter, one_each, size_of
from wagi.experiments.photos import add_data
from wagi.experiments.ways import load_directions, strengths_of
from wagi.portraits import dataset, render
from wagi_rt.directions import Direction

USUAL = ("yaw", "smile", "glasses", "hat", "beard", "light_hair", "skin")  # where no directions name others
Edits = list[tuple[str, float]]  # attributes with their strengths
Shifts = dict[str, list[Direction]]  # model -> the direction of each edit


def add_edits(p: argparse.ArgumentParser, count: int) -> None:
    """The options of `lines`."""
    p.add_argument(
        "--directions", type=Path, nargs="+", default=[], metavar="DIR",
        help="folders of directions (python -m wagi.directions) or bundles; each model takes its generator's",
    )  # fmt: skip
    p.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=STRENGTH",
        help=f"the edits (default: the first {count} directions, 1 unit each, within their ranges; several "
        f"models without directions: {', '.join(USUAL[:count])})",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=9001, metavar="K", help="of the portraits (default 9001)")
    add_data(p)


class Case(NamedTuple):
    """A picture [1, 3, S, S] in [-1, 1] with its number, and its true edit where one is known."""

    number: int
    source: Tensor
    edited: Tensor | None


def usual(direction: Direction) -> float:
    """1, or as much of it as the measured range has, in the sense that has more."""
    low, high = direction.range or (-1.0, 1.0)
    return min(1.0, high) if min(1.0, high) >= min(1.0, -low) else max(-1.0, low)


def portraits(edits: Edits, seed: int, taken: int = 0) -> list[int]:
    """An index for each edit: no portrait twice, each the first one, but `taken`, that the true edit fits."""
    found: list[int] = []
    for name, strength in edits:
        change = true_edit(name, strength)
        places = range(taken, taken + 10_000)
        applies = (k for k in places if change is None or change.apply(dataset.portrait(seed, k)))
        fitting = next((k for k in applies if k not in found), None)
        if fitting is None:
            raise UserError(f"--set {name}={strength:g}: fits no portrait's true edit; make it smaller", 2)
        found.append(fitting)
    return found


def rendered(edits: Edits, seed: int, size: int, taken: int = 0) -> list[Case]:
    """Portraits of a seed: the first `taken` ones as they are, then one for each edit, with its true edit."""
    cases = [Case(k, _drawn(dataset.portrait(seed, k), size), None) for k in range(taken)]
    for (name, strength), index in zip(edits, portraits(edits, seed, taken), strict=True):
        portrait, change = dataset.portrait(seed, index), true_edit(name, strength)
        edited = change.apply(portrait) if change else None
        cases.append(Case(index, _drawn(portrait, size), _drawn(edited, size) if edited else None))
    return cases


def of_data(source: str, size: int, count: int) -> list[Case]:
    """The first `count` pictures of a user's, again from the first when there are fewer."""
    with option("--data"):
        data = open_dataset(source, size)
    chosen = [k % len(data) for k in range(count)]
    return [Case(index, data.get(index, False)["image"][None], None) for index in chosen]


def whose(args: argparse.Namespace, cases: Sequence[Case]) -> str:
    """The pictures that were shown, in words."""
    numbers = ", ".join(str(case.number) for case in cases)
    return f"pictures {numbers} of {args.data}" if args.data else f"portraits {numbers} of seed {args.seed}"


def _drawn(portrait, size: int) -> Tensor:  # => 1,3,size,size
    return to_float(render(portrait, size))[None]


# -------------------------------------------------------------------------------------------- what is moved


def along(
    models: Mapping[str, Inverter], folders: Sequence[Path], texts: list[str], count: int
) -> tuple[Edits, Shifts]:
    """Edits by directions: each model's of the first folder that has them for its generator.

    texts: NAME=STRENGTH, or none: the first `count` that all models have, one unit each or what all their
    ranges allow.
    """
    asked = strengths_of(texts, "--set")
    found = {title: _fitting(folders, model, list(asked)) for title, model in models.items()}
    names = [name for name in next(iter(found.values())) if all(name in each for each in found.values())]
    if not names:
        raise UserError("--directions: no direction is there for every model", 2)
    names = list(asked) or names[:count]
    shifts = {title: [each[name] for name in names] for title, each in found.items()}
    every = zip(*shifts.values(), strict=True)
    usually = [min((usual(one) for one in same), key=abs) for same in every]
    return [(name, asked.get(name, usually[k])) for k, name in enumerate(names)], shifts


def _fitting(folders: Sequence[Path], model: Inverter, names: list[str]) -> dict[str, Direction]:
    """The directions of the first folder that has the model's generator's; else the last one's error."""
    for number, folder in enumerate(folders, 1):
        try:
            return {one.name: one for one in load_directions(folder, model, names, "--set")}
        except UserError:
            if number == len(folders):
                raise
    return {}


def to_truth(texts: list[str], count: int) -> Edits:
    """Edits to the latents of the true edit, where no directions are given."""
    edits = list(strengths_of(texts, "--set").items()) or [(name, 1.0) for name in USUAL[:count]]
    if wrong := [name for name, strength in edits if true_edit(name, strength) is None]:
        raise UserError(f"--set {wrong[0]}: no portrait's true edit; give --directions for it", 2)
    return edits


def edited(model: Inverter, case: Case, shift: Tensor | None) -> Tensor:  # => 1,3,S,S
    """A case edited by the latents of its true edit, or along a shift [n_latent, style_dim]."""
    if shift is None:
        assert case.edited is not None
        return model.edited(case.source, model.encode(case.edited))
    return model.edited(case.source, model.encode(case.source) + shift)


# ------------------------------------------------------------------------------------------------ the sheet


class Lines(NamedTuple):
    """Columns of one picture per line [N, 3, S, S], the lines' labels, and which pictures they are."""

    columns: dict[str, Tensor]
    labels: list[str]
    whose: str


@torch.no_grad()
def lines(models: Mapping[str, Inverter], args: argparse.Namespace, inversions: int, count: int) -> Lines:
    """`inversions` pictures inverted, then one for each of the edits, by every model; options as Figure 5's.

    Columns: input, models, and where it is known the true edit.
    """
    shifts: Shifts = {}
    if args.directions:
        edits, shifts = along(models, args.directions, args.set, count)
    elif args.data:
        raise UserError("--data: has no true edits; give --directions DIR", 2)
    else:
        edits = to_truth(args.set, count)
    size, total = size_of(models), inversions + len(edits)
    cases = of_data(args.data, size, total) if args.data else rendered(edits, args.seed, size, inversions)
    columns = {"input": [case.source for case in cases]}
    for title, model in models.items():
        shown = [model.results(case.source)[1] for case in cases[:inversions]]
        for k, (case, (_, strength)) in enumerate(zip(cases[inversions:], edits, strict=True)):
            vector = strength * torch.from_numpy(shifts[title][k].vector) if shifts else None
            shown.append(edited(model, case, vector))
        columns[title] = shown
    if any(case.edited is not None for case in cases):
        nothing = torch.ones(1, 3, size, size)
        columns["true edit"] = [nothing if case.edited is None else case.edited for case in cases]
    labels = ["inversion"] * inversions + [f"{name} {strength:+g}" for name, strength in edits]
    return Lines({title: torch.cat(each) for title, each in columns.items()}, labels, whose(args, cases))


def draw(args: argparse.Namespace, inversions: int, edits: int) -> None:
    """The sheet of all models of the options."""
    found = lines(one_each(args), args, inversions, edits)
    write_picture(args.out, with_labels(comparison(found.columns), found.labels))
    print(f"{args.out}: {', '.join(found.labels)}; {found.whose}")
