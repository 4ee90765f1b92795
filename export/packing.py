"""Parts of a bundle beside the graphs of its chains: directions, and a model of texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.graphs import Graph
from export.rows import Arrays
from wagi.editing.styleclip import TABLE, TextFeatures, TextModel
from wagi_rt.directions import SUFFIX, Direction, require_fit, write
from wagi_rt.errors import UserError
from wagi_rt.manifest import file_sha256
from wagi_rt.worded import GRAPH


def pack(
    directions: Mapping[str, Direction], text: TextModel | None, manifest: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write directions and text model beside the graphs => what the manifest says of them. UserError for one
    that does not fit."""
    found = {"directions": pack_directions(directions, manifest, folder)}
    return found | ({"text": pack_text(text, manifest, folder)} if text else {})


def pack_directions(
    directions: Mapping[str, Direction], manifest: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write the directions; their manifest entries by name."""
    entries = {}
    for name, direction in directions.items():
        where = f"direction '{name}'"
        shape = manifest["n_latent"], manifest["style_dim"]
        require_fit(direction, *shape, manifest["generator"], where, manifest.get("styles", 0))
        path = folder / f"{name}{SUFFIX}"
        write(path, direction)
        entries[name] = {"file": path.name, "sha256": file_sha256(path), **direction.facts()}
    return entries


def text_graph(text: TextModel) -> tuple[Graph, tuple[Arrays, Arrays]]:
    """The graph of a text model, and its inputs and outputs for a few texts."""
    tower, module = text.tower, TextFeatures(text.tower).eval()
    tokens = torch.zeros(3, tower.context)
    for row, length in zip(tokens, (2, 5, tower.context), strict=True):
        row[: length - 1] = torch.arange(1, length)
        row[length - 1] = tower.token_embedding.num_embeddings - 1
    with torch.no_grad():
        features = module(tokens)
    graph = Graph(GRAPH, module, {"tokens": tokens[:2]}, {"features": (features.shape[1],)})
    return graph, ({"tokens": tokens.numpy()}, {"features": features.numpy()})


def pack_text(text: TextModel, manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write vocabulary and relevance; the manifest's entry. UserError for another generator's."""
    if text.generator != manifest["generator"]:
        what = "was made for another generator, whose styles mean something else"
        raise UserError(f"--text: {what}; make it anew (python -m wagi.directions styleclip)", 2)
    (folder / text.file).write_bytes(text.vocabulary)
    np.save(folder / TABLE, text.table)
    files = {
        key: {"file": name, "sha256": file_sha256(folder / name)}
        for key, name in (("vocabulary", text.file), ("relevance", TABLE))
    }
    return {"name": text.name, "tokens": text.tokens, "context": text.tower.context, **files}
