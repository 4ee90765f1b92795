"""A bundle as models of a Triton repository: the parts, how each is configured, and how they are joined.

A part is a step of a chain (wagi_rt.chain), so the ensemble's map of tensors is the steps' own. A config is
Triton's ModelConfig as a dict; `text` writes it in the format of config.pbtxt.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wagi_rt.chain import Shapes, Step, opening
from wagi_rt.manifest import Manifest

Config = dict[str, Any]

# Triton's names of the backends that run a bundle's graphs, and what they call a model's file.
GRAPH_FILES = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}
PLATFORMS = ("python", *GRAPH_FILES)

PHOTO = Step("photo", ("PHOTO",), ("image",))
MODEL = Step("model", ("image", "STRENGTHS", "TEXT", "NEUTRAL", "TEXT_STRENGTH"), ("result",))
SHIFT = Step("shift", ("ws", "STRENGTHS"), ("edit_ws",))
PICTURE = Step("picture", ("result", "FORMAT"), ("PICTURE",))
PYTHON = {step.name for step in (PHOTO, MODEL, SHIFT, PICTURE)}
_STRINGS = ("PHOTO", "FORMAT", "PICTURE", "TEXT", "NEUTRAL")
_OF_TEXT = ("TEXT", "NEUTRAL", "TEXT_STRENGTH")
_OPTIONAL = ("STRENGTHS", *_OF_TEXT, "FORMAT")
_LONGEST_QUEUE = 64  # batches that may wait; a request beyond is told at once (UNAVAILABLE, HTTP 503)


class Word(str):
    """A value that stands without quotes: one of an enumeration."""


@dataclass(frozen=True)
class Options:
    """Settings of a repository. max_batch: of every part; delay_us: a batch waits so long for company."""

    name: str = "wagi"
    platform: str = "python"
    max_batch: int = 8
    delay_us: int = 1000
    instances: int = 1  # of what computes, on each device
    workers: int = 1  # processes that read photos, and as many that write pictures
    device: str = "cpu"
    backend: str = "onnx"  # wagi_rt's, of the platform python
    threads: int | None = None

    @property
    def kind(self) -> Word:
        return Word("KIND_CPU" if self.device == "cpu" else "KIND_GPU")

    def model(self, step: Step) -> str:
        """The name of a part in the repository."""
        return f"{self.name}_{step.name}"


def steps(manifest: Manifest, platform: str) -> tuple[Step, ...]:
    """The parts from a file to a file, in running order."""
    edits = bool(manifest.directions)
    if platform == "python":
        has = {"STRENGTHS": edits, **dict.fromkeys(_OF_TEXT, manifest.text is not None)}
        inputs = tuple(name for name in MODEL.inputs if has.get(name, True))
        middle: tuple[Step, ...] = (MODEL._replace(inputs=inputs),)
    elif edits:
        middle = (*opening(*manifest.kind).steps, SHIFT, *manifest.edit_chain.steps)
    else:
        middle = manifest.chain.steps
    return (PHOTO, *middle, PICTURE)


def names(manifest: Manifest) -> list[str]:
    """The directions in the order of STRENGTHS."""
    return sorted(manifest.directions)


def configs(manifest: Manifest, options: Options) -> dict[str, Config]:
    """Every model of the repository by its name; the ensemble, which needs the others, comes last."""
    parts = steps(manifest, options.platform)
    found = {options.model(step): part(manifest, step, options) for step in parts}
    return found | {options.name: ensemble(manifest, parts, options)}


def part(manifest: Manifest, step: Step, options: Options) -> Config:
    """One part that Triton runs."""
    inputs, outputs = tensors(manifest, step)
    computes = step.name not in ("photo", "shift", "picture")
    backend = "python" if step.name in PYTHON else options.platform
    count = options.instances if computes else options.workers
    config: Config = {
        "name": options.model(step),
        "backend": backend,
        "max_batch_size": options.max_batch,
        "input": described(inputs),
        "output": described(outputs),
        "instance_group": [{"count": count, "kind": options.kind if computes else Word("KIND_CPU")}],
        "parameters": entries({k: {"string_value": v} for k, v in settings(manifest, step, options).items()}),
    }
    if backend in GRAPH_FILES:
        config["default_model_filename"] = GRAPH_FILES[backend]
    if computes:
        queue = {"max_queue_size": _LONGEST_QUEUE * options.max_batch}
        config["dynamic_batching"] = {
            "max_queue_delay_microseconds": options.delay_us,
            "default_queue_policy": queue,
        }
        config["model_warmup"] = warm_up(inputs, options.max_batch)
    return config


def settings(manifest: Manifest, step: Step, options: Options) -> dict[str, str]:
    """The parameters of a part; triton_model.py reads those of a Python one."""
    threads = str(options.threads or "")
    if step.name not in PYTHON:
        counts = options.platform == "onnxruntime" and options.threads
        return {"intra_op_thread_count": threads} if counts else {}
    found = {"part": step.name}
    if "STRENGTHS" in step.inputs:
        found |= {"directions": ",".join(names(manifest)), "n_latent": str(manifest.n_latent)}
    if step.name == MODEL.name:
        found |= {"backend": options.backend, "device": options.device, "threads": threads}
    return found


def ensemble(manifest: Manifest, parts: tuple[Step, ...], options: Options) -> Config:
    """The model that users call: a photo's file in, a picture's file out."""
    inputs = ["PHOTO", *(name for name in _OPTIONAL if any(name in step.inputs for step in parts))]
    shapes = tensors(manifest, Step("", tuple(inputs), ("PICTURE",)))
    chained = [
        {
            "model_name": options.model(step),
            "model_version": -1,
            "input_map": entries(step.reads),
            "output_map": entries(step.makes),
        }
        for step in parts
    ]
    known = {"directions": {"string_value": ",".join(names(manifest))}}
    return {
        "name": options.name,
        "platform": "ensemble",
        "max_batch_size": options.max_batch,
        "input": described(shapes[0]),
        "output": described(shapes[1]),
        "parameters": entries(known),
        "ensemble_scheduling": {"step": chained},
    }


def tensors(manifest: Manifest, step: Step) -> tuple[Shapes, Shapes]:
    """(inputs, outputs) under the step's own names, shapes without the batch."""
    if step.name and step.name not in PYTHON:
        return manifest.tensors(step)
    own = {**dict.fromkeys((*_STRINGS, "TEXT_STRENGTH"), (1,)), "STRENGTHS": (len(manifest.directions),)}
    return step.shapes({**manifest.shapes, **own})


