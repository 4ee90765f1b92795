"""PyTorch as an engine: the graphs of a bundle before they are exported, run by PyTorch itself.

It tells what the export formulation changes from what an engine changes.
"""

import torch

from export.graphs import build_graphs
from wagi.model import WaGI
from wagi_rt.chain import Tensors
from wagi_rt.engines.base import GraphEngine
from wagi_rt.manifest import Manifest


class TorchEngine(GraphEngine):
    """The modules of a bundle's graphs on the CPU, in the bundle's arithmetic, with unrounded weights."""

    @staticmethod
    def available() -> tuple[bool, str]:
        return True, f"PyTorch {torch.__version__}"

    @staticmethod
    def devices() -> list[str]:
        return ["cpu"]

    def __init__(self, manifest: Manifest, model: WaGI) -> None:
        """model: the one that the bundle was exported from, in FP32 on the CPU."""
        super().__init__(manifest)
        self._graphs = build_graphs(model, "fp16" if manifest.precision == "fp16" else "fp32")

    @property
    def version(self) -> str:
        return torch.__version__

    def _run(self, graph: str, inputs: Tensors, keep: frozenset[str]) -> Tensors:
        found = self._graphs[graph].run({name: torch.from_numpy(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    def _close(self) -> None:
        self._graphs.clear()
