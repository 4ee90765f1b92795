"""The measure of a direction on held-out pictures: what it separates, what it changes, how far it holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from torch import Tensor

from wagi.editing.attributes import ATTRIBUTES
from wagi.model import NaiveInverter

STRENGTHS = (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0)
MOST_LEAKAGE = 1 / 3  # of the effect
_RIDGE_OF_CODES = 10.0

Reader = Callable[[Tensor], np.ndarray]  # images [N, 3, S, S] in [-1, 1] => values [N, A]


@dataclass(frozen=True, eq=False)
class Judged:
    """Changes of the attributes [K, A], in held-out standard deviations, at each of the strengths [K]."""

    auc: float
    strengths: tuple[float, ...]
    changes: np.ndarray
    own: int  # number of the direction's attribute

    @property
    def slopes(self) -> np.ndarray:  # => A
        """Change per unit of strength, between the strengths -1 and 1."""
        down, up = (self.changes[self.strengths.index(s)] for s in (-1.0, 1.0))
        return (up - down) / 2

    def range(self, most: float = MOST_LEAKAGE) -> tuple[float, float] | None:
        """The strengths around 0 where the own attribute rises and no other changes by `most` of it.

        Below a unit the measure is the unit's change: of a hat that only begins to show, a share is nothing.
        None when not even one unit holds in either sense.
        """
        low, high = self._reach(-1, most), self._reach(1, most)
        return (low, high) if max(-low, high) >= 1 else None

    def _reach(self, sense: int, most: float) -> float:
        """The last strength in one sense up to which it holds."""
        reached, before = 0.0, 0.0
        unit = self.changes[self.strengths.index(float(sense))][self.own] * sense
        for strength in sorted((s for s in self.strengths if s * sense > 0), key=abs):
            change = self.changes[self.strengths.index(strength)]
            own, others = change[self.own] * sense, np.abs(np.delete(change, self.own)).max(initial=0.0)
            if own <= before or others > most * max(own, unit):
                break
            reached, before = strength, own
        return reached


def auc(codes: np.ndarray, vector: np.ndarray, values: np.ndarray) -> float:  # N,L,D ; D or L,D ; N
    """Area under the ROC curve of the projection, for values above the median; 0.5 where none is."""
    labels = values > (values.mean() if len(np.unique(values)) == 2 else np.median(values))
    if labels.all() or not labels.any():
        return 0.5
    return float(roc_auc_score(labels, (codes * vector).sum(axis=(1, 2))))


@torch.no_grad()
def changes(
    model: NaiveInverter, codes: np.ndarray, vector: np.ndarray, reader: Reader,
    strengths: Sequence[float], batch: int = 32,
) -> np.ndarray:  # N,L,D ; D or L,D => K,A  # fmt: skip
    """Mean change of what is read from G0(ws + strength * vector), against G0(ws), at each strength."""
    total = np.zeros((len(strengths), 0))
    for first in range(0, len(codes), batch):
        part = codes[first : first + batch]
        before = _read(model, part, reader)
        moved = [(_read(model, part + s * vector, reader) - before).sum(axis=0) for s in strengths]
        total = np.stack(moved) + (total if total.size else 0)
    return total / len(codes)


def _read(model: NaiveInverter, codes: np.ndarray, reader: Reader) -> np.ndarray:
    return reader(model.generator(torch.from_numpy(codes.astype(np.float32))).clamp(-1, 1))


def code_reader(model: NaiveInverter, codes: np.ndarray, values: np.ndarray) -> Reader:
    """Values from pictures by way of E0: ridge regression on codes [N, L, D] with values [N, A]."""
    fitted = Ridge(_RIDGE_OF_CODES).fit(codes.mean(axis=1), values)
    return lambda images: fitted.predict(model.encode(images).mean(dim=1).numpy()).reshape(len(images), -1)


def portrait_reader(predict: Callable[[Tensor], Tensor]) -> Reader:
    """Values of ATTRIBUTES from pictures; predict: images => portraits' standardised parameters [N, 133]."""

    def reader(images: Tensor) -> np.ndarray:
        params = predict(images).numpy()
        return np.stack([one.of(params) for one in ATTRIBUTES.values()], axis=1)

    return reader


def judge(
    model: NaiveInverter, codes: np.ndarray, values: np.ndarray, vector: np.ndarray, own: int,
    reader: Reader, count: int,
) -> Judged:  # fmt: skip
    """Judgement of one direction on held-out codes [N, L, D] with values [N, A]; `count` of them rendered."""
    moved = changes(model, codes[:count], vector, reader, STRENGTHS)
    return Judged(
        auc(codes, vector, values[:, own]), STRENGTHS, moved / np.maximum(values.std(axis=0), 1e-6), own
    )
