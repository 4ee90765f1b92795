"""Training of the stand-in networks: one short loop, resumable, and what the trained networks can do."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, mse_loss, normalize, pad

from wagi.data import PortraitMemmap, open_dataset, to_float
from wagi.errors import UserError, option
from wagi.files import beside, write_json
from wagi.loader import Order
from wagi.portraits import NUM_PARAMETERS
from wagi.standins.identities import Identities, rendered
from wagi.standins.model import PortraitsFeatures, PortraitsID, Standin, load, save

HOLDOUT = 8  # one in so many images or identities, the first ones, is never trained on
SAVE_EVERY = 100
MARGIN, SCALE = 0.3, 24.0
SHIFT = 3  # pixels of random framing
TURNED = 0.3  # radians of yaw between two views that count as turned


def fit(
    module: nn.Module, loss_at: Callable[[int], Tensor], steps: int, lr: float, run: Path, settings: dict
) -> None:
    """Adam under a one-cycle rate; RUN/training.pt every 100 steps, from which the same call goes on.

    `loss_at(step)` must depend on the step and the module only. UserError when RUN holds other settings.
    """
    optimiser = torch.optim.Adam(module.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    parts: dict[str, Any] = {"module": module, "optimiser": optimiser, "schedule": schedule}
    checkpoint, first = run / "training.pt", 0
    if checkpoint.is_file():
        content = torch.load(checkpoint, weights_only=True)
        if content["settings"] != settings:
            raise UserError(f"--out {run}: holds a run with other settings; name a new folder", 2)
        first = content["step"]
        for name, part in parts.items():
            part.load_state_dict(content[name])
    # 1.4 times as fast on a CPU; bfloat16 was eight times slower than float32 there.
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    module.train()
    for step in range(first, steps):
        torch.manual_seed(settings["seed"] * 1_000_003 + step)
        loss = loss_at(step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            print(f"step {step + 1}/{steps}  loss {loss.item():.4f}", file=sys.stderr)
            states: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
            with beside(checkpoint) as part:
                torch.save(states | {"step": step + 1, "settings": settings}, part)
    module.eval()


def reframed(images: Tensor) -> Tensor:
    """Moved by up to SHIFT pixels, one shift for the batch, the border repeated."""
    size = images.shape[-1]
    top, left = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
    return pad(images, (SHIFT,) * 4, mode="replicate")[:, :, top : top + size, left : left + size]


# ------------------------------------------------------------------------------------------- attributes


def train_attributes(data: str, run: Path, steps: int, batch: int, lr: float, seed: int) -> dict:
    """Regression of the standardised parameters; writes RUN/portraits-attributes.safetensors."""
    with option("--data"):
        portraits = open_dataset(data, PortraitsFeatures.size)
    if not isinstance(portraits, PortraitMemmap) or portraits.param_dim != NUM_PARAMETERS:
        raise UserError(f"--data {data}: needs a folder from `python -m wagi.portraits --memmap`", 2)
    held = max(1, len(portraits) // HOLDOUT)
    order = Order(len(portraits) - held, batch, seed, first=held)
    torch.manual_seed(seed)
    network = PortraitsFeatures()

    def loss_at(step: int) -> Tensor:
        items = [portraits.get(index) for index, _ in order(step)]
        images = reframed(torch.stack([item["image"] for item in items]))
        return mse_loss(network.predict(images), torch.stack([item["params"] for item in items]))

    settings = {"data": data, "count": len(portraits), "steps": steps, "batch": batch, "lr": lr, "seed": seed}
    fit(network, loss_at, steps, lr, run, settings)
    return finish(network, run, settings, lambda stored: verify_attributes(stored, portraits, held))


@torch.no_grad()
def verify_attributes(network: PortraitsFeatures, portraits: PortraitMemmap, held: int) -> dict:
    """On the first `held` portraits: R^2 of each continuous parameter, ROC AUC of each category's options."""
    from sklearn.metrics import r2_score

    from wagi.portraits.parameters import CATEGORIES, CONTINUOUS, options

    found, true = [], []
    for start in range(0, held, 64):
        items = [portraits.get(index) for index in range(start, min(start + 64, held))]
        found.append(network.predict(torch.stack([item["image"] for item in items])))
        true.append(torch.stack([item["params"] for item in items]))
    predicted, values = torch.cat(found).numpy(), torch.cat(true).numpy()
    scores = {name: round(r2_score(values[:, k], predicted[:, k]), 3) for k, name in enumerate(CONTINUOUS)}
    areas, column = {}, len(CONTINUOUS)
    for name in CATEGORIES:
        of_option = [
            area(values[:, k] > 0, predicted[:, k]) for k in range(column, column + len(options(name)))
        ]
        known = [area for area in of_option if area is not None]
        areas[name] = round(float(np.mean(known)), 3) if known else None
        column += len(options(name))
    return {"held_out": held, "r2": scores, "auc": areas}


