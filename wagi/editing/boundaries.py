"""Directions from labels: InterFaceGAN's linear boundaries, and their conditional form."""

from collections.abc import Sequence

import numpy as np
from sklearn.svm import SVC

EXTREME = 0.3  # share of a continuous attribute's values at either end that the two classes are made of


def classes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(indices, labels) of the two ends of an attribute's values [N]; of all when there are two values."""
    if len(np.unique(values)) == 2:
        return np.arange(len(values)), values > values.mean()
    order = np.argsort(values, kind="stable")
    count = max(1, int(EXTREME * len(values)))
    return np.concatenate([order[:count], order[-count:]]), np.repeat([False, True], count)


# InterFaceGAN (Shen et al. 2020), section 3.1: the unit normal of a linear SVM's boundary, C = 1.
def boundary(codes: np.ndarray, values: np.ndarray) -> np.ndarray:  # N,D ; N => D
    """The unit normal, towards more. ValueError when the values are all the same."""
    if not np.ptp(values):
        raise ValueError("one value only")
    chosen, labels = classes(values)
    normal = SVC(kernel="linear").fit(codes[chosen], labels).coef_[0]
    return normal / np.linalg.norm(normal)


# InterFaceGAN, section 3.2 (eq. 4): what the conditions' directions span is taken out.
def conditional(vector: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:  # D ; [D] => D
    """The vector, unit again, with no part along any of the others. ValueError when nothing is left."""
    if not others:
        return vector
    basis, triangle = np.linalg.qr(np.stack(others, axis=1))
    basis = basis[:, np.abs(np.diag(triangle)) > 1e-6]
    rest = vector - basis @ (basis.T @ vector)
    if np.linalg.norm(rest) < 1e-4 * np.linalg.norm(vector):
        raise ValueError("nothing is left of it")
    return rest / np.linalg.norm(rest)


def shift_per_unit(vector: np.ndarray, codes: np.ndarray, values: np.ndarray) -> float:
    """The move of the projection onto a unit vector per unit of the values, by least squares."""
    projection, centred = codes @ vector, values - values.mean()
    return float(projection @ centred / (centred @ centred))
