"""Pictures that the generator draws from parameters alone: samples of new scenes, and the same scenes turned.

python -m wagi.evaluate samples --model CHECKPOINT --out OUT --seed 9401

G(map(parameters)) of a distilled generator, compared with the renderings of the same parameters; for the
sweep, with the true renderings of the turned scenes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wagi import checkpoint
from wagi.data import open_dataset, to_float, to_uint8
from wagi.errors import UserError
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.tables import write_report
from wagi.files import contact_sheet
from wagi.loader import batch_of
from wagi.metrics import l2, l_wave
from wagi.networks.swagan import Generator
from wagi.portraits import dataset, edit, render, vector
from wagi.training.generator import scene_latent

COLUMNS = ("scenes", "l2", "l_wave", "l2 not turned", "l_wave not turned")
YAWS = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate samples",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--model", required=True, type=Path, metavar="CKPT", help="checkpoint of any stage with a generator"
    )
    p.add_argument(
        "--out", required=True, type=Path, metavar="OUT", help="folder of the sheets and the table"
    )
    p.add_argument("--count", type=int, default=24, metavar="N", help="samples (default 24)")
    p.add_argument("--turned", type=int, default=4, metavar="N", help="rows with yaw swept (default 4)")
    p.add_argument("--seed", type=int, default=9401, metavar="K", help="of the scenes (default 9401)")
    return p


def draw(generator: Generator, vectors: np.ndarray, seed: int) -> Tensor:  # N,P => N,3,S,S
    """G(map(parameters)), the free dimensions of z one noise vector for all: only the parameters differ."""
    noise = torch.Generator().manual_seed(seed)
    z = scene_latent(torch.from_numpy(vectors[:1]), generator.style_dim, noise).repeat(len(vectors), 1)
    z[:, : vectors.shape[1]] = torch.from_numpy(vectors)
    with torch.no_grad():
        return torch.cat([generator(generator.broadcast(generator.map(part))) for part in z.split(16)])


def errors(name: str, images: Tensor, target: Tensor) -> dict[str, float]:
    """L2 and L_wave of clamped images."""
    images = images.clamp(-1, 1)
    return {
        f"l2{name}": float(l2(images, target).mean()),
        f"l_wave{name}": float(l_wave(images, target).mean()),
    }


def sweep(generator: Generator, seed: int, count: int) -> tuple[list[dict], dict[str, Tensor]]:
    """Rows per yaw, and columns per yaw of the renderings with the samples below each."""
    scenes = [dataset.portrait(seed, index) for index in range(count)]
    ahead = draw(generator, np.stack([vector(edit(one, yaw=0.0)) for one in scenes]), seed)
    rows, columns = [], {}
    for yaw in YAWS:
        turned = [edit(one, yaw=yaw) for one in scenes]
        target = torch.stack([to_float(render(one, generator.size)) for one in turned])
        images = draw(generator, np.stack([vector(one) for one in turned]), seed)
        row = {"scenes": f"yaw {yaw:+.1f}", **errors("", images, target)}
        rows.append(row | errors(" not turned", ahead, target))
        columns[f"yaw {yaw:+.1f}"] = torch.stack([target, images], dim=1).flatten(0, 1)
    return rows, columns


def run(args: argparse.Namespace) -> None:
    content = checkpoint.read(args.model)
    config = checkpoint.model_config(content, args.model)
    if not config.param_dim:
        raise UserError(f"--model {args.model}: its generator does not read a scene's parameters", 2)
    generator: Generator = checkpoint.build_loaded(content, "generator", args.model)  # type: ignore[assignment]
    data = open_dataset(f"portraits:{args.seed}:{args.count}", config.size)
    batch = batch_of(data, range(args.count))
    images = draw(generator, batch["params"].numpy(), args.seed)
    write_picture(args.out / "samples.png", contact_sheet(list(to_uint8(images)), columns=8))
    rows, columns = sweep(generator, args.seed, args.turned)
    write_picture(args.out / "samples-yaw.png", comparison(columns))
    rows.insert(0, {"scenes": f"{args.count} new", **errors("", images, batch["image"])})
    meta = {
        "title": "Samples of the generator",
        "model": args.model.name,
        "scenes": f"seed {args.seed}; {args.turned} of them turned",
        "notes": [
            "Against the renderings of the same parameters. Not turned: the samples of yaw 0 against the "
            "turned renderings, what a generator that ignores yaw would have.",
        ],
    }
    print(write_report(args.out, "samples", rows, COLUMNS, meta))
