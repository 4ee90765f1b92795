"""Steps towards a text, by StyleCLIP's latent optimisation and by its mapper, as files."""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wagi.data import to_float
from wagi.editing import latent, mapping, world
from wagi.editing.components import samples
from wagi.editing.settings import Settings
from wagi.editing.towers import TextLoss, Towers
from wagi.errors import UserError, option
from wagi.features import ArcFace
from wagi.files import write_json
from wagi.model import NaiveInverter
from wagi.networks.mapper import Mapper
from wagi.networks.swagan import Generator
from wagi.standins.model import PortraitsID, load
from wagi_rt import decoding, pictures
from wagi_rt.directions import SUFFIX, Direction, write

MAPPERS = "mappers"  # folder of an --out: bundles and tables read every file beside directions as one
COLUMNS = ("name", "similarity before", "after", "identity", "step")
_TRUNCATION = 0.7  # of sampled latents, as the public code trains on
_LONGEST = 64  # letters of a direction's name
_BATCH = 8


def find(
    args: argparse.Namespace, towers: Towers | None, generator: Generator, model: NaiveInverter | None,
    origin: str,
) -> list[dict]:  # fmt: skip
    """Rows of what was found; the steps are directions in args.out. Raises UserError.

    towers: None to apply the mapper args.mapper. model: with E0; None to train a mapper on sampled latents.
    """
    (model or generator).to(args.device)
    if towers is None:
        return mapped(args, model, origin)  # type: ignore[arg-type]
    loss = loss_of(args, towers)
    if args.method == "latent":
        return optimised(args, model, loss, origin)  # type: ignore[arg-type]
    return trained(args, generator, model, loss, origin)


def loss_of(args: argparse.Namespace, towers: Towers) -> TextLoss:
    """The loss of args.text, on the device that optimises. Raises UserError."""
    towers.network.to(args.device)
    portraits = towers.merges is None and not args.arcface
    identity: nn.Module | None = None
    if args.lambda_id:
        identity = (load(PortraitsID) if portraits else ArcFace(args.arcface)).to(args.device)
    with option("--text"):
        return TextLoss(towers, args.text, identity, args.lambda_id)


def name_of(text: str, picture: Path | None = None) -> str:
    """The name of a text's direction, of a picture's: letters, digits and hyphens."""
    words = [*([picture.stem] if picture else []), text]
    return re.sub(r"[^0-9a-z]+", "-", " ".join(words).lower()).strip("-")[:_LONGEST].strip("-") or "text"


@torch.no_grad()
def latents_of(model: NaiveInverter, files: list[Path]) -> Tensor:  # => N,n_latent,style_dim
    """E0's latents of pictures, read as the runtime reads them. Raises UserError."""
    size, found = model.generator.size, []
    with option("--image"):
        for file in files:
            picture = decoding.decode(file, size=size)
            image = to_float(pictures.fit_square(picture, size))[None]
            found.append(model.encode(image.to(model.generator.latent_avg)))
    return torch.cat(found)


def names_of(files: list[Path], text: str) -> list[str]:
    """The directions' names. UserError for two pictures that would share one."""
    names = [name_of(text, file) for file in files]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UserError(f"--image {files[number]}: another picture makes {name}, too; rename one", 2)
    return names


def optimised(args: argparse.Namespace, model: NaiveInverter, loss: TextLoss, origin: str) -> list[dict]:
    """Rows of the pictures args.image, whose steps towards args.text become directions in args.out."""
    names, rows = names_of(args.image, args.text), []
    note = f"StyleCLIP's latent optimisation with {loss.towers.name}, {args.steps} steps"
    codes = latents_of(model, args.image)
    for first in range(0, len(names), _BATCH):
        ws, part = codes[first : first + _BATCH], names[first : first + _BATCH]
        found = latent.optimise(model.generator, ws, loss, _settings(args))
        for name, step in zip(part, found - ws, strict=True):
            _write(args.out, name, step, args.text, origin, note)
        rows += _judged(model.generator, ws, found - ws, loss, part)
    write_json(args.out / f"latent-{name_of(args.text)}.json", _report(args, loss, rows))
    return rows


