"""The graphs of a bundle in the export formulation: modules around a WaGI model, which is never edited.

    graphs = build_graphs(model, precision="fp16")   # encoder, prefix, ..., decode, pipeline, edit
    ws, naive_r, result = graphs["pipeline"].module.cuda()(images.cuda())

`wagi_rt.chain` names their inputs and outputs and says what lies between them. Inputs and outputs are FP32 in
both precisions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from export.folding import cast, folded
from export.synthesis import Style, Synthesis, bands
from wagi.errors import UserError
from wagi.model import WaGI, fade
from wagi.networks.flow_alignment import FlowAligner
from wagi.networks.full_detail import keep_detail, move_detail, shares
from wagi.networks.fusion import Gates
from wagi.networks.layers import channels
from wagi.networks.swagan import NO_GATES
from wagi_rt import chain
from wagi_rt.chain import EDIT, FUSED, PIPELINE, fused

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_SINGLE = torch.float32
# 1 would be taken for a constant while tracing.
_EXAMPLE_BATCH = 2


def _dtype(network: nn.Module) -> torch.dtype:
    """Of the convolutions; every network begins with one."""
    return next(network.parameters()).dtype


class Encoder(nn.Module):
    """image_r [N, 3, R, R] -> ws [N, n_latent, style_dim]; `rows` of zeros behind them: no style offsets."""

    def __init__(self, model: WaGI, dtype: torch.dtype, rows: int = 0) -> None:
        super().__init__()
        if model.encoder.steps:
            raise UserError("a ReStyle encoder (restyle_steps) runs in PyTorch only; use another for export")
        self.rows = rows
        self.network = folded(model.encoder, dtype)
        self.register_buffer("latent_avg", model.generator.latent_avg.detach())

    def forward(self, image_r: Tensor) -> Tensor:
        ws = self.network(cast(image_r, _dtype(self.network))) + self.latent_avg
        return pad(ws, (0, 0, 0, self.rows)) if self.rows else ws


class Prefix(nn.Module):
    """ws -> feature, skip: the generator below the first gate."""

    def __init__(self, synthesis: Synthesis) -> None:
        super().__init__()
        self.synthesis = synthesis

    def forward(self, ws: Tensor) -> tuple[Tensor, Tensor]:
        feature, skip = self.synthesis.prefix(ws)
        return cast(feature, _SINGLE), skip


class Naive(nn.Module):
    """ws, feature, skip -> image: the generator above the first gate, without gates."""

    def __init__(self, synthesis: Synthesis) -> None:
        super().__init__()
        self.synthesis = synthesis

    def forward(self, ws: Tensor, feature: Tensor, skip: Tensor) -> Tensor:
        styles = self.synthesis.suffix_styles(ws)
        return self.synthesis.suffix(styles, cast(feature, self.synthesis.dtype), skip, NO_GATES)


class Early(nn.Module):
    """ws, feature, skip -> naive_r: what the generator draws up to R, without gates."""

    def __init__(self, synthesis: Synthesis, resolution: int) -> None:
        super().__init__()
        self.synthesis, self.resolution = synthesis, resolution

    def forward(self, ws: Tensor, feature: Tensor, skip: Tensor) -> Tensor:
        styles, x = self.synthesis.suffix_styles(ws), cast(feature, self.synthesis.dtype)
        return self.synthesis.suffix(styles, x, skip, NO_GATES, self.resolution).clamp(-1, 1)


class Align(nn.Module):
    """residual, naive_r -> aligned."""

    def __init__(self, model: WaGI, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = folded(model.aligner, dtype)

    def forward(self, residual: Tensor, naive_r: Tensor) -> Tensor:
        dtype = _dtype(self.network)
        return cast(self.network(cast(residual, dtype), cast(naive_r, dtype)), _SINGLE)


# In FP32 in every precision: coordinates in half are off by up to 0.06 px at R = 256, and this is a hundredth
# of an edit's arithmetic (decision 55).
class Move(nn.Module):
    """residual, naive_r, edit_naive_r, feature, edit_feature -> aligned (with full detail: flow, shares)."""

    def __init__(self, model: WaGI) -> None:
        super().__init__()
        self.network, self.full_detail = folded(model.aligner), model.full_detail

    def forward(
        self, residual: Tensor, naive_r: Tensor, edit_naive_r: Tensor, feature: Tensor, edit_feature: Tensor
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        found = self.network(residual, naive_r, edit_naive_r, feature, edit_feature)
        return (found.aligned, found.flows[-1], shares(found)) if self.full_detail else found.aligned


class KeepDetail(nn.Module):
    """drawn, image -> result: an inversion with the input's detail above R."""

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution

    def forward(self, drawn: Tensor, image: Tensor) -> Tensor:
        return keep_detail(drawn, image, self.resolution)


