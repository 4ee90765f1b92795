"""Directions from pictures of the same scene: what a change of one attribute alone does to E0's codes."""

import numpy as np

from wagi.editing.attributes import ATTRIBUTES, Attribute
from wagi.portraits.edits import PER_SCENE

_RIDGE = 1.0  # per squared unit of a standardised parameter: little beside hundreds of scenes
_LEAST = 20  # pairs that must change an attribute before a direction is told from them


def scene_pairs(count: int) -> np.ndarray:  # => M,2
    """Numbers of the two pictures of every pair inside a scene, of whole scenes among `count` pictures."""
    inside = np.stack(np.triu_indices(PER_SCENE, 1), axis=1)
    scenes = np.arange(0, count // PER_SCENE * PER_SCENE, PER_SCENE)
    return (scenes[:, None, None] + inside).reshape(-1, 2)


def pair_directions(
    shifts: np.ndarray, changes: np.ndarray, wanted: list[Attribute]
) -> dict[str, np.ndarray]:  # M,L,D ; M,133 => {name: L,D}
    """The shift per unit of each attribute: least squares over all that changed in the pairs at once.

    shifts: E0(x_edit) - E0(x). changes: of the standardised parameters. The attributes and every parameter
    that none of them reads explain the shifts together, so that two things that often change at once, as in
    scenes, are told apart. An attribute that fewer than 20 pairs change is left out.
    """
    known = list(ATTRIBUTES.values())
    known += [one for one in wanted if one.name not in ATTRIBUTES]
    read = np.any([one.weights != 0 for one in known], axis=0)
    design = np.concatenate([np.stack([one.of(changes) for one in known], 1), changes[:, ~read]], axis=1)
    design = design.astype(np.float64)
    gram = design.T @ design + _RIDGE * np.eye(design.shape[1])
    found = np.linalg.solve(gram, design.T @ shifts.reshape(len(shifts), -1).astype(np.float64))
    moved = (np.abs(design[:, : len(known)]) > 1e-6).sum(axis=0)
    names = {one.name for one in wanted}
    return {
        one.name: found[k].reshape(shifts.shape[1:])
        for k, one in enumerate(known)
        if one.name in names and moved[k] >= _LEAST
    }
