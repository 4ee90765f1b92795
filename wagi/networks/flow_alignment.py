"""The flow aligner: detail of the input, moved to where an edit puts it.

Not in the papers, whose ADA moves a residual by a few pixels. At edit time the naive images X0 = G0(w) and
Y0 = G0(w_edit) and the generator's states behind them are known, so where everything went can be estimated:
dense flow from Y0 back to X0, from coarse to fine, and what of the input is still seen there.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.networks.layers import window_mean

# The mean square change of the naive image at which half of the input's own residual is left.
_GATE_CHANGE = 3e-4
# The coarsest level of the flow: R / 16. The flow's images have half of R, the finest flow a quarter.
COARSEST = 16
_TEMPERATURE = 10.0


class Alignment(NamedTuple):
    """The result of the flow aligner; R is the residual's resolution."""

    aligned: Tensor  # [N, 3, R, R] the residual as it belongs to the edited naive image
    flows: tuple[Tensor, ...]  # [N, 2, r, r] at R/16, R/8, R/4, R: (x, y), in pixels of that level
    weights: Tensor  # [N, 3, R, R] of the moved input, the moved residual, nothing; they sum to 1
    gate: Tensor  # [N, 1, R, R] in [0, 1): exactly 0 where the edit changes nothing


def warp(images: Tensor, flow: Tensor) -> Tensor:  # N,C,H,W ; N,2,H,W => N,C,H,W
    """Images sampled at p + flow(p), bilinear; beyond the border, the nearest pixel. Flow: (x, y), pixels."""
    # int(): a traced graph then holds constants, and the grid stays float32.
    height, width = int(flow.shape[-2]), int(flow.shape[-1])
    x = torch.arange(width, device=flow.device) + 0.5
    y = torch.arange(height, device=flow.device) + 0.5
    flow = flow.float()
    grid = torch.stack(
        [(flow[:, 0] + x) * (2 / width) - 1, (flow[:, 1] + y[:, None]) * (2 / height) - 1], dim=-1
    )
    # Coordinates in half precision would be pixels off: images are widened to them and back.
    wide = torch.promote_types(images.dtype, torch.float32)
    found = F.grid_sample(
        images.to(wide), grid.to(wide), mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.to(images.dtype)


def change_gate(before: Tensor, after: Tensor) -> Tensor:  # N,3,R,R twice => N,1,R,R
    """c / (c + 3e-4), c the mean squared change in a window of R / 16: exactly 0 where nothing changes."""
    change = (after - before).square().mean(1, keepdim=True)
    side = int(before.shape[-1]) // COARSEST | 1
    change = window_mean(change, side)
    return change / (change + _GATE_CHANGE)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.LeakyReLU(0.1))


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _resize(x: Tensor, size: int) -> Tensor:
    """Features [N, C, r, r] at `size`: means of blocks where they fit, else interpolated."""
    factor, rest = divmod(int(x.shape[-1]), size)
    if rest or not factor:
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return F.avg_pool2d(x, factor)


def _normalised(x: Tensor) -> Tensor:
    """Of unit length along dimension 1. Unlike F.normalize it needs no shapes of its input in a graph."""
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)


class Pyramid(nn.Module):
    """Images [N, 3, R/2, R/2] -> features at R/4, R/8, R/16."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        first, second, third = widths
        self.quarter, self.eighth = _conv(3, first, 5, 2), _conv(first, second, 3, 2)
        self.sixteenth = nn.Sequential(_conv(second, third, 3, 2), _conv(third, third))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quarter = self.quarter(x)
        eighth = self.eighth(quarter)
        return quarter, eighth, self.sixteenth(eighth)


class Refinement(nn.Module):
    """One correction of a flow: maps of one level -> (correction [N, 2, r, r], hidden [N, width, r, r])."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = _conv(inputs, width), _conv(width, width), _conv(width, width)
        self.flow = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.enter(torch.cat(maps, dim=1))
        hidden = hidden + self.leave(self.inner(hidden))
        return self.flow(hidden), hidden


class Overview(nn.Module):
    """A correction of the coarsest flow that sees the whole picture: a turn is one motion of everything.

    Call: maps [N, inputs, r, r] -> [N, 2, r, r]; before training zero.
    """

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = _conv(inputs, width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(width, width), nn.Conv2d(width, width, 3, padding=1)) for _ in range(blocks)
        )
        self.flow = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def forward(self, *maps: Tensor) -> Tensor:
        x = self.enter(torch.cat(maps, dim=1))
        for block in self.blocks:
            x = F.leaky_relu(x + block(x), 0.1)
        return self.flow(x)


