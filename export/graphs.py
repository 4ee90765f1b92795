"""The five graphs of a bundle: modules with fixed signatures around a WaGI model, which is never edited.

`wagi_rt.manifest.GRAPHS` names their inputs and outputs; the arithmetic between them (area resize, residual)
is that of `wagi_rt.session`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wagi.model import WaGI
from wagi.swagan import State
from wagi_rt.manifest import GRAPHS

# 1 would be taken for a constant while tracing.
_EXAMPLE_BATCH = 2


class _Graph(nn.Module):
    def __init__(self, model: WaGI) -> None:
        super().__init__()
        self.model = model


class Encoder(_Graph):
    def forward(self, image_r: Tensor) -> Tensor:
        return self.model.encode(image_r)


class Prefix(_Graph):
    def forward(self, ws: Tensor) -> tuple[Tensor, Tensor]:
        state = self.model.generator.prefix(ws, self.model.fusion_start)
        return state.x, state.skip


class Naive(_Graph):
    def forward(self, ws: Tensor, feature: Tensor, skip: Tensor) -> Tensor:
        return self.model.generator.suffix(ws, State(feature, skip), self.model.fusion_start)


class Align(_Graph):
    def forward(self, residual: Tensor, naive_r: Tensor) -> Tensor:
        return self.model.aligner(residual, naive_r)


class Decode(_Graph):
    def forward(self, ws: Tensor, feature: Tensor, skip: Tensor, aligned: Tensor) -> Tensor:
        return self.model.decode(ws, State(feature, skip), aligned)


_MODULES: dict[str, type[_Graph]] = {
    "encoder": Encoder,
    "prefix": Prefix,
    "naive": Naive,
    "align": Align,
    "decode": Decode,
}


@dataclass(frozen=True)
class Graph:
    """One module, example inputs by name, and its outputs' names and shapes (batch included)."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, tuple[int, ...]]

    @torch.no_grad()
    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The PyTorch result, tensors by name."""
        return dict(zip(self.outputs, as_tuple(self.module(*inputs.values())), strict=True))


def as_tuple(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


@torch.no_grad()
def build_graphs(model: WaGI) -> list[Graph]:
    """The graphs in the order in which the runtime runs them. `model` must be in eval mode."""
    size, generator = model.resolution, model.generator
    # Separate tensors: the tracer takes one tensor given twice for one input.
    pictures = ("image_r", "naive_r", "residual", "aligned")
    known = {key: torch.zeros(_EXAMPLE_BATCH, 3, size, size) for key in pictures}
    known["ws"] = torch.zeros(_EXAMPLE_BATCH, generator.n_latent, generator.style_dim)
    graphs = []
    for name, (inputs, outputs) in GRAPHS.items():
        module = _MODULES[name](model).eval()
        examples = {key: known[key] for key in inputs}
        found = dict(zip(outputs, as_tuple(module(*examples.values())), strict=True))
        graphs.append(
            Graph(name, module, examples, {key: tuple(value.shape) for key, value in found.items()})
        )
        if name == "prefix":
            known |= found
    return graphs