# --------------------------------------------------------------------------------------------- identity


class AngularMargin(nn.Module):
    """ArcFace's head (Deng et al. 2019, eq. 3): embeddings [N, D] and classes [N] -> loss."""

    def __init__(self, dimensions: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dimensions))

    def forward(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        cosine = linear(embeddings, normalize(self.weight, dim=1)).clamp(-0.999, 0.999)
        with_margin = torch.cos(torch.acos(cosine) + MARGIN)
        own = nn.functional.one_hot(classes, cosine.shape[1]).bool()
        return cross_entropy(SCALE * torch.where(own, with_margin, cosine), classes)


def train_identity(
    data: str, init: Path | None, run: Path, steps: int, batch: int, lr: float, seed: int, workers: int
) -> dict:
    """Angular-margin classification of rendered identities; writes RUN/portraits-identity.safetensors.

    `init`: trained attribute weights, whose trunk is the start.
    """
    people = Identities.parse(data)
    views, yaws = rendered(people, run / "views", workers)
    held = max(2, people.count // HOLDOUT)
    pixels = views[held:].reshape(-1, *views.shape[2:])
    order = Order(len(pixels), batch, seed)
    torch.manual_seed(seed)
    network = PortraitsID()
    if init:
        network.trunk.load_state_dict(load(PortraitsFeatures, init).trunk.state_dict())
    head = AngularMargin(network.embedding.out_features, people.count - held)

    def loss_at(step: int) -> Tensor:
        indices = np.array([index for index, _ in order(step)])
        embeddings = network.embed(reframed(to_float(pixels[indices])))
        return head(embeddings, torch.from_numpy(indices // people.views))

    settings = {"data": data, "init": bool(init), "steps": steps, "batch": batch, "lr": lr, "seed": seed}
    fit(nn.ModuleList([network, head]), loss_at, steps, lr, run, settings)
    seen = views[:held], yaws[:held]
    return finish(network, run, settings, lambda stored: verify_identity(stored, *seen))


@torch.no_grad()
def verify_identity(network: PortraitsID, views: np.ndarray, yaws: np.ndarray) -> dict:
    """ROC AUC of same against different person over all pairs of views, and over turned pairs only."""
    count, of_each = views.shape[:2]
    embeddings = network.embed(to_float(views.reshape(-1, *views.shape[2:])))
    first, second = np.triu_indices(count * of_each, 1)
    cosine = (embeddings @ embeddings.T).numpy()[first, second]
    same = first // of_each == second // of_each
    turned = np.abs(yaws.reshape(-1)[first] - yaws.reshape(-1)[second]) > TURNED
    return {
        "held_out": int(count),
        "auc": area(same, cosine),
        "auc_turned": area(same[turned], cosine[turned]),
        "cosine_same": round(float(cosine[same].mean()), 3),
        "cosine_different": round(float(cosine[~same].mean()), 3),
    }


# ------------------------------------------------------------------------------------------------- both


def area(truth: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve; None where only one of the two classes is there."""
    from sklearn.metrics import roc_auc_score

    if not truth.any() or truth.all():
        return None
    return round(float(roc_auc_score(truth, score)), 4)


def finish(network: Standin, run: Path, settings: dict, verify: Callable[[Standin], dict]) -> dict:
    """Store in half precision, and verify what was stored."""
    path = run / str(network.file)
    save(network, path)
    report = {"network": network.file, "settings": settings} | verify(load(type(network), path))
    write_json(run / "verification.json", report)
    return report
