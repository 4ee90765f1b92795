"""The bundle's schema: a folder with manifest.json and ONNX graphs. Read, check, verify.

Everything a bundle can have wrong is found here, before an engine sees it, and becomes one UserError line.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from wagi_rt import chain, directions, files, integrity
from wagi_rt.chain import EDIT, PIPELINE, Chain, Shapes, Step
from wagi_rt.directions import Direction
from wagi_rt.entries import Graph as Graph
from wagi_rt.entries import NaiveErrors as NaiveErrors
from wagi_rt.entries import Packed, Text
from wagi_rt.errors import UserError, printable
from wagi_rt.fields import Fields, parse
from wagi_rt.files import file_sha256 as file_sha256
from wagi_rt.integrity import REMEDY

SCHEMA, OLDER = 3, (2,)  # a bundle of schema 2 has ADA, no graph `edit` and no directions
# fp16: half arithmetic with FP32 islands. fp16-weights: half storage, FP32 arithmetic.
PRECISIONS = ("fp32", "fp16", "fp16-weights")
# `default` says which way an inversion is faster.
DEFAULTS = (PIPELINE, "graphs")


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
    generator: str  # the hash of the generator in whose latents directions and kept pictures live
    directions: dict[str, Packed]
    naive_errors: NaiveErrors | None
    styles: int  # channels of the offsets of styles that graphs take behind the latents; 0: none
    text: Text | None

    @property
    def latents(self) -> tuple[int, int]:
        """The shape of `ws`: n_latent rows, then those that hold the offsets of styles."""
        return self.n_latent + -(-self.styles // self.style_dim), self.style_dim

    @property
    def kind(self) -> tuple[str, bool, bool]:
        """The settings of the model that the functions of `chain` read."""
        return self.aligner, self.full_detail, self.early

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


def embedded() -> Path:
    """The bundle that comes with the package."""
    return Path(__file__).resolve().parent / "demo"


def read(bundle: str | os.PathLike[str] | None = None, thorough: bool = False) -> Manifest:
    """Read and check a bundle folder (or its manifest.json), the hash of every file included."""
    folder = embedded() if bundle is None else Path(bundle)
    folder = folder.parent if folder.name == "manifest.json" else folder
    path = folder / "manifest.json"
    if bundle is None and not os.path.isfile(path):
        raise UserError("this installation holds no embedded model; name a bundle with -m BUNDLE", status=2)
    if not os.path.exists(folder):
        raise UserError(f"{folder}: bundle not found; name a folder written by export/to_onnx.py")
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: not a bundle, which is a folder with manifest.json and ONNX graphs")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{folder}: not a bundle, manifest.json is missing; {REMEDY}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    data = parse(raw, path)
    manifest = _Checker(path).manifest(data, folder, hashlib.sha256(raw).hexdigest())
    graphs = [graph.file for graph in manifest.graphs.values()]
    packed = {one.file: one.sha256 for one in manifest.directions.values()}
    packed |= manifest.text.hashes if manifest.text else {}
    integrity.check(folder, {**manifest.hashes, **packed}, graphs, thorough)
    return manifest


class _Checker(Fields):
    """Typed look-ups in the parsed JSON; the first fault raises UserError naming file and key."""

    def manifest(self, data: object, folder: Path, sha256: str) -> Manifest:
        if not isinstance(data, dict):
            raise self.fail("must hold one JSON object")
        schema = self.get(data, "schema", int)
        if schema not in (SCHEMA, *OLDER):
            known = " and ".join(map(str, (*OLDER, SCHEMA)))
            raise UserError(
                f"{self.path}: schema {schema} is unknown, this version reads schemas {known}; "
                "install the matching wagi version or export the bundle again"
            )
        size, resolution = self.positive(data, "size"), self.positive(data, "resolution")
        for key, value in (("size", size), ("resolution", resolution)):
            if value & (value - 1) or value < 32:
                raise self.fail(f"key '{key}' must be a power of two of at least 32, not {value}")
        if resolution > size:
            raise self.fail(f"key 'resolution' ({resolution}) must not be larger than 'size' ({size})")
        precision = self.get(data, "precision", str)
        if precision not in PRECISIONS:
            found = printable(precision)[:80]
            raise self.fail(f"key 'precision' must be one of {', '.join(PRECISIONS)}, not '{found}'")
        graphs = self.get(data, "graphs", dict)
        kind = self.added(data, resolution < size) if schema == SCHEMA else ("ada", False, False)
        for name in {**chain.inversion(*kind).graphs, **chain.edit(*kind).graphs}:
            if name not in graphs:
                raise self.fail(f"graph '{name}' is missing")
        files = self.get(data, "files", dict) if "files" in data else {}
        manifest = Manifest(
            folder=folder,
            name=self.get(data, "name", str),
            size=size,
            resolution=resolution,
            n_latent=self.positive(data, "n_latent"),
            style_dim=self.positive(data, "style_dim"),
            precision=precision,
            graphs={name: self.graph(graphs, name) for name in graphs},
            files={
                self.file(n, "'files'"): self.hash(h, f"files['{printable(n)[:80]}']")
                for n, h in files.items()
            },
            tolerance=self.tolerance(data),
            created=self.get(data, "created", str) if "created" in data else "",
            source=self.get(data, "source", dict) if "source" in data else {},
            default=self.default(data, graphs),
            sha256=sha256,
            aligner=kind[0],
            full_detail=kind[1],
            early=kind[2],
            generator=str(self.get(data, "generator", str)) if schema == SCHEMA else "",
            directions=self.directions(data) if "directions" in data else {},
            naive_errors=self.naive_errors(data) if "naive_errors" in data else None,
            styles=self.positive(data, "styles") if "styles" in data else 0,
            text=self.text(data) if "text" in data else None,
        )
        self.contract(manifest)
        return manifest

    def added(self, data: dict[str, Any], larger: bool) -> tuple[str, bool, bool]:
        """The settings that schema 3 adds: Manifest.kind. larger: than R, else two of them mean nothing."""
        aligner, naive = (str(self.get(data, key, str)) for key in ("aligner", "naive"))
        full_detail = data.get("full_detail", False)
        for key, value, known in (
            ("aligner", aligner, chain.ALIGNERS),
            ("naive", naive, ("full", "early")),
            ("full_detail", full_detail, (False, True)[: 1 + (aligner == "flow")]),
        ):
            if value not in known:
                wanted = " or ".join(str(one).lower() for one in known)
                raise UserError(
                    f"{self.path}: this version knows '{key}' {wanted} only, not "
                    f"{printable(str(value))[:80]}; install the matching wagi version"
                )
        return aligner, full_detail and larger, naive == "early" and larger

    def directions(self, data: dict[str, Any]) -> dict[str, Packed]:
        """{name: {"file", "sha256", and the facts of wagi_rt.directions.Direction}}."""
        found = {}
        for name, entry in self.get(data, "directions", dict).items():
            where = f"directions.{printable(name)[:80]}"
            if not isinstance(entry, dict):
                raise self.fail(f"key '{where}' must be a dict, not {type(entry).__name__}")
            facts = directions.checked({**entry, "name": name}, f"{self.path}: {where}")
            file = self.file(self.get(entry, "file", str, f"{where}."), f"key '{where}.file'")
            found[name] = Packed(file, self.hash(entry.get("sha256"), f"key '{where}.sha256'"), facts)
        return found

    def text(self, data: dict[str, Any]) -> Text:
        """{"name", "tokens", "context", "vocabulary": {"file", "sha256"}, "relevance": the same}."""
        found, names, hashes = self.get(data, "text", dict), {}, {}
        for key in ("vocabulary", "relevance"):
            entry, where = self.get(found, key, dict, "text."), f"text.{key}."
            names[key] = self.file(self.get(entry, "file", str, where), f"key '{where}file'")
            hashes[names[key]] = self.hash(entry.get("sha256"), f"key '{where}sha256'")
        tokens = self.get(found, "tokens", str, "text.")
        graph = data["graphs"].get("text", {})
        if tokens not in ("words", "pairs") or not graph or "styles" not in data:
            raise self.fail("key 'text' needs tokens words or pairs, a graph `text`, and styles")
        context = self.positive(found, "context")
        return Text(self.get(found, "name", str, "text."), tokens, context, hashes=hashes, **names)

    def naive_errors(self, data: dict[str, Any]) -> NaiveErrors:
        found, where = self.get(data, "naive_errors", dict), "naive_errors."
        try:
            quantiles = {float(share): float(value) for share, value in found["quantiles"].items()}
            mean = float(self.get(found, "mean", float, where))
        except (KeyError, AttributeError, TypeError, ValueError):
            raise self.fail(f"key '{where}quantiles' must give an error for each share") from None
        if not quantiles or not all(map(math.isfinite, (mean, *quantiles.values()))):
            raise self.fail("key 'naive_errors' must hold finite numbers")
        return NaiveErrors(int(self.get(found, "count", int, where)), mean, quantiles)

    def default(self, data: dict[str, Any], graphs: dict[str, Any]) -> str:
        """The way an inversion runs."""
        default = str(self.get(data, "default", str)) if "default" in data else "graphs"
        if default not in DEFAULTS or (default == PIPELINE and PIPELINE not in graphs):
            ways = " or ".join(DEFAULTS if PIPELINE in graphs else DEFAULTS[1:])
            raise self.fail(f"key 'default' must be {ways}, not '{printable(default)[:80]}'")
        return default

    def graph(self, graphs: dict[str, Any], name: str) -> Graph:
        data = self.get(graphs, name, dict, "graphs.")
        where = f"graphs.{name}."
        return Graph(
            file=self.file(self.get(data, "file", str, where), f"key '{where}file'"),
            sha256=self.hash(data.get("sha256"), f"key '{where}sha256'"),
            inputs=self.shapes(self.get(data, "inputs", dict, where), where + "inputs."),
            outputs=self.shapes(self.get(data, "outputs", dict, where), where + "outputs."),
            tolerance=self.tolerance(data, where),
            limit_psnr_db=float(self.get(data, "limit_psnr_db", float, where)),
            parity=self.numbers(data, "parity", where),
            max_activation=self.optional(data, "max_activation", where),
        )

    def contract(self, manifest: Manifest) -> None:
        """The tensors of all graphs fit the chains and each other."""
        for name, step in manifest.parts.items():
            graph = manifest.graphs[name]
            sides = {"inputs": (step.reads, graph.inputs), "outputs": (step.makes, graph.outputs)}
            for kind, (own, found) in sides.items():
                if set(own) != set(found):
                    raise self.fail(f"key 'graphs.{name}.{kind}' must be {', '.join(own)}")
                for tensor, known in own.items():
                    if found[tensor] != (shape := manifest.shapes[known]):
                        where = f"graphs.{name}.{kind}.{tensor}.shape"
                        raise self.fail(f"key '{where}' must be N and {list(shape)}")