class Matching(nn.Module):
    """The expected offset under a softmax over all pairs of cells, less that of its prior alone.

    Call: features of target and source [N, C, r, r] -> flow [N, 2, r, r] in cells, confidence [N, 1, r, r].
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(inputs, width, 1)
        self.sigma, self.gain = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        height, width = int(target.shape[-2]), int(target.shape[-1])
        query, key = (_normalised(self.key(x).flatten(2)) for x in (target, source))
        y, x = torch.meshgrid(
            torch.arange(height, device=target.device), torch.arange(width, device=target.device),
            indexing="ij",
        )  # fmt: skip
        cells = torch.stack([x, y]).float().flatten(1)
        offset = cells[:, None, :] - cells[:, :, None]  # 2, query, key
        prior = -offset.square().sum(0) / (2 * self.sigma**2)
        share = torch.softmax(prior + _TEMPERATURE * self.gain * query.transpose(1, 2) @ key, dim=2)
        # The cell's own place, from which both offsets are taken, cancels. (Sums of products with `offset`
        # instead of matrix products are compiled wrongly by OpenVINO 2026.4.)
        flow = share @ cells.T - torch.softmax(prior, dim=1) @ cells.T
        return flow.transpose(1, 2).reshape(-1, 2, height, width), share.amax(2).view(-1, 1, height, width)


class FlowAligner(nn.Module):
    """The source of every pixel of an edit: the moved input, the moved residual, or the naive edit.

    Args:
        state_channels: C of the generator's state below the first gate.
        iterations: corrections of the flow at R/8 and at R/4.
    Call: residual X - X0, naive image X0 and edited naive image Y0, all [N, 3, R, R], R a multiple of 16;
        the states [N, C, r, r] of both latents -> Alignment. An edit that changes nothing leaves the residual
        as it is, to the bit.
    """

    def __init__(
        self,
        state_channels: int,
        pyramid: tuple[int, ...] = (16, 32, 48),
        hidden: tuple[int, ...] = (20, 40, 56),
        head: int = 16,
        matched: int = 48,
        overview: int = 96,
        iterations: int = 2,
    ) -> None:
        super().__init__()
        self.iterations = iterations
        self.naive_pyramid, self.input_pyramid = Pyramid(pyramid), Pyramid(pyramid)
        self.state = _conv(state_channels, matched, 1)
        joined = pyramid[2] + matched
        self.matching = Matching(joined, matched)
        self.overview = Overview(3 * joined + pyramid[2] + 3, overview, 3)
        self.sixteenth = Refinement(2 * joined + pyramid[2] + 3, hidden[2])
        self.eighth = Refinement(3 * pyramid[1] + 2 + hidden[2], hidden[1])
        self.quarter = Refinement(3 * pyramid[0] + 2 + hidden[1], hidden[0])
        self.squeeze = _conv(hidden[0], 12, 1)
        self.head = nn.Sequential(_conv(31, head), _conv(head, head), nn.Conv2d(head, 6, 3, padding=1))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Half of the moved input, half of the moved residual, nothing drawn."""
        last: Any = self.head[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]))

    def flow(
        self, image: Tensor, naive: Tensor, edited: Tensor, state: Tensor, edited_state: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Flows at R/16, R/8, R/4 from images at R/2, and what was known last [N, hidden, R/4, R/4]."""
        coarsest = int(image.shape[-1]) // (COARSEST // 2)
        # One after the other: a graph with a batch of any size cannot be traced through a split of both.
        pairs = list(zip(self.naive_pyramid(naive), self.naive_pyramid(edited), strict=True))
        sharp4, sharp8, sharp16 = self.input_pyramid(image)
        known, wanted = (self.state(_resize(x, coarsest)) for x in (state, edited_state))
        source = torch.cat([pairs[2][0], known], dim=1)
        target = torch.cat([pairs[2][1], wanted], dim=1)
        coarse, confidence = self.matching(target, source)
        seen = (target, source, warp(source, coarse), warp(sharp16, coarse), coarse, confidence)
        coarse = coarse + self.overview(*seen)
        step, hidden = self.sixteenth(target, warp(source, coarse), warp(sharp16, coarse), coarse, confidence)
        flows = [coarse + step]
        for refine, (before, after), sharp in (
            (self.eighth, pairs[1], sharp8), (self.quarter, pairs[0], sharp4)
        ):  # fmt: skip
            flow, coarser = 2 * _enlarge(flows[-1], 2), _enlarge(hidden, 2)
            for _ in range(self.iterations):
                step, hidden = refine(after, warp(before, flow), warp(sharp, flow), flow, coarser)
                flow = flow + step
            flows.append(flow)
        return tuple(flows), hidden

    def blend(
        self, residual: Tensor, naive: Tensor, edited: Tensor, flows: tuple[Tensor, ...], hidden: Tensor
    ) -> Alignment:
        """The aligned residual, from the finest flow and what is known there.

        Images may have twice the flow's resolution instead of four times: training begins with small ones.
        """
        factor, image = int(naive.shape[-1]) // int(hidden.shape[-1]), residual + naive
        flow = factor * _enlarge(flows[-1], factor)
        moved, moved_naive = warp(torch.cat([image, naive], dim=1), flow).split(3, dim=1)
        # The naive images after the flow: what is left there is an edit of appearance, or hidden before.
        error = (moved_naive - edited).abs().mean(1, keepdim=True)
        around = window_mean(error, 9)
        maps = [moved, image, moved_naive, naive, edited, flow / 8, error, around]
        drawn = self.head(torch.cat([*maps, _enlarge(self.squeeze(hidden), factor)], dim=1))
        weights = torch.softmax(drawn[:, :3], dim=1)
        aligned = weights[:, :1] * (moved - edited) + weights[:, 1:2] * (moved - moved_naive) + drawn[:, 3:]
        gate = change_gate(naive, edited)
        aligned = (1 - gate) * residual + gate * aligned
        return Alignment(aligned, (*flows, flow), weights, gate)

    def forward(
        self, residual: Tensor, naive: Tensor, edited: Tensor, state: Tensor, edited_state: Tensor
    ) -> Alignment:
        image_h, naive_h, edited_h = (F.avg_pool2d(x, 2) for x in (residual + naive, naive, edited))
        flows, hidden = self.flow(image_h, naive_h, edited_h, state, edited_state)
        return self.blend(residual, naive, edited, flows, hidden)
