"""A bundle's manifest once it is checked, and the entries of it that have parts of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from wagi_rt import chain, directions, files
from wagi_rt.chain import EDIT, PIPELINE, Chain, Kind, Shapes, Step
from wagi_rt.directions import Direction


class Graph(NamedTuple):
    """One ONNX file; inputs and outputs are float32 with a dynamic batch N in front."""

    file: str
    sha256: str
    inputs: Shapes
    outputs: Shapes
    # Largest absolute difference from PyTorch in FP32 that the export accepts; infinite: the PSNR counts.
    tolerance: float
    limit_psnr_db: float  # least PSNR against FP32 that an engine of this graph must reach
    parity: Mapping[str, float] = MappingProxyType({})  # measured at export: max_abs, psnr_db
    max_activation: float | None = None  # largest absolute value inside the graph, measured on data


class Int8(NamedTuple):
    """The parts of a model whose layers are int8, and how near its pictures come to FP32."""

    parts: tuple[str, ...]  # encoder, heads
    limit_psnr_db: float  # least PSNR of inversions and edits
    psnr_db: Mapping[str, float]  # measured at export, on held-out pictures: inversions, edits


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


class Manifest(NamedTuple):
    """A checked manifest.json. `size` is the image's, `resolution` the encoder's and residual's side.

    `graphs` holds those of `inversion` and `edit` and, in most bundles, chain.PIPELINE and chain.EDIT;
    `default` is what runs unless asked otherwise: "pipeline" or "graphs".
    """

    folder: Path
    name: str
    size: int
    resolution: int
    n_latent: int
    style_dim: int
    precision: str
    graphs: dict[str, Graph]
    files: dict[str, str]
    tolerance: float
    created: str
    source: dict[str, Any]
    default: str
    sha256: str  # of manifest.json, which holds the hash of every other file
    aligner: str  # of chain.ALIGNERS
    full_detail: bool  # above R, results have the input's own detail
    early: bool  # the naive image is what the generator has drawn at R
    bilinear: bool  # this and the next: chain.Kind
    pil: bool
    generator: str  # the hash of the generator in whose latents directions and kept pictures live
    directions: dict[str, Packed]
    naive_errors: NaiveErrors | None
    styles: int  # channels of the offsets of styles that graphs take behind the latents; 0: none
    text: Text | None
    int8: Int8 | None

    @property
    def with_int8(self) -> str:
        """The words behind the precision; none without int8."""
        return f" with int8 {' and '.join(self.int8.parts)}" if self.int8 else ""

    @property
    def latents(self) -> tuple[int, int]:
        """The shape of `ws`: n_latent rows, then those that hold the offsets of styles."""
        return self.n_latent + -(-self.styles // self.style_dim), self.style_dim

    @property
    def kind(self) -> Kind:
        """The settings of the model that the functions of `chain` read."""
        return Kind(self.aligner, self.full_detail, self.early, self.bilinear, self.pil)

    @property
    def inversion(self) -> Chain:
        """An inversion by separate graphs."""
        return chain.inversion(*self.kind)

    @property
    def edit(self) -> Chain:
        """An edit by separate graphs."""
        return chain.edit(*self.kind)

    @property
    def chain(self) -> Chain:
        """The way that an inversion runs unless asked otherwise."""
        return chain.FUSED if self.default == PIPELINE else self.inversion

    @property
    def edit_chain(self) -> Chain:
        """The way that an edit runs unless asked otherwise."""
        return chain.fused(self.edit, EDIT) if self.default == PIPELINE and EDIT in self.graphs else self.edit

    @property
    def parts(self) -> dict[str, Step]:
        """The graphs that a whole bundle has, in running order: separate ones, then fused ones."""
        return {**self.inversion.graphs, **self.edit.graphs, **self.fused}

    @property
    def fused(self) -> dict[str, Step]:
        """The graphs of the bundle that hold whole chains."""
        known = {**chain.FUSED.graphs, **chain.fused(self.edit, EDIT).graphs}
        return {name: step for name, step in known.items() if name in self.graphs}

    @property
    def shapes(self) -> Shapes:
        """Every tensor of the chains, shapes without the batch."""
        return chain.shapes(self.size, self.resolution, self.latents, self.graphs["prefix"].outputs)

    def tensors(self, step: Step) -> tuple[Shapes, Shapes]:
        """(inputs, outputs) of a graph or of a function of chain.GLUE, under its own names."""
        graph = self.graphs.get(step.name)
        return (graph.inputs, graph.outputs) if graph else step.shapes(self.shapes)

    @property
    def hashes(self) -> dict[str, str]:
        """File -> SHA-256 of all graphs and weights: what the model computes, not how it is described."""
        return {graph.file: graph.sha256 for graph in self.graphs.values()} | self.files

    @property
    def packed(self) -> dict[str, str]:
        """File -> SHA-256 of what edits read: directions, and a text model's two files."""
        found = {one.file: one.sha256 for one in self.directions.values()}
        return found | (dict(self.text.hashes) if self.text else {})

    @property
    def latent_space(self) -> str:
        """A name that two bundles share where latents of one mean the same in the other."""
        return self.generator or files.key(sorted(self.hashes.items()))

    def direction(self, name: str) -> Direction:
        """A direction with its vector. UserError (status 2) for a name that the bundle does not have."""
        if name not in self.directions:
            raise directions.unknown(name, self.directions)
        path = self.folder / self.directions[name].file
        found = directions.read(path)
        self.require_fit(found, str(path))
        return found

    def require_fit(self, direction: Direction, where: str) -> None:
        """UserError (status 2) for a direction that does not belong to this model."""
        directions.require_fit(direction, self.n_latent, self.style_dim, self.generator, where, self.styles)

    @property
    def total_bytes(self) -> int:
        """Of all graphs and weights."""
        return sum((self.folder / name).stat().st_size for name in self.hashes)
