"""The entries of a bundle's manifest that have parts of their own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from wagi_rt.chain import Shapes
from wagi_rt.directions import Direction


class Graph(NamedTuple):
    """One ONNX file; inputs and outputs are float32 with a dynamic batch N in front."""

    file: str
    sha256: str
    inputs: Shapes
    outputs: Shapes
    tolerance: float  # largest absolute difference from PyTorch in FP32 that the export accepts
    limit_psnr_db: float  # least PSNR against FP32 that an engine of this graph must reach
    parity: Mapping[str, float] = MappingProxyType({})  # measured at export: max_abs, psnr_db
    max_activation: float | None = None  # largest absolute value inside the graph, measured on data


class NaiveErrors(NamedTuple):
    """Mean squared errors of the naive inversions of held-out pictures, at the residual's resolution."""

    count: int  # type: ignore[assignment]
    mean: float
    quantiles: Mapping[float, float]  # share of the pictures below -> error


class Packed(NamedTuple):
    """A direction in a bundle: its file, and what it was measured to do (its vector is not read yet)."""

    file: str
    sha256: str
    facts: Direction


class Text(NamedTuple):
    """A model of texts in a bundle (its graph `text`), and what its features do to the styles.

    tokens: words or pairs. context: the numbers of a text. hashes: SHA-256 of the two files.
    """

    name: str
    tokens: str
    context: int
    vocabulary: str
    relevance: str
    hashes: Mapping[str, str]
