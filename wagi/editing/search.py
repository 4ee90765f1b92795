"""Directions in a trained model's W, found with rendered portraits, offered only if they hold.

Two ways: `pairs`, the mean of E0(x_edit) - E0(x) over counterfactual pairs, and `classifier`, the normal of a
linear classifier of the parameter (InterFaceGAN).
"""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from wagi.data import open_dataset
from wagi.editing.counterfactuals import batches
from wagi.editing.directions import Direction
from wagi.errors import UserError
from wagi.loader import batch_of
from wagi.model import WaGI
from wagi.portraits.edits import Edit
from wagi.portraits.parameters import CATEGORIES, CONTINUOUS, options

WAYS = ("pairs", "classifier")
# A projection that tells which of two portraits has more of the attribute in less than three of four cases
# is mostly something else; chance is 0.5, and yaw reaches 0.99.
MINIMUM_AUC = 0.75


def pair_direction(shifts: np.ndarray) -> np.ndarray:  # N,L,D => L,D
    """Unit vector of the mean shift E0(x_edit) - E0(x)."""
    mean = shifts.mean(axis=0)
    return mean / np.linalg.norm(mean)


# InterFaceGAN (Shen et al. 2020): the normal of a linear boundary in W; here of a logistic regression.
def classifier_direction(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:  # N,L,D ; N bool => 1,D
    """Unit normal, towards True, of a regularised logistic regression on the mean over styles."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    model.fit(codes.mean(axis=1), labels)
    normal = model[-1].coef_[0] / model[0].scale_
    return (normal / np.linalg.norm(normal))[None]


def calibrate(shifts: np.ndarray, vector: np.ndarray) -> tuple[float, float]:
    """Least squares: the s of shifts [N, L, D] = s * vector, and the share of their squares it explains."""
    whole = np.broadcast_to(vector, shifts.shape[1:])
    strength = float((shifts * whole).sum() / (len(shifts) * np.square(whole).sum()))
    rest = np.square(shifts - strength * whole).sum()
    return strength, float(1 - rest / np.square(shifts).sum())


def separation(codes: np.ndarray, vector: np.ndarray, values: np.ndarray, labels: np.ndarray) -> dict:
    """AUC of the projection for the labels, and its correlation with the values; None where undefined."""
    projection = (codes * vector).sum(axis=(1, 2))
    if labels.all() or not labels.any():
        return {"auc": None, "correlation": None}
    return {
        "auc": float(roc_auc_score(labels, projection)),
        "correlation": float(np.corrcoef(projection, values)[0, 1]),
    }


def parameter_values(params: np.ndarray, change: Edit) -> np.ndarray:  # N,P => N
    """The edit's parameter out of standardised parameter vectors (`portraits.vector`)."""
    if not change.option:
        return params[:, list(CONTINUOUS).index(change.parameter)]
    column = len(CONTINUOUS)
    for name in CATEGORIES:
        if name == change.parameter:
            return params[:, column + options(name).index(change.option)]
        column += len(options(name))
    raise AssertionError(change.parameter)


def encode_data(model: WaGI, data: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes [N, L, D] of all portraits of a data set, and their parameters [N, P]."""
    dataset = open_dataset(data, size)
    if not dataset.param_dim:
        raise UserError(f"{data}: no rendered portraits; give portraits:SEED:COUNT or their folder", 2)
    codes, params = [], []
    with torch.no_grad():
        for first in tqdm(range(0, len(dataset), 32), "codes", disable=None):
            batch = batch_of(dataset, range(first, min(first + 32, len(dataset))))
            codes.append(model.encode(batch["image"]).numpy())
            params.append(batch["params"].numpy())
    return np.concatenate(codes), np.concatenate(params)


def encode_pairs(model: WaGI, pairs: Any, change: Edit) -> np.ndarray:
    """Shifts E0(x_edit) - E0(x) [N, L, D]."""
    with torch.no_grad():
        shifts = [
            model.encode(edited) - model.encode(source) for source, edited, _ in batches(pairs(change), 32)
        ]
    return torch.cat(shifts).numpy()


def measure(
    change: Edit, shifts: np.ndarray, codes: np.ndarray, params: np.ndarray, minimum_auc: float
) -> list[tuple[dict[str, Any], Direction]]:
    """Both ways' rows and directions. Fitted on the first part of everything, measured on the rest."""
    part, half = len(codes) * 2 // 3, len(shifts) // 2
    values = parameter_values(params, change) * np.sign(change.change)
    labels = values > (0 if change.option else np.median(values[:part]))
    vectors = {"pairs": pair_direction(shifts[:half])}
    if len(set(labels[:part])) == 2:
        vectors["classifier"] = classifier_direction(codes[:part], labels[:part])
    found = []
    for way, vector in vectors.items():
        strength, explained = calibrate(shifts[half:], vector)
        row: dict[str, Any] = {"edit": change.text, "way": way, "strength": strength, "explained": explained}
        row |= separation(codes[part:], vector, values[part:], labels[part:])
        row["offered"] = "yes" if row["auc"] is not None and row["auc"] >= minimum_auc else "no"
        found.append((row, Direction(vector * np.sign(change.change), strength / abs(change.change))))
    return found