class MoveDetail(nn.Module):
    """drawn, image, flow, shares -> result: an edit with the input's detail above R, moved."""

    def forward(self, drawn: Tensor, image: Tensor, flow: Tensor, weights: Tensor) -> Tensor:
        return move_detail(drawn, image, flow, weights)


class Decode(nn.Module):
    """ws, feature, skip, aligned -> image: consultation encoder and the gated generator."""

    def __init__(self, model: WaGI, synthesis: Synthesis) -> None:
        super().__init__()
        self.synthesis = synthesis
        self.fusion = folded(model.fusion, synthesis.dtype)
        self.fusion.plain = False  # type: ignore[assignment]
        for name, head in self.fusion.named_children():
            if "_scale" in name and not model.fusion.plain:
                last = head[-1]  # type: ignore[index]
                last.bias = nn.Parameter(last.bias + 1, requires_grad=False)  # (1 + g) x + h

    def forward(self, ws: Tensor, feature: Tensor, skip: Tensor, aligned: Tensor) -> Tensor:
        styles, dtype = self.synthesis.suffix_styles(ws), self.synthesis.dtype
        return self.synthesis.suffix(styles, cast(feature, dtype), skip, self.gates(aligned))

    def gates(self, aligned: Tensor) -> Gates:
        return self.fusion(cast(aligned, self.synthesis.dtype))


class Pipeline(nn.Module):
    """image [N, 3, S, S] in [-1, 1] -> ws, naive_r, result: a whole inversion (paper, section 3.2).

    A naive image that is not early is made at full size, because it is clamped before it is averaged down to
    naive_r; only that leaves the graph.
    """

    def __init__(
        self, model: WaGI, encoder: Encoder, align: Align | Move, decode: Decode, detail: KeepDetail | None
    ) -> None:
        super().__init__()
        self.encoder, self.align, self.decode, self.detail = encoder, align, decode, detail
        self.render, self.reduced = NaiveRenderer(model, decode.synthesis), model.reduced

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image_r = self.reduced(image)
        ws = self.encoder(image_r)
        (x, skip), styles, naive_r = self.render(ws)
        aligned = image_r - naive_r
        if isinstance(self.align, Align):
            aligned = self.align(aligned, naive_r)
        result = self.decode.synthesis.suffix(styles, x, skip, self.decode.gates(aligned))
        return ws, naive_r, self.detail(result, image) if self.detail else result


