"""The schema of a bundle's manifest.json: everything that it can have wrong is found here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from wagi_rt import chain, directions
from wagi_rt.chain import PIPELINE, Kind
from wagi_rt.entries import Graph, Int8, Manifest, NaiveErrors, Packed, Text
from wagi_rt.errors import UserError, printable
from wagi_rt.fields import Fields

# A bundle of schema 2 has ADA, no graph `edit` and no directions. 4 is 3 with `image_resize`, which readers
# of 3 would not notice.
OLDEST, SCHEMA, RESIZED = 2, 3, 4
# fp16: half arithmetic with FP32 islands. fp16-weights: half storage, FP32 arithmetic.
PRECISIONS = ("fp32", "fp16", "fp16-weights")
INT8 = ("encoder", "heads")  # parts that may have int8 layers
# `default` says which way an inversion is faster.
DEFAULTS = (PIPELINE, "graphs")


class Checker(Fields):
    """Typed look-ups in the parsed JSON; the first fault raises UserError naming file and key."""

    def manifest(self, data: object, folder: Path, sha256: str) -> Manifest:
        if not isinstance(data, dict):
            raise self.fail("must hold one JSON object")
        schema = self.get(data, "schema", int)
        if not OLDEST <= schema <= RESIZED:
            raise UserError(
                f"{self.path}: schema {schema} is unknown, this version reads schemas {OLDEST} to {RESIZED}; "
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
        kind = self.added(data, schema, resolution < size) if schema > OLDEST else Kind()
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
            **kind._asdict(),
            generator=str(self.get(data, "generator", str)) if schema > OLDEST else "",
            directions=self.directions(data) if "directions" in data else {},
            naive_errors=self.naive_errors(data) if "naive_errors" in data else None,
            styles=self.positive(data, "styles") if "styles" in data else 0,
            text=self.text(data) if "text" in data else None,
            int8=self.int8(data) if "int8" in data else None,
        )
        self.contract(manifest)
        return manifest

    def added(self, data: dict[str, Any], schema: int, larger: bool) -> Kind:
        """The settings that schemas 3 and 4 add. larger: than R, else all but the aligner mean nothing."""
        aligner, naive = (str(self.get(data, key, str)) for key in ("aligner", "naive"))
        full_detail = data.get("full_detail", False)
        reduced = self.get(data, "image_resize", str) if schema == RESIZED else "area"
        for key, value, known in (
            ("aligner", aligner, chain.ALIGNERS),
            ("naive", naive, ("full", "bilinear", "early")),
            ("full_detail", full_detail, (False, True)[: 1 + (aligner == "flow")]),
            ("image_resize", reduced, ("area", "pil")),
        ):
            if value not in known:
                wanted = " or ".join(str(one).lower() for one in known)
                raise UserError(
                    f"{self.path}: this version knows '{key}' {wanted} only, not "
                    f"{printable(str(value))[:80]}; install the matching wagi version"
                )
        others = full_detail, naive == "early", naive == "bilinear", reduced == "pil"
        return Kind(aligner, *(one and larger for one in others))

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

    def int8(self, data: dict[str, Any]) -> Int8:
        """{"parts", "limit_psnr_db", "psnr_db": {name: dB}}."""
        found, where = self.get(data, "int8", dict), "int8."
        parts = self.get(found, "parts", list, where)
        if not parts or not set(map(str, parts)) <= set(INT8):
            raise self.fail(f"key 'int8.parts' must hold some of {', '.join(INT8)}")
        limit = float(self.get(found, "limit_psnr_db", float, where))
        return Int8(tuple(parts), limit, self.numbers(found, "psnr_db", where))

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
            # Of graphs with int8 layers only the PSNR counts.
            tolerance=self.tolerance(data, where) if "tolerance" in data else math.inf,
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
