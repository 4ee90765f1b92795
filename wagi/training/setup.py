"""From command line to running stage: device, data, parts of other checkpoints, weights to start from."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wagi import checkpoint
from wagi.config import GeneratorConfig, ModelConfig, TrainConfig, to_dict
from wagi.data import Counterfactuals, Dataset, open_dataset
from wagi.errors import UserError
from wagi.files import write_json
from wagi.networks.build import PART_SETTINGS
from wagi.training import distributed

if TYPE_CHECKING:
    from wagi.training.loop import Stage


def print_settings(args: argparse.Namespace, model: ModelConfig, train: TrainConfig) -> None:
    """The settings as a table on stdout."""
    steps = max(1, round(train.kimg * 1000 / train.batch))
    tables = {
        "model": to_dict(model),
        args.stage: to_dict(train),
        "run": {"steps": steps, "device": device(args)},
    }
    for title, values in tables.items():
        print(f"[{title}]")
        for name, value in values.items():
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            print(f"  {name:<20} {shown}")


def device(args: argparse.Namespace) -> str:
    available = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = args.device or available
    if wanted not in ("cpu", "cuda"):
        raise UserError(f"--device {wanted}: choose cpu or cuda", 2)
    if wanted == "cuda" and available == "cpu":
        raise UserError("--device cuda: no CUDA device found; use --device cpu", 2)
    return wanted


def train(args: argparse.Namespace, model: ModelConfig, config: TrainConfig) -> int:
    """Run a stage to its end; returns the exit status."""
    if args.threads:
        torch.set_num_threads(args.threads)
    rank, world, where = distributed.start(device(args))
    try:
        split(config, world)
        model, sources = adopt(args, model)
        data = open_data(args, model.size, config)
        model = dataclasses.replace(
            model, param_dim=data.param_dim if wants_parameters(config) else model.param_dim
        )
        torch.manual_seed(config.seed)  # the start weights
        stage = make_stage(args, model, config, sources)
        run = make_folder(Path(args.out))
        if args.init and not (run / "checkpoint.pt").is_file():
            initialise(stage, args.init, args.init_parts)
        if rank == 0:
            shown = {"stage": args.stage, "preset": args.preset, "data": str(args.data)}
            write_json(run / "settings.json", {**shown, "model": to_dict(model), "train": to_dict(config)})
        from wagi.training.loop import Trainer

        return Trainer(stage, data, run, where, rank, world, args.workers).train()
    finally:
        distributed.stop(world)


def split(config: TrainConfig, world: int) -> None:
    parts = world * config.accumulate
    if config.batch % parts:
        raise UserError(
            f"batch={config.batch}: must be a multiple of {parts} (processes x accumulate)",
            2,
        )
    micro = config.batch // parts
    adversarial = isinstance(config, GeneratorConfig) and (config.mode == "gan" or config.lambda_adv)
    if adversarial and micro > 4 and micro % 4:
        raise UserError(
            f"batch={config.batch}: the discriminator needs micro-batches of 4k images, not {micro}", 2
        )
    if wants_parameters(config) and micro < 2:
        raise UserError(f"batch={config.batch}: mode=distill needs micro-batches of at least 2 images", 2)


def wants_parameters(config: TrainConfig) -> bool:
    return getattr(config, "mode", "") == "distill"


def open_data(args: argparse.Namespace, size: int, config: TrainConfig) -> Dataset:
    path, data = args.data, open_dataset(args.data, size)
    if args.edited:
        if args.stage != "inversion":
            raise UserError(f"--edited: only for stage inversion, not {args.stage}", 2)
        data = Counterfactuals(data, args.edited)
    if len(data) <= config.holdout:
        raise UserError(
            f"--data {path}: {len(data)} images, holdout={config.holdout} of them are kept for evaluation; "
            "give more images or --set holdout=0"
        )
    if data.param_dim and config.flip:
        raise UserError(
            "flip=true: mirrored portraits would not fit their parameters; add --set flip=false", 2
        )
    return data


def make_folder(run: Path) -> Path:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {run}: cannot make this folder ({error.strerror})") from None
    if not os.access(run, os.W_OK):
        raise UserError(f"--out {run}: not writable")
    return run


# ------------------------------------------------------------------------------ parts of other checkpoints

Sources = dict[str, tuple[dict, str]]


def adopt(args: argparse.Namespace, model: ModelConfig) -> tuple[ModelConfig, Sources]:
    """Open --generator and --encoder; their settings replace the preset's, except for the image size.

    Returns the settings and, by part, (checkpoint, path) of the frozen parts.
    """
    if args.stage == "generator":
        if args.generator or args.encoder:
            raise UserError(
                "--generator, --encoder: not for stage generator; --init starts from a checkpoint", 2
            )
        return model, {}
    opened = {path: checkpoint.read(path) for path in {args.generator, args.encoder} if path}
    sources: Sources = {}
    for part, path in (
        ("generator", args.generator or args.encoder),
        ("encoder", args.encoder or args.generator),
    ):
        if path and part in opened[path]["weights"]:
            sources[part] = (opened[path], path)
    if "generator" not in sources:
        given = args.generator or args.encoder
        raise UserError(f"--generator {given}: has no generator" if given else "--generator: is needed", 2)
    if args.stage == "inversion" and "encoder" not in sources:
        raise UserError(
            f"--encoder: {args.encoder or args.generator} has no encoder; give a checkpoint of stage encoder",
            2,
        )
    for part, (content, path) in sources.items():
        model = _adopt_part(model, part, checkpoint.model_config(content, path), path)
    if "encoder" in sources and "generator" in sources:
        content, path = sources["encoder"]
        there = checkpoint.model_config(content, path)
        if (there.n_latent, there.style_dim) != (model.n_latent, model.style_dim):
            raise UserError(f"--encoder {path}: made for another generator (latents differ)", 2)
    return model, sources


def _adopt_part(model: ModelConfig, part: str, there: ModelConfig, path: str) -> ModelConfig:
    if there.size != model.size:
        raise UserError(
            f"{path}: made for {there.size} px images, the settings say size={model.size}; "
            "choose the preset of that size", 2,
        )  # fmt: skip
    changes = {
        name: getattr(there, name)
        for name in PART_SETTINGS[part]
        if getattr(there, name) != getattr(model, name)
    }
    for name, value in changes.items():
        if name != "param_dim":
            print(
                f"note: {name}={value} from {path} (the settings said {getattr(model, name)})",
                file=sys.stderr,
            )
    return dataclasses.replace(model, **changes)


def make_stage(
    args: argparse.Namespace, model: ModelConfig, config: TrainConfig, sources: Sources
) -> "Stage":
    if args.stage == "generator":
        from wagi.training.generator import make_stage as make_generator

        return make_generator(model, config)  # type: ignore[arg-type]
    parts = {part: checkpoint.build_loaded(content, part, path) for part, (content, path) in sources.items()}
    if args.stage == "encoder":
        from wagi.training.encoder import EncoderStage

        return EncoderStage(model, config, parts, args)  # type: ignore[arg-type]
    from wagi.training.inversion import InversionStage

    return InversionStage(model, config, parts, args)  # type: ignore[arg-type]


def initialise(stage: "Stage", path: str, parts: str = "") -> None:
    """Copy what fits by name and shape. New tWavelets layers start at zero, so that a grown generator starts
    with the enlarged picture of the smaller one."""
    content = checkpoint.read(path)
    chosen = parts.split(",") if parts else list(stage.models)
    if unknown := set(chosen) - stage.models.keys():
        raise UserError(f"--init-parts {parts}: {unknown.pop()} is not one of {', '.join(stage.models)}", 2)
    for name, module in stage.models.items():
        if name not in chosen:
            continue
        weights = content["weights"].get(name) or content["training"].get("models", {}).get(name)
        if weights is None:
            print(f"--init {path}: has no {name}; it starts fresh", file=sys.stderr)
            continue
        fresh = checkpoint.grow(module, weights)
        if len(fresh) == len(checkpoint.state_of(module)):
            raise UserError(f"--init {path}: no tensor of the {name} fits these settings")
        with torch.no_grad():
            for key, value in module.named_parameters():
                if key in fresh and key.startswith("to_rgbs.") and key.endswith(("conv.weight", ".bias")):
                    if "modulation" not in key:
                        value.zero_()
        trained = [key for key in fresh if key in dict(module.named_parameters())]
        print(
            f"--init {path}: {name}: {len(trained)} new tensors: {', '.join(trained) or 'none'}",
            file=sys.stderr,
        )
