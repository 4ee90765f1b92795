"""`wagi-rt page`: one HTML file that holds a bundle and what runs it, opens anywhere and contacts nobody.

The sources are plain modules in wagi_rt/page; what is computed in which order comes from wagi_rt.chain.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

from wagi_rt import directions, files, naive, worded
from wagi_rt.chain import EDIT_RESULTS, Chain, opening
from wagi_rt.commands import assets
from wagi_rt.console import say
from wagi_rt.errors import UserError
from wagi_rt.faces import detection, models
from wagi_rt.integrity import external
from wagi_rt.manifest import Manifest, read
from wagi_rt.texts import read_merges

SOURCES = Path(__file__).resolve().parent.parent / "page"
LIMIT = 256 << 20  # characters of a page: browsers hold no much longer texts
# Nothing is loaded from anywhere; only our own scripts, by their hashes, and what they make themselves.
_POLICY = (
    "default-src 'none'; script-src {scripts} blob: 'wasm-unsafe-eval'; worker-src blob:; "
    "style-src {styles}; img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'none'"
)
_IMPORT = re.compile(r"^import (\{[^}]*\}) from '\./(\w+)\.js';$", re.M)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.M)


def page(args: Namespace) -> int:
    """The command: reads and checks the bundle, then writes the page."""
    path = Path(args.output)
    if path.exists() and not args.overwrite:
        raise UserError(f"{path}: exists already; choose another -o, or add --overwrite", status=2)
    if args.faces and not models.installed():
        raise UserError(f"--faces: the face models are not installed; {models.GET}", status=2)
    manifest = read(args.model, thorough=True)
    if args.fetch and not args.assets:
        say(f"{assets.PACKAGE} comes from the npm registry, unless it is kept from an earlier time")
    runtime = assets.load(args.assets, args.fetch)
    content = assemble(manifest, runtime, args.faces).encode()
    files.write_atomic(path, content)
    size = f"{len(content) / 1e6:.1f} MB"
    say(f"{path}: {size} with {manifest.name} and {assets.PACKAGE}; open it in a browser")
    return 0


def assemble(manifest: Manifest, runtime: dict[str, bytes], faces: bool = False) -> str:
    """The page as text. runtime: the files of `assets.load`; faces: with the models that find them.

    UserError where it would be too long.
    """
    model = describe(manifest)
    contents = dict(runtime)
    if faces:
        model["finder"] = _finder()
        contents |= {models.path(one).name: models.path(one).read_bytes() for one in models.MODELS}
    if manifest.text:
        model["text"], texts = describe_text(manifest)
        contents |= texts
    for name in [graph["file"] for graph in model["graphs"].values()] + sorted(manifest.files):
        contents[name] = (manifest.folder / name).read_bytes()
    for direction in model["directions"]:
        found = manifest.direction(direction["name"])
        step = found.shift(1, manifest.n_latent, manifest.latents) if manifest.styles else found.vector
        contents[direction["file"]] = step.astype("<f4").tobytes()
    packed = [_element("file", name, gzip.compress(content, mtime=0)) for name, content in contents.items()]
    samples = sorted((manifest.folder / "samples").glob("*.png"))
    samples += sorted((manifest.folder / "photo").glob("*.jpg")) if faces else []
    packed += [_element("sample", path.name, path.read_bytes()) for path in samples]
    length = sum(map(len, packed))
    if length > LIMIT:
        raise UserError(
            f"{manifest.folder}: makes a page of {length / 1e6:.0f} MB, browsers open {LIMIT / 1e6:.0f}; "
            f"export with --half-weights{', without --text' if manifest.text else ''}, or use a smaller model"
        )
    return _filled(manifest, model, "\n".join(packed))


def describe(manifest: Manifest) -> dict[str, Any]:
    """The facts about a bundle that the page computes with, as JSON has them."""
    kept = opening(*manifest.kind).outputs
    naives = () if manifest.early else ("naive", "edit_naive")  # the page enlarges an early one
    inversion = manifest.inversion.yielding(*kept, *naives[:1], "result")
    edit = manifest.edit.yielding(*EDIT_RESULTS, *naives[1:])
    graphs = {name: manifest.graphs[name].file for name in {**inversion.graphs, **edit.graphs}}
    builds = assets.BUILDS.items()
    return {
        "name": manifest.name,
        "size": manifest.size,
        "resolution": manifest.resolution,
        "n_latent": manifest.n_latent,
        "latents": manifest.latents,
        "inversion": _chain(inversion),
        "edit": _chain(edit),
        "graphs": {name: _graph(manifest, file) for name, file in graphs.items()},
        "directions": [{**one.facts.facts(), "file": one.file} for one in manifest.directions.values()],
        "far": naive.furthest(manifest.naive_errors),
        "runtimes": {name: dict(zip(("module", "wasm"), build, strict=True)) for name, build in builds},
    }


def _finder() -> dict[str, Any]:
    """The face models and by which constants faces are found, as JSON."""
    graphs = {
        name: {"file": models.path(model).name, "external": [], "outputs": model.outputs}
        for name, model in {"detector": models.DETECTOR, "mesh": models.MESH}.items()
    }
    return {"graphs": graphs, "facts": detection.facts()}


def describe_text(manifest: Manifest) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The facts about a bundle's text model, as JSON, and its files by name. UserError for a damaged one."""
    assert manifest.text
    found, graph = manifest.text, manifest.graphs[worded.GRAPH]
    facts = {
        "name": found.name,
        "context": found.context,
        "graphs": {worded.GRAPH: {**_graph(manifest, graph.file), "late": True}},
        "table": found.relevance,
        "neutral": worded.NEUTRAL,
        "threshold": worded.THRESHOLD,
        "step": directions.STEP,
        "most": directions.MOST,
    }
    table = worded.alone(manifest, "onnx").relevance.astype("<f4")  # no engine opens for it
    contents = {graph.file: (manifest.folder / graph.file).read_bytes(), found.relevance: table.tobytes()}
    vocabulary = manifest.folder / found.vocabulary
    if found.tokens == "words":
        return {**facts, "words": vocabulary.read_text(encoding="utf-8").split()}, contents
    merges = "\n".join(map(" ".join, read_merges(vocabulary)))
    return {**facts, "merges": found.vocabulary}, {**contents, found.vocabulary: merges.encode()}


