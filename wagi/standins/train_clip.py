"""Training of portraits-CLIP on portraits with the captions that their parameters make true."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wagi.data import PortraitMemmap, open_dataset
from wagi.errors import UserError, option
from wagi.loader import Order
from wagi.portraits import captions
from wagi.portraits.dataset import Settings, picture
from wagi.standins.clip import PortraitsCLIP, tokens
from wagi.standins.model import PortraitsFeatures, load
from wagi.standins.train import HOLDOUT, area, finish, fit, reframed

_CAPTIONS = 2  # of each picture in a step
_NEAREST = (1, 5)


def train_clip(data: str, init: Path | None, run: Path, steps: int, batch: int, lr: float, seed: int) -> dict:
    """Pictures and captions towards each other; writes RUN/portraits-clip.safetensors.

    `init`: trained attribute weights, whose trunk is the start.
    """
    with option("--data"):
        portraits = open_dataset(data, PortraitsCLIP.size)
    if not isinstance(portraits, PortraitMemmap) or portraits.seed is None:
        raise UserError(f"--data {data}: needs a folder from `python -m wagi.portraits --memmap`", 2)
    known = truths(portraits)
    held = max(1, len(portraits) // HOLDOUT)
    order = Order(len(portraits) - held, batch, seed, first=held)
    torch.manual_seed(seed)
    network = PortraitsCLIP()
    if init:
        network.trunk.load_state_dict(load(PortraitsFeatures, init).trunk.state_dict())

    def loss_at(step: int) -> Tensor:
        chosen = np.array([index for index, _ in order(step)])
        images = torch.stack([portraits.get(int(index))["image"] for index in chosen])
        texts, facts = drawn(known[np.repeat(chosen, _CAPTIONS)], np.random.default_rng((seed, step)))
        return network.loss(reframed(images), tokens(texts), torch.from_numpy(matches(known[chosen], facts)))

    settings = {"data": data, "init": bool(init), "count": len(portraits), "steps": steps, "batch": batch}
    settings |= {"lr": lr, "seed": seed}
    fit(network, loss_at, steps, lr, run, settings)
    return finish(network, run, settings, lambda stored: verify_clip(stored, portraits, known[:held]))


def truths(portraits: PortraitMemmap) -> np.ndarray:  # => [N, len(FACTS)] bool
    """The facts that hold of every portrait of a folder."""
    settings = Settings(
        len(portraits),
        portraits.size,
        int(portraits.seed or 0),
        edited=portraits.edited,
        scenes=portraits.scenes,
    )
    return np.stack([captions.truth(picture(settings, index)) for index in range(len(portraits))])


def drawn(known: np.ndarray, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """A caption for each row of facts [M, F], and the facts [M, F] that it states."""
    facts, texts = np.zeros_like(known), []
    for row, true in zip(facts, known, strict=True):
        chosen = captions.draw(true, rng)
        row[chosen] = True
        texts.append(captions.sentence(chosen, rng))
    return texts, facts


def matches(known: np.ndarray, facts: np.ndarray) -> np.ndarray:  # N,F ; M,F => N,M bool
    """True where a portrait has everything that a caption states."""
    return ((~known).astype(np.float32) @ facts.T.astype(np.float32)) == 0


@torch.no_grad()
def verify_clip(network: PortraitsCLIP, portraits: PortraitMemmap, known: np.ndarray) -> dict:
    """On the first portraits: retrieval by caption, and ROC AUC of every fact's own words.

    A caption finds its portrait when everything it states holds of one of the nearest; chance: the same for
    portraits in random order.
    """
    held, rng = len(known), np.random.default_rng(0)
    parts = range(0, held, 64)
    items = [[portraits.get(i)["image"] for i in range(k, min(k + 64, held))] for k in parts]
    images = torch.cat([network.image(torch.stack(part)) for part in items])
    texts, facts = drawn(known, rng)
    true = matches(known, facts)  # portraits, captions
    near = (images @ network.text(tokens(texts)).T).argsort(dim=0, descending=True).numpy()
    found = {f"text_to_image_at_{k}": _share(true, near[:k]) for k in _NEAREST}
    chance = {f"chance_at_{k}": _share(true, rng.permuted(near, axis=0)[:k]) for k in _NEAREST}
    said = [f"a person {fact.slot} {fact.words}" if fact.slot in ("with", "without") else fact.words
            for fact in captions.FACTS]  # fmt: skip
    scores = (images @ network.text(tokens(said)).T).numpy()
    areas: dict[str, list[float]] = {}
    for k, fact in enumerate(captions.FACTS):
        value = area(known[:, k], scores[:, k])
        if value is not None:
            areas.setdefault(fact.kind, []).append(value)
    means = {kind: round(float(np.mean(values)), 3) for kind, values in sorted(areas.items())}
    return {"held_out": held, **found, **chance, "auc": means}


def _share(true: np.ndarray, nearest: np.ndarray) -> float:  # N,M bool ; k,M => share of captions
    hit = np.take_along_axis(true, nearest, axis=0).any(axis=0)
    return round(float(hit.mean()), 3)
