"""The largest value inside each graph, measured on images: what half precision has to hold."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from export.graphs import Graph

# Half precision ends at 65504. A quarter of it is left for images that nobody has measured.
MOST_FOR_HALF = 65504 / 4


class _Largest(TorchFunctionMode):
    """Records the largest absolute value of any feature map that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim == 4 and result.is_floating_point():
            # Written so that NaN stays.
            largest = float(result.abs().max())
            self.value = largest if not largest <= self.value else self.value
        return result


@torch.no_grad()
def largest_activations(graphs: dict[str, Graph], inputs: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """Graph -> largest absolute value, for inputs by graph and name.

    The modules run in FP32 with the scales of their own precision, so that an overflow shows as its size.
    """
    found = {}
    for graph in graphs.values():
        module = copy.deepcopy(graph.module).float()
        with _Largest() as largest:
            module(*(inputs[graph.name][key] for key in graph.inputs))
        found[graph.name] = largest.value
    return found