def _graph(manifest: Manifest, file: str) -> dict[str, Any]:
    return {"file": file, "external": sorted(external(manifest.folder / file))}


def _chain(chain: Chain) -> dict[str, Any]:
    steps = [{"name": step.name, "reads": step.reads, "makes": step.makes} for step in chain.steps]
    return {"inputs": chain.inputs, "steps": steps, "outputs": chain.outputs}


def _element(kind: str, name: str, content: bytes) -> str:
    """A file inside the page; browsers do not run what has this type."""
    text = base64.b64encode(content).decode()
    return f'<script type="application/octet-stream" data-{kind}="{html.escape(name)}">{text}</script>'


def _filled(manifest: Manifest, model: dict[str, Any], payload: str) -> str:
    """The template with everything in it, and the hashes of its scripts and styles in its policy."""
    style = (SOURCES / "page.css").read_text(encoding="utf-8")
    main, worker = joined("main"), joined("worker")
    parts = {
        "policy": _POLICY.format(scripts=_hash(main), styles=_hash(style)),
        "name": html.escape(manifest.name),
        "size": str(manifest.size),
        "engine": html.escape(assets.PACKAGE.replace("@", " ")),
        "style": style,
        "main": main,
        "worker": worker,
        "model": json.dumps(model).replace("<", "\\u003c"),
        "payload": payload,
    }
    template = (SOURCES / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def joined(entry: str) -> str:
    """A module and all that it imports as one script: each becomes a function that returns its exports."""
    found: dict[str, str] = {}

    def add(name: str) -> None:
        source = (SOURCES / f"{name}.js").read_text(encoding="utf-8")
        for _, other in _IMPORT.findall(source):
            if other not in found:
                add(other)
        exports = ", ".join(exported for _, exported in _EXPORT.findall(source))
        body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = from_\2;", source))
        found[name] = f"const from_{name} = (() => {{\n{body}\nreturn {{ {exports} }};\n}})();\n"

    add(entry)
    return "'use strict';\n" + "".join(found.values())