@torch.no_grad()
def mapped(args: argparse.Namespace, model: NaiveInverter, origin: str) -> list[dict]:
    """Rows of the pictures of args.image, whose steps by the mapper args.mapper become directions."""
    with option("--mapper"):
        mapper, text = mapping.load(args.mapper, model.generator)
    names = names_of(args.image, text)
    steps = mapper.to(model.generator.latent_avg)(latents_of(model, args.image))
    for name, step in zip(names, steps, strict=True):
        _write(args.out, name, step, text, origin, f"StyleCLIP's mapper {args.mapper.name}")
    return [{"name": name, "step": float(_size(step))} for name, step in zip(names, steps, strict=True)]


def trained(
    args: argparse.Namespace, generator: Generator, model: NaiveInverter | None, loss: TextLoss, origin: str
) -> list[dict]:
    """Rows of a mapper trained for args.text and of its mean step, measured on latents held out.

    The mapper is kept below args.out, its mean step over the latents held out is a direction there.
    model: with E0, for the latents of args.data; None: latents are sampled.
    """
    codes = _codes(args, generator, model)
    held = min(args.holdout, len(codes) // 3)
    if not held:
        where = f"--data {args.data}" if args.data else f"--samples {args.samples}"
        raise UserError(f"{where}: {len(codes)} latents are too few", 2)
    mapper, losses = mapping.train(generator, codes[held:], loss, _settings(args), args.batch, args.seed)
    name = name_of(args.text)
    note = f"StyleCLIP's mapper with {loss.towers.name}, {args.steps} steps"
    (args.out / MAPPERS).mkdir(parents=True, exist_ok=True)
    mapping.save(args.out / MAPPERS / (name + SUFFIX), mapper, args.text, origin, note)
    mean = mean_step(mapper, codes[:held])
    _write(args.out, name, mean, args.text, origin, f"mean of {held} steps; {note}")
    ws, rows = codes[: min(held, args.rendered)], []
    for row, steps in (("mapper", mapper(ws)), ("mean step", mean.expand_as(ws))):
        each = _judged(generator, ws, steps, loss, [name] * len(ws))
        means = {key: float(np.mean([one[key] for one in each])) for key in COLUMNS[1:] if key in each[0]}
        rows.append({"name": f"{name}, {row}", **means})
    write_json(args.out / f"mapper-{name}.json", {**_report(args, loss, rows), "losses": losses})
    return rows


@torch.no_grad()
def mean_step(mapper: Mapper, codes: Tensor) -> Tensor:  # N,n_latent,style_dim => n_latent,style_dim
    """The step that a mapper takes on average."""
    return mapper(codes).mean(dim=0)


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(*(getattr(args, name) for name in Settings._fields))


def _codes(args: argparse.Namespace, generator: Generator, model: NaiveInverter | None) -> Tensor:
    if model is None:
        w = samples(generator, args.samples, args.seed, _TRUNCATION)
        return generator.broadcast(torch.from_numpy(w).to(generator.latent_avg))
    with option("--data"):
        return torch.from_numpy(world.codes(model, args.data, args.keep)).to(generator.latent_avg)


@torch.no_grad()
def _judged(generator: Generator, ws: Tensor, steps: Tensor, loss: TextLoss, names: list[str]) -> list[dict]:
    """Cosine of image and text before and after a step, of the two identities, and the step's size."""
    rows: list[dict[str, Any]] = []
    for one, step, name in zip(ws.split(1), steps.split(1), names, strict=True):
        before, after = (generator(x).clamp(-1, 1) for x in (one, one + step))
        cosines = (float(loss.similarity(image)) for image in (before, after))
        row = {"name": name, **dict(zip(COLUMNS[1:3], cosines, strict=True))}
        row |= {} if loss.identity is None else {"identity": float(loss.identity(after, before))}
        rows.append(row | {"step": float(_size(step))})
    return rows


def _size(step: Tensor) -> Tensor:
    """Root mean square."""
    return step.square().mean().sqrt()


def _write(out: Path, name: str, step: Tensor, unit: str, origin: str, note: str) -> None:
    vector = step.detach().cpu().numpy().astype(np.float32)
    write(out / (name + SUFFIX), Direction(name, vector, unit, generator=origin, note=note))


def _report(args: argparse.Namespace, loss: TextLoss, rows: list[dict]) -> dict[str, Any]:
    facts = {"method": args.method, "text": args.text, "model": loss.towers.name}
    return {**facts, **_settings(args)._asdict(), "rows": rows}
