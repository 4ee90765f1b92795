"""Random models with nothing left at its neutral start, for the export's tests."""

import dataclasses
from typing import TypeVar

import onnx_ir as ir
import torch
from torch import nn

from export.bundle import trace_one_by_one
from export.graphs import build_graphs
from export.trace import DEFAULT_OPSET
from wagi.config import settings
from wagi.model import WaGI
from wagi.networks.build import PARTS, build_part

CONFIG, _ = settings("smoke", "inversion")
Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def randomised(module: Module) -> Module:
    """Heads, deltas, statistics, noise and mean latent away from zero and one."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "latent_avg", "noise.weight")):
            value.normal_(std=0.3)
        elif value.is_floating_point() and not value.any():
            value.normal_(std=0.1)
    return module


def trace_graphs(model: WaGI) -> dict[str, ir.Model]:
    """All graphs of a small model, for several exports of it."""
    return dict(trace_one_by_one(build_graphs(model, "fp32"), DEFAULT_OPSET, lambda text: None))


def small_model(aligner: str = "ada", **changes: object) -> WaGI:
    """The smoke preset at 32 px, or with other settings."""
    torch.manual_seed(5)
    config = dataclasses.replace(CONFIG, aligner=aligner, **changes)
    parts = {part: build_part(config, part) for part in PARTS}
    return randomised(WaGI(**parts, **config.ways).eval())
