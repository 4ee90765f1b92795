"""Folders with all that edits by text need: a text tower, its vocabulary and the channels' relevance."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wagi import checkpoint
from wagi.editing.channels import ImageTower, relevance
from wagi.editing.components import samples
from wagi.errors import UserError
from wagi.files import write_json
from wagi.networks.clip import CLIP, TextSize, TextTower
from wagi.networks.swagan import Generator
from wagi.portraits.captions import VOCABULARY
from wagi.standins.clip import PortraitsCLIP
from wagi.standins.model import load

FACTS, TOWER, TABLE = "text.json", "tower.safetensors", "relevance.npy"
WORDS, PAIRS = "words.txt", "merges.txt.gz"
_SAMPLES = 4000  # latents that the styles' deviations are measured over


class TextModel(NamedTuple):
    """A text tower, how it reads, its vocabulary as a file's bytes, and the table [C, 1 + F] of relevance."""

    name: str
    tokens: str  # words or pairs
    tower: TextTower
    vocabulary: bytes
    table: np.ndarray
    generator: str

    @property
    def file(self) -> str:
        """The vocabulary's file name."""
        return WORDS if self.tokens == "words" else PAIRS


def portraits_clip(generator: Generator, images: int, seed: int) -> TextModel:
    """The text model of the rendered world, for edits of a generator of it."""
    network = load(PortraitsCLIP)
    vocabulary = ("\n".join(VOCABULARY) + "\n").encode()
    return _made("portraits-CLIP", "words", network, network.image, vocabulary, generator, images, seed)


def _made(
    name: str, tokens: str, tower: TextTower, image: ImageTower, vocabulary: bytes,
    generator: Generator, images: int, seed: int,
) -> TextModel:  # fmt: skip
    latents = torch.from_numpy(samples(generator, max(images, _SAMPLES), seed))
    found = relevance(generator, image, latents, images)
    table = np.concatenate([found.deviation[:, None], found.matrix], axis=1).astype(np.float32)
    return TextModel(name, tokens, tower, vocabulary, table, checkpoint.weights_hash(generator))


def clip(
    network: CLIP, name: str, merges: Sequence[tuple[str, str]], generator: Generator, images: int, seed: int
) -> TextModel:
    """CLIP with its list of merges, for edits of a generator."""
    lines = "\n".join(["#version: 0.2", *map(" ".join, merges)])
    vocabulary = gzip.compress(lines.encode(), mtime=0)
    return _made(name, "pairs", network, network.image, vocabulary, generator, images, seed)


def write(folder: Path, model: TextModel) -> None:
    """Keep a text model for `export/to_onnx.py --text`. OSError when the disk says no."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value for name, value in model.tower.state_dict().items() if _of_text(name)}
    checkpoint.save_safetensors(folder / TOWER, state, None, half=True)
    (folder / model.file).write_bytes(model.vocabulary)
    np.save(folder / TABLE, model.table)
    quick = type(model.tower.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"  # type: ignore[union-attr]
    facts = {"name": model.name, "tokens": model.tokens, "generator": model.generator, "quick": quick}
    write_json(folder / FACTS, facts)


def _of_text(name: str) -> bool:
    parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    return name.split(".")[0] in parts


def read(folder: Path) -> TextModel:
    """A text model that `write` kept. Raises UserError."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        name, tokens, generator = (str(facts[key]) for key in ("name", "tokens", "generator"))
        table = np.load(folder / TABLE, allow_pickle=False)
        vocabulary = (folder / (WORDS if tokens == "words" else PAIRS)).read_bytes()
        state = {key: value.float() for key, value in checkpoint.read_safetensors(folder / TOWER)[0].items()}
        (context, width), features = state["positional_embedding"].shape, state["text_projection"].shape[1]
        layers = len({key.split(".")[2] for key in state if key.startswith("transformer.")})
        size = TextSize(width, layers, context, len(state["token_embedding.weight"]), features)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        remedy = "make it with `python -m wagi.directions styleclip`"
        raise UserError(f"{folder}: no text model, or a damaged one ({error}); {remedy}", 2) from None
    tower = TextTower(size, quick=bool(facts.get("quick", True)))
    checkpoint.load_state(tower, state, str(folder / TOWER))
    return TextModel(name, tokens, tower.eval().requires_grad_(False), vocabulary, table, generator)


def read_table(folder: Path) -> tuple[np.ndarray, str]:
    """The table of relevance and its generator's hash, of such a folder or a bundle. Raises UserError."""
    try:
        facts = folder / FACTS if (folder / FACTS).is_file() else folder / "manifest.json"
        generator = str(json.loads(facts.read_text(encoding="utf-8"))["generator"])
        return np.load(folder / TABLE, allow_pickle=False).astype(np.float64), generator
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no text model, or a damaged one ({error})", 2) from None


class TextFeatures(nn.Module):
    """tokens [N, context], as float32 -> features [N, F] of unit length: the graph of a bundle."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        return self.tower.text(tokens.long())
