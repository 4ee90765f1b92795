"""StyleCLIP's mapper, trained for one text, and as a file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wagi import checkpoint
from wagi.editing.latent import Loss
from wagi.editing.settings import Settings
from wagi.errors import UserError
from wagi.networks.mapper import Mapper
from wagi.networks.swagan import Generator

KIND = "mapper"
_REMEDY = "make it with `python -m wagi.directions mapper`"


# Eq. (4). The L2 term is the public code's: the mean square of what is added to the latents.
def objective(generator: Generator, mapper: Mapper, ws: Tensor, loss: Loss, lambda_l2: float) -> Tensor:
    """The mean loss of latents [N, n_latent, style_dim] that the mapper moves; gradients reach the mapper."""
    with torch.no_grad():
        originals = generator(ws)
    step = mapper(ws)
    return loss(generator(ws + step), originals).mean() + lambda_l2 * step.square().mean()


def train(
    generator: Generator, codes: Tensor, loss: Loss, settings: Settings, batch: int = 2, seed: int = 0
) -> tuple[Mapper, list[float]]:
    """A mapper trained on codes [N, n_latent, style_dim], and the mean loss of each tenth of the run."""
    generator.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mapper = Mapper(generator.n_latent, generator.style_dim).to(codes)
    rng = torch.Generator().manual_seed(seed)
    optimizer, losses = torch.optim.Adam(mapper.parameters(), settings.learning_rate), []
    order = torch.empty(0, dtype=torch.long)
    for _ in tqdm(range(settings.steps), "mapper", disable=None):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(codes), generator=rng)])
        chosen, order = order[:batch], order[batch:]
        value = objective(generator, mapper, codes[chosen], loss, settings.lambda_l2)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    tenths = np.array_split(losses, min(10, settings.steps))
    return mapper.eval().requires_grad_(False), [float(tenth.mean()) for tenth in tenths]


# ---------------------------------------------------------------------------------------------------- files


def save(path: Path, mapper: Mapper, text: str, generator: str, note: str) -> None:
    """Keep a mapper: its weights, the text, and the hash of the generator whose latents it moves."""
    words = {**checkpoint.LABEL, "kind": KIND, "text": text, "generator": generator, "note": note}
    checkpoint.save_safetensors(path, mapper.state_dict(), words, half=False)


def load(path: Path, generator: Generator) -> tuple[Mapper, str]:
    """A mapper of this generator's latents, and its text. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_REMEDY}", 2)
    state, words = checkpoint.read_safetensors(path)
    if words.get("kind") != KIND or not {"text", "generator"} <= words.keys():
        raise UserError(f"{path}: not a mapper, its metadata has no kind={KIND}; {_REMEDY}", 2)
    if words["generator"] != checkpoint.weights_hash(generator):
        raise UserError(f"{path}: moves another generator's latents; train one for --model", 2)
    mapper = Mapper(generator.n_latent, generator.style_dim)
    checkpoint.load_state(mapper, state, str(path))
    return mapper.eval().requires_grad_(False), words["text"]