def described(shapes: Shapes) -> list[Config]:
    """Tensors as a config has them."""
    return [
        {
            "name": name,
            "data_type": Word("TYPE_STRING" if name in _STRINGS else "TYPE_FP32"),
            "dims": list(shape),
            **({"optional": True} if name in _OPTIONAL else {}),
        }
        for name, shape in shapes.items()
    ]


def warm_up(inputs: Shapes, max_batch: int) -> list[Config]:
    """Requests that Triton runs before a model is ready, so that no user waits for a first run.

    Without texts: of what they need the part itself takes care.
    """
    zeros = {
        name: {"data_type": Word("TYPE_FP32"), "dims": list(shape), "zero_data": True}
        for name, shape in inputs.items()
        if name not in _OF_TEXT
    }
    samples = [(f"batch {size}", size, zeros) for size in sorted({1, max_batch})]
    if "STRENGTHS" in zeros:  # zeros are inversions, which need other graphs than edits
        ones = {key: value for key, value in zeros["STRENGTHS"].items() if key != "zero_data"}
        edited = zeros | {"STRENGTHS": {**ones, "input_data_file": "ones"}}
        samples += [(f"edits, batch {size}", size, edited) for size in sorted({1, max_batch})]
    return [{"name": name, "batch_size": size, "inputs": entries(sent)} for name, size, sent in samples]


def entries(mapping: Mapping[str, Any]) -> list[Config]:
    """A map as its entries."""
    return [{"key": key, "value": value} for key, value in mapping.items()]


def text(message: Mapping[str, Any], indent: str = "") -> str:
    """A message of protobuf as text."""
    lines = []
    for key, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping):
                lines.append(f"{indent}{key} {{\n{text(one, indent + '  ')}{indent}}}\n")
            else:
                shown = one if isinstance(one, Word) else json.dumps(one)
                lines.append(f"{indent}{key}: {shown}\n")
    return "".join(lines)