class Edit(nn.Module):
    """image_r, naive_r, edit_ws -> edit_naive_r, result: a whole edit.

    For a flow aligner feature too, and with full detail image.
    """

    def __init__(self, model: WaGI, align: Align | Move, decode: Decode, detail: MoveDetail | None) -> None:
        super().__init__()
        self.align, self.decode, self.detail = align, decode, detail
        self.render = NaiveRenderer(model, decode.synthesis)

    def forward(
        self,
        image_r: Tensor,
        naive_r: Tensor,
        edit_ws: Tensor,
        feature: Tensor | None = None,
        image: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        (x, skip), styles, edit_naive_r = self.render(edit_ws)
        residual = image_r - naive_r
        if isinstance(self.align, Align):
            found = self.align(fade(residual, naive_r, edit_naive_r), edit_naive_r)
        else:
            found = self.align(residual, naive_r, edit_naive_r, feature, cast(x, _SINGLE))
        aligned, *source = found if self.detail else (found,)
        result = self.decode.synthesis.suffix(styles, x, skip, self.decode.gates(aligned))
        return edit_naive_r, self.detail(result, image, *source) if self.detail else result


class NaiveRenderer(nn.Module):
    """ws -> the state below the first gate, the styles above it, and the naive image at R."""

    def __init__(self, model: WaGI, synthesis: Synthesis) -> None:
        super().__init__()
        self.synthesis, self.low_fidelity = synthesis, model.low_fidelity
        self.drawn = model.resolution if model.early else None

    def forward(self, ws: Tensor) -> tuple[tuple[Tensor, Tensor], list[Style], Tensor]:
        x, skip = self.synthesis.prefix(ws)
        styles = self.synthesis.suffix_styles(ws)
        naive = self.synthesis.suffix(styles, x, skip, NO_GATES, self.drawn)
        return (x, skip), styles, self.low_fidelity(naive)


@dataclass(frozen=True)
class Graph:
    """One module, example inputs by name, and its outputs' names and shapes (without the batch)."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: chain.Shapes

    @torch.no_grad()
    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The module's result, tensors by name."""
        values = self.module(*(inputs[name] for name in self.inputs))
        return dict(zip(self.outputs, (values,) if isinstance(values, Tensor) else values, strict=True))


@torch.no_grad()
def build_graphs(
    model: WaGI,
    precision: str = "fp32",
    up: str = "transposed",
    skip: str = "folded",
    offsets: bool = False,
) -> dict[str, Graph]:
    """The graphs by name in the order in which the runtime runs them, the fused pipeline last.

    Args: model: in eval mode, FP32, on the CPU. precision: fp32 or fp16. up: one of synthesis.UP_FORMS.
    skip: one of synthesis.SKIP_FORMS. offsets: latents have style offsets behind them.
    """
    dtype = DTYPES[precision]
    synthesis = Synthesis(model.generator, model.fusion_start, up, dtype, skip, offsets).eval()
    align = Move(model) if aligner(model) == "flow" else Align(model, dtype)
    encoder = Encoder(model, dtype, model.generator.space.rows * offsets)
    decode, size = Decode(model, synthesis), model.resolution
    keep, move = KeepDetail(size), MoveDetail()
    details = (keep, move) if model.full_detail else (None, None)
    modules: dict[str, nn.Module] = {
        "encoder": encoder, "prefix": Prefix(synthesis), "naive": Naive(synthesis),
        "early": Early(synthesis, size), "align": align, "move": align, "decode": decode,
        "keep_detail": keep, "move_detail": move,
        PIPELINE: Pipeline(model, encoder, align, decode, details[0]),
        EDIT: Edit(model, align, decode, details[1]),
    }  # fmt: skip
    known = tensor_shapes(model, offsets)
    whole, edit = chains(model)
    separate = {**whole.graphs, **edit.graphs}
    graphs = {}
    for name, step in {**separate, **FUSED.graphs, **fused(edit, EDIT).graphs}.items():
        inputs, outputs = step.shapes(known)
        # Separate tensors: the tracer takes one tensor given twice for one input.
        examples = {key: torch.zeros(_EXAMPLE_BATCH, *shape) for key, shape in inputs.items()}
        graphs[name] = Graph(name, modules[name].eval(), examples, outputs)
    return graphs


def aligner(model: WaGI) -> str:
    """One of chain.ALIGNERS."""
    return "flow" if isinstance(model.aligner, FlowAligner) else "ada"


def chains(model: WaGI) -> tuple[chain.Chain, chain.Chain]:
    """The model's inversion and edit by separate graphs."""
    kind = chain.Kind(aligner(model), model.full_detail, model.early, model.bilinear, model.pil)
    return chain.inversion(*kind), chain.edit(*kind)


def tensor_shapes(model: WaGI, offsets: bool = False) -> chain.Shapes:
    """Every tensor of the chains, without the batch; offsets: latents have style offsets behind them."""
    generator, start = model.generator, model.fusion_start
    state = {
        "feature": (channels(start, *generator.width), start, start),
        "skip": (bands(generator), start // 2, start // 2),
    }
    latents = (generator.n_latent + generator.space.rows * offsets, generator.style_dim)
    return chain.shapes(generator.size, model.resolution, latents, state)
