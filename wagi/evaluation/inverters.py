"""Inverters of pictures: a checkpoint in PyTorch, or a bundle in the runtime, started as a user would.

Both take and give 8-bit pictures [S, S, 3], so that they are measured alike.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from wagi.errors import UserError

BUNDLE_CHUNK = 128  # pictures per start of the runtime


# A checkpoint's content and its path -> a model with `.generator` and `.results(images)`.
Build = Callable[[dict, Path], Any]


class Inverted(NamedTuple):
    """The naive and the final inversion of one picture; [S, S, 3] uint8."""

    naive: np.ndarray
    final: np.ndarray


class Inverter(Protocol):
    """Inverts up to `chunk` pictures per call."""

    size: int
    chunk: int
    facts: dict[str, Any]  # for the report: kind, path, sha256, ...

    def invert(self, pictures: Sequence[np.ndarray]) -> Iterator[Inverted | str]:
        """One result per picture, in order; a text says why there is none."""
        ...


def open_inverter(path: Path, batch: int, device: str = "cpu", runtime: str = "") -> Inverter:
    """A checkpoint file, or a folder with manifest.json.

    device: where a checkpoint runs. runtime: options of `wagi-rt invert` for a bundle, as one text. Raises
    UserError.
    """
    if path.is_dir():
        if not (path / "manifest.json").is_file():
            raise UserError(
                f"--model {path}: no manifest.json in this folder; name a bundle or a checkpoint", 2
            )
        return BundleInverter(path, batch, shlex.split(runtime))
    if runtime:
        raise UserError("--runtime: is for bundles; a checkpoint runs in PyTorch", 2)
    return CheckpointInverter(path, batch, device)


class CheckpointInverter:
    """The checkpoint's model, with its averaged weights; `build` makes another one of the same content."""

    def __init__(self, path: Path, batch: int, device: str, build: Build | None = None) -> None:
        import torch

        from wagi import checkpoint
        from wagi_rt.files import file_sha256

        content = checkpoint.read(path)
        self.device = torch.device(device)
        self.model = (build or checkpoint.build_inverter)(content, path).to(self.device)
        self.size, self.chunk = self.model.generator.size, batch
        self.facts = {
            "kind": "checkpoint",
            "path": str(path),
            "size": self.size,
            "sha256": file_sha256(path),
            "runs": f"PyTorch {torch.__version__} on {self.device}",
            "config": content["config"]["model"],
        }

    def invert(self, pictures: Sequence[np.ndarray]) -> Iterator[Inverted | str]:
        import torch

        from wagi.data import to_float, to_uint8

        images = torch.stack([to_float(one) for one in pictures]).to(self.device)
        with torch.inference_mode():
            results = self.model.results(images)
        for pair in zip(*results, strict=True):
            if all(image.isfinite().all() for image in pair):
                yield Inverted(*(to_uint8(image) for image in pair))
            else:
                yield "the model gave values that are not numbers"


def run_runtime(model: Path, *arguments: str) -> str:
    """stdout of a wagi-rt command with a bundle; UserError in its words, unless it did its work or some."""
    command = [sys.executable, "-m", "wagi_rt", *arguments, "-m", str(model)]
    done = subprocess.run(command, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode and (done.returncode != 1 or not done.stdout):
        reason = errors[-1].removeprefix("error: ") if errors else f"exit status {done.returncode}"
        raise UserError(f"--model {model}: wagi-rt {arguments[0]} failed: {reason}")
    return done.stdout


class BundleInverter:
    """`wagi-rt invert` in a process of its own, on PNG files."""

    def __init__(self, path: Path, batch: int, options: Sequence[str] = ()) -> None:
        self.path, self.batch, self.options = path, batch, options
        self.chunk = max(batch, BUNDLE_CHUNK)
        found = json.loads(run_runtime(path, "info", "--json"))
        self.size = int(found["size"])
        self.facts = {
            "kind": "bundle",
            "path": str(path),
            "size": self.size,
            "sha256": found["sha256"],  # of the manifest, which holds those of all files
            "runs": " ".join(["wagi-rt", str(found["wagi"]), *options]),
            "precision": found["precision"],
            "name": found["name"],
        }

    def invert(self, pictures: Sequence[np.ndarray]) -> Iterator[Inverted | str]:
        from PIL import Image

        with tempfile.TemporaryDirectory(prefix="wagi-evaluate-") as name:
            inputs, naive, final = (Path(name) / part for part in ("input", "naive", "final"))
            inputs.mkdir()
            files = [f"{index:06d}.png" for index in range(len(pictures))]
            for file, pixels in zip(files, pictures, strict=True):
                Image.fromarray(pixels).save(inputs / file, compress_level=1)
            out = run_runtime(
                self.path, "invert", str(inputs), "-o", str(final), "--naive", str(naive),
                "--batch", str(self.batch), "--format", "png", "--json", "-q", *self.options,
            )  # fmt: skip
            records = {Path(record["input"]).name: record for record in map(json.loads, out.splitlines())}
            for file in files:
                if "error" in records[file]:
                    yield str(records[file]["error"]).removeprefix(f"{inputs / file}: ")
                else:
                    yield Inverted(_read(naive / file), _read(final / file))


def _read(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
