"""From command line to running stage: device, data, parts of other checkpoints, weights to start from."""

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from wagi import checkpoint
from wagi.config import GeneratorConfig, ModelConfig, TrainConfig, to_dict
from wagi.data import Counterfactuals, Dataset, ImageFolder, open_dataset
from wagi.errors import UserError, option
from wagi.features import FeatureFiles
from wagi.files import write_json
from wagi.networks.swagan import Generator
from wagi.training import distributed, generator
from wagi.training.encoder import EncoderStage
from wagi.training.flow import FlowStage
from wagi.training.hypernetwork import HypernetworkStage
from wagi.training.inversion import InversionStage
from wagi.training.loop import Trainer
from wagi.training.parts import Sources, adopt, begin_encoder
from wagi.training.scenes import ScenePairs
from wagi.training.stage import Stage
from wagi.training.teacher import open_teacher
from wagi.training.validation import open_validation


@dataclass(frozen=True)
class RunOptions:
    """One run of a stage, apart from its settings: where data, weights and results lie, and what runs it."""

    stage: str
    preset: str
    data: str
    out: str
    edited: str | None = None
    init: str | None = None
    init_parts: str = ""
    generator: str | None = None
    encoder: str | None = None
    device: str = ""
    threads: int = 0
    workers: int = 0
    files: FeatureFiles = FeatureFiles()
    photos: str | None = None
    teacher: str | None = None
    validation: str | None = None
    chosen: frozenset[str] = frozenset()  # the settings that the user named, which no checkpoint replaces


def print_settings(options: RunOptions, model: ModelConfig, train: TrainConfig) -> None:
    """The settings as a table on stdout."""
    tables = {
        "model": to_dict(model),
        options.stage: to_dict(train),
        "run": {"steps": train.steps, "device": device(options.device)},
    }
    for title, values in tables.items():
        print(f"[{title}]")
        for name, value in values.items():
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            print(f"  {name:<20} {shown}")


def device(wanted: str) -> str:
    available = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = wanted or available
    if wanted not in ("cpu", "cuda"):
        raise UserError(f"--device {wanted}: choose cpu or cuda", 2)
    if wanted == "cuda" and available == "cpu":
        raise UserError("--device cuda: no CUDA device found; use --device cpu", 2)
    return wanted


def train(options: RunOptions, model: ModelConfig, config: TrainConfig) -> int:
    """Run a stage to its end; returns the exit status."""
    if options.threads:
        torch.set_num_threads(options.threads)
    rank, world, where = distributed.start(device(options.device))
    try:
        split(config, world)
        check_teacher(options, config)
        model, sources = adopt(options.stage, model, options.generator, options.encoder, options.chosen)
        data = open_data(options, model, config)
        validation = open_validation(options.validation, data, model.size, config)
        model = dataclasses.replace(
            model, param_dim=data.param_dim if wants_parameters(config) else model.param_dim
        )
        torch.manual_seed(config.seed)  # the start weights
        stage = make_stage(options, model, config, sources, data)
        run = make_folder(Path(options.out))
        if options.init and not (run / "checkpoint.pt").is_file():
            initialise(stage, options.init, options.init_parts)
        if rank == 0:
            shown = {"stage": options.stage, "preset": options.preset, "data": str(options.data)}
            write_json(run / "settings.json", {**shown, "model": to_dict(model), "train": to_dict(config)})
        return Trainer(stage, data, run, where, rank, world, options.workers, validation).train()
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


def check_teacher(options: RunOptions, config: TrainConfig) -> None:
    weight = getattr(config, "lambda_teacher", 0)
    if options.teacher and options.stage != "encoder":
        raise UserError(f"--teacher: only for stage encoder, not {options.stage}", 2)
    if options.teacher and weight <= 0:
        raise UserError(f"lambda_teacher={weight}: --teacher counts nothing; add --set lambda_teacher=1", 2)
    if weight and not options.teacher:
        raise UserError(f"lambda_teacher={weight}: needs the encoder to learn from; add --teacher CKPT", 2)


def wants_parameters(config: TrainConfig) -> bool:
    return getattr(config, "mode", "") == "distill"


