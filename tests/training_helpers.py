"""A tiny rendered world for the training tests, and the trainer's command line called in process."""

import json
from pathlib import Path

import numpy as np
import torch

from wagi import train
from wagi.networks.build import PARTS, build_part


def write_portraits(
    folder: Path, count: int = 20, size: int = 32, params: int = 5, done: int | None = None
) -> Path:
    """A folder as `python -m wagi.portraits --memmap` lays it out, of waves that depend on parameters."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    p = rng.standard_normal((count, params)).astype(np.float32)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(6 * x + a[0]) * 0.5 + 0.2 * a[1] * np.cos(9 * y + a[2]) for a in p]
    images = np.stack([np.stack([w, -w, w * w], axis=-1) for w in waves])
    np.save(folder / "images.npy", (images.clip(-1, 1) * 127.5 + 127.5).round().astype(np.uint8))
    np.save(folder / "parameters.npy", p)
    np.save(folder / "regions.npy", rng.integers(0, 9, (count, size, size)).astype(np.uint8))
    meta = {"size": size, "seed": 0, "count": count} | ({} if done is None else {"done": done})
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def run(stage: str, data: Path | str, out: Path, *options: str, preset: str = "smoke") -> int:
    """`python -m wagi.train` in this process, on one thread of the CPU; returns the exit status."""
    where = ["--data", str(data), "--out", str(out), "--device", "cpu", "--threads", "1"]
    return train.main([stage, "--preset", preset, *where, *options])


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of RUN/checkpoint.pt by its path: weights averaged and live, optimiser state."""
    content = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    found: dict[str, torch.Tensor] = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, torch.Tensor):
            found[path] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}/{key}")
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                walk(inner, f"{path}/{i}")

    walk({key: content[key] for key in ("weights", "training")}, "")
    return found


def assert_same_bits(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, f"{len(different)} of {len(first)} tensors differ, e.g. {different[:3]}"


def save_tiny_model(path: Path, seed: int = 0, **settings: object) -> Path:
    """An untrained inversion checkpoint of the smoke preset's shape that reads a portrait's parameters."""
    import dataclasses

    from wagi import checkpoint, config

    torch.manual_seed(seed)
    smoke, _ = config.settings("smoke", "inversion")
    model = dataclasses.replace(smoke, **{"param_dim": 133, **settings})
    parts = {part: checkpoint.state_of(build_part(model, part)) for part in PARTS}
    checkpoint.save(path, "inversion", model, parts)
    return path
