"""Results of an inversion or an edit: the tensors of a batch, and pictures one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from wagi_rt import pictures


class Inversion(NamedTuple):
    """The tensors of an inversion or an edit; float32, images not clipped. R is the manifest's `resolution`.

    The last three only where they were asked for (Session.run, naive=True).
    """

    ws: np.ndarray  # [N, n_latent, style_dim]
    naive_r: np.ndarray  # [N, 3, R, R] in [-1, 1]: the naive inversion as the residual sees it
    image: np.ndarray  # [N, 3, S, S]
    naive: np.ndarray | None = None  # [N, 3, S, S]
    residual: np.ndarray | None = None  # [N, 3, R, R]
    aligned: np.ndarray | None = None  # [N, 3, R, R]


class Result:
    """One inverted or edited picture. Images are uint8: `image` and `input` [S, S, 3] (`input` [R, R, 3]
    where only that was kept), `naive_r` [R, R, 3], and, in a session opened with naive=True, `naive`
    [S, S, 3]. `ws` is [n_latent, style_dim] float32.

    `input` and `naive_r` are converted when they are first asked for; `naive_float` is [3, R, R] in [-1, 1].
    """

    def __init__(
        self,
        image: np.ndarray,
        naive: np.ndarray | None,
        ws: np.ndarray,
        naive_r: np.ndarray,  # [3, R, R] in [-1, 1]
        source: np.ndarray,  # [3, S, S] in [-1, 1]
        notes: Sequence[str] = (),
    ) -> None:
        self.image, self.naive, self.ws, self.notes = image, naive, ws, notes
        self.naive_float, self._source = naive_r, source

    @cached_property
    def naive_r(self) -> np.ndarray:
        return pictures.to_uint8(self.naive_float[None])[0]

    @cached_property
    def input(self) -> np.ndarray:
        return pictures.to_uint8(self._source[None])[0]