def open_data(options: RunOptions, model: ModelConfig, config: TrainConfig) -> Dataset:
    path: str = options.data
    flow = model.aligner == "flow" and options.stage == "inversion"
    if flow and options.edited:
        raise UserError("--edited: not with aligner=flow, which reads scenes of edits (--data)", 2)
    scenes = flow or bool(getattr(config, "lambda_edit", 0))
    with option("--data"):
        data: Dataset = open_dataset(path, model.size)
        warped = flow and getattr(config, "synthetic", 0) == 1 and not getattr(data, "scenes", False)
        if scenes and not warped:
            data = ScenePairs(path, model.size)
    if options.edited:
        if options.stage != "inversion":
            raise UserError(f"--edited: only for stage inversion, not {options.stage}", 2)
        with option("--edited"):
            data = Counterfactuals(data, options.edited)
    if len(data) <= config.holdout:
        raise UserError(
            f"--data {path}: {len(data)} images, holdout={config.holdout} of them are kept for evaluation; "
            "give more images or --set holdout=0"
        )
    if (data.param_dim or isinstance(data, ScenePairs)) and config.flip:
        kept = "parameters" if data.param_dim else "kept naive images"
        raise UserError(f"flip=true: mirrored portraits would not fit their {kept}; add --set flip=false", 2)
    return data


def open_photographs(path: str, size: int) -> torch.Tensor:  # => M,3,size,size
    """All images of a folder, in memory."""
    with option("--photos"):
        photographs = ImageFolder(path, size)
    return torch.stack([photographs.get(index, False)["image"] for index in range(len(photographs))])


def make_folder(run: Path) -> Path:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {run}: cannot make this folder ({error.strerror})") from None
    if not os.access(run, os.W_OK):
        raise UserError(f"--out {run}: not writable")
    return run


# --------------------------------------------------------------------------------------------- the stage


def make_stage(
    options: RunOptions, model: ModelConfig, config: TrainConfig, sources: Sources, data: Dataset
) -> Stage:
    if options.stage == "generator":
        return generator.make_stage(model, config)  # type: ignore[arg-type]
    parts = {
        part: checkpoint.build_loaded(content, part, path)
        for part, (content, path) in sources.items()
        if not options.stage == part == "encoder"
    }
    if options.stage == "encoder":
        if "encoder" in sources:
            parts["encoder"] = begin_encoder(model, *sources["encoder"])
        frozen: Generator = parts["generator"]  # type: ignore[assignment]
        teacher = open_teacher(options.teacher, model, frozen) if options.teacher else None
        return EncoderStage(model, config, parts, options.files, teacher)  # type: ignore[arg-type]
    if options.stage == "hypernetwork":
        return HypernetworkStage(model, config, parts, options.files)  # type: ignore[arg-type]
    if model.aligner == "flow":
        photos = open_photographs(options.photos, 2 * model.size) if options.photos else None
        pairs = data if isinstance(data, ScenePairs) else None
        return FlowStage(model, config, parts, options.files, pairs, photos)  # type: ignore[arg-type]
    return InversionStage(model, config, parts, options.files)  # type: ignore[arg-type]


def initialise(stage: Stage, path: str, parts: str = "") -> None:
    """Copy what fits by name and shape into the stage's models, or into those that `parts` names."""
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
        if name == "fusion":
            _same_gates(stage.model_config, checkpoint.model_config(content, path), path)
        fresh = checkpoint.grow(module, weights)
        if len(fresh) == len(checkpoint.state_of(module)):
            raise UserError(f"--init {path}: no tensor of the {name} fits these settings")
        if isinstance(module, Generator):
            module.silence(fresh)
        trained = [key for key in fresh if key in dict(module.named_parameters())]
        print(
            f"--init {path}: {name}: {len(trained)} new tensors: {', '.join(trained) or 'none'}",
            file=sys.stderr,
        )


def _same_gates(ours: ModelConfig, theirs: ModelConfig, path: str) -> None:
    """UserError for heads whose numbers mean something else here."""
    for name in ("gate", "post_skip"):
        if getattr(ours, name) != (value := getattr(theirs, name)):
            raise UserError(
                f"--init {path}: its fusion was trained with {name}={value}; "
                f"add --set {name}={str(value).lower()}, or leave it out with --init-parts aligner", 2,
            )  # fmt: skip
