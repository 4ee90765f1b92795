"""The inversion stage with the flow aligner: first the flow alone, then together with fusion.

Pairs come from scenes of edits; a share of them are warps of the source by a flow of our own.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.config import InversionConfig, ModelConfig
from wagi.data import Item
from wagi.features import FeatureFiles
from wagi.losses import l2_loss, wavelet_loss
from wagi.model import Inversion, WaGI, area_resize
from wagi.networks.flow_alignment import Alignment, FlowAligner, warp
from wagi.training.detail import energy_loss
from wagi.training.images import Scalars, weighted_mean
from wagi.training.inversion import InversionStage
from wagi.training.naive import NaiveImages
from wagi.training.scenes import ScenePairs
from wagi.training.stage import Phase
from wagi.training.textures import random_textures
from wagi.training.warp import random_colours, random_flow, recolour

# A pixel has changed when its colours differ by this on average.
_CHANGED = 0.1
# Pixels of a 128 px image below which a change counts less.
_SMALL_CHANGE = 300 / 128**2


class Move(NamedTuple):
    """One step's problem for the flow aligner; all images at R, in [-1, 1]."""

    image: Tensor
    naive: Tensor
    edited: Tensor  # the true edit
    edited_naive: Tensor
    base: Tensor  # one appearance in the view of the image and of the edit
    edited_base: Tensor
    state: Tensor  # [N, C, r, r]
    edited_state: Tensor
    flow: Tensor  # [N, 2, h, h] the true one, in its pixels
    seen: Tensor  # [N, 1, h, h] 1 where the image shows what the edit shows; nowhere: not known
    weights: Tensor | None  # [N, 1, R, R] of the pixels, by region

    def halved(self) -> "Move":
        """The same on images of half the size."""
        images = {name: F.avg_pool2d(getattr(self, name), 2) for name in self._fields[:6]}
        weights = None if self.weights is None else F.avg_pool2d(self.weights, 2)
        return self._replace(**images, weights=weights)


class FlowStage(InversionStage):
    """Trains a `FlowAligner` and the fusion; without pairs, on warps of plain images alone."""

    def __init__(
        self,
        model_config: ModelConfig,
        config: InversionConfig,
        parts: dict[str, nn.Module],
        files: FeatureFiles,
        pairs: ScenePairs | None,
        photographs: Tensor | None = None,
    ) -> None:
        super().__init__(model_config, config, parts, files)
        self.pairs, self.photographs = pairs, photographs
        self.naive_images: NaiveImages | None = None

    def settled(self, step: int) -> bool:
        return step >= self.config.flow_steps

    def phases(self, step: int) -> list[Phase]:
        if step >= self.config.flow_steps:
            return [Phase("inversion", self.invert)]
        return [Phase("inversion", self.align_small if step < self.config.half_size_steps else self.align)]

    # ------------------------------------------------------------------------------------ the flow alone

    @torch.no_grad()
    def _move(self, batch: Item, rng: torch.Generator) -> Move:
        """Edits of the batch from kept naive images; a share recoloured, warped, or replaced by warps."""
        config, n, device = self.config, len(batch["image"]), batch["image"].device
        naive, state, edited_naive, edited_state = self._naive(batch)
        batch = self._paired(batch, None)
        colours = random_colours(n, config.recolour, rng).to(device)
        names = ("image", "edited", "base", "edited_base")
        images = {name: self.model.reduced(batch[name]) for name in names}
        images |= {"naive": naive, "edited_naive": edited_naive}
        images = {name: recolour(x, colours) for name, x in images.items()}
        size = images["image"].shape[-1]
        half = min(size, batch["flow"].shape[-1])
        known = (torch.rand(n, generator=rng) < config.synthetic).to(device)[:, None, None, None]
        turned = (torch.rand(n, generator=rng) < config.perspective).to(device)[:, None, None, None] & ~known
        flow = random_flow(n, size, rng, local=True).to(device) * known
        for before, after in (("image", "edited"), ("naive", "edited_naive"), ("image", "edited_base")):
            images[after] = torch.where(known, warp(images[before], flow), images[after])
        images["base"] = torch.where(known, images["image"], images["base"])
        moved_state = warp(state, _flow_at(flow, state.shape[-1]))
        edited_state = torch.where(known, moved_state, edited_state)
        seen = torch.where(known, torch.ones(()), area_resize(batch["seen"], half))
        flow = torch.where(known, _flow_at(flow, half), _flow_at(batch["flow"], half))
        view = random_flow(n, size, rng, local=False).to(device) * turned
        images |= {name: warp(images[name], view) for name in ("image", "naive", "base")}
        state = warp(state, _flow_at(view, state.shape[-1]))
        flow = after_warp(flow, _flow_at(view, half))
        weights = self.image_loss.regions(batch.get("edited_mask"))
        if weights is not None:
            weights = torch.where(known, torch.ones(()), area_resize(weights, size))
        return Move(**images, state=state, edited_state=edited_state, flow=flow, seen=seen, weights=weights)

    def _naive(self, batch: Item) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Naive images and states of both pictures: kept beside scenes, computed for one of plain images."""
        if self.pairs is None:
            state, naive = self.model.reconstruct(self.model.encode(batch["image"]))
            return 2 * (self.model.low_fidelity(naive), state.x)
        if self.naive_images is None:
            count = len(self.pairs.pictures.images)
            self.naive_images = NaiveImages(Path(self.pairs.root), count, self.model)
        first, second = batch["pictures"].unbind(1)
        return *self.naive_images(first, batch["image"]), *self.naive_images(second, batch["edited"])

    def _paired(self, batch: Item, rng: torch.Generator | None, edits: int | None = None) -> Item:
        """The batch itself where it has edits; plain images as edits that move the first few by our flow.

        Without `rng` nothing moves.
        """
        if "edited" in batch:
            return batch
        image = batch["image"]
        flow = torch.zeros(len(image), 2, *image.shape[2:])
        if rng is not None:
            flow[:edits] = random_flow(len(image), image.shape[-1], rng, local=True)[:edits]
        flow = flow.to(image.device)
        edited, half = warp(image, flow), _flow_at(flow, image.shape[-1] // 2)
        pair = {"image": image, "edited": edited, "base": image, "edited_base": edited}
        return {**pair, "flow": half, "seen": torch.ones_like(half[:, :1])}

    def align(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """The flow aligner alone."""
        move = self._move(batch, rng)
        states = move.state, move.edited_state
        return self._alignment_losses(
            self.model.aligner(move.image - move.naive, move.naive, move.edited_naive, *states), move
        )

    def align_small(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """The same on images of half the size; the flow's own images are always that small."""
        aligner, move = self.model.aligner, self._move(batch, rng).halved()
        assert isinstance(aligner, FlowAligner)
        images = move.image, move.naive, move.edited_naive
        flows, hidden = aligner.flow(*images, move.state, move.edited_state)
        found = aligner.blend(move.image - move.naive, move.naive, move.edited_naive, flows, hidden)
        return self._alignment_losses(found, move)

    def _alignment_losses(self, found: Alignment, move: Move) -> tuple[Tensor, Scalars]:
        config, target = self.config, move.edited - move.edited_naive
        photometric, distance = torch.zeros(()), torch.zeros(())
        # Of a generator's turns nobody knows what they hide; one appearance in two views is still the best
        # that can be told of the flow, so there every pixel counts, as if all were seen.
        unknown = (move.seen.amax((1, 2, 3), keepdim=True) == 0).float()
        for flow in found.flows[:-1]:
            seen = area_resize(move.seen, flow.shape[-1])
            error = warp(_pooled(move.base, flow), flow) - _pooled(move.edited_base, flow)
            photometric = photometric + (error.abs() * (seen + unknown)).mean()
            truth = area_resize(move.flow * move.seen, flow.shape[-1]) / seen.clamp(min=1e-3)
            pixels = self.model.resolution / flow.shape[-1]
            truth = truth * (flow.shape[-1] / move.flow.shape[-1])
            distance = distance + pixels * ((flow - truth).abs().sum(1, keepdim=True) * seen).mean()
        wave = wavelet_loss(found.aligned, target, norm=config.wave_norm, scale=config.haar_scale)
        scalars = {
            "align": weighted_mean((found.aligned - target).abs(), move.weights)
            + config.lambda_wave_ada * wave,
            "photometric": photometric,
            "smooth": roughness(found.flows[-2], _pooled(move.edited_naive, found.flows[-2])),
            "change": change_loss(found.aligned, target, move.image, move.edited),
            "flow": distance,
            "energy": energy_loss(move.edited_naive + found.aligned, move.edited),
        }
        weights = {name: getattr(config, f"lambda_{name}", 1.0) for name in scalars}
        loss = torch.stack([weights[name] * value for name, value in scalars.items()]).sum()
        return loss, {**scalars, "wave_align": wave, "loss": loss}

    # ------------------------------------------------------------------------------------ with the fusion

    def whole_loss(self, model: WaGI, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """Of what a model meets: edits as the aligner moves them, and inversions as they are."""
        config, n = self.config, len(batch["image"])
        edits = max(1, round(config.edit_probability * n)) if config.edit_probability else 0
        with torch.no_grad():
            batch = self._paired(batch, rng, edits)
            colours = random_colours(n, config.recolour, rng).to(batch["image"].device)
            target = recolour(batch["edited"], colours)
            target[edits:] = self._unlike(target[edits:], rng)
            ws = model.encode(target)
            state, naive = model.reconstruct(ws)
            aligned = model.residual(target, naive)
            source = recolour(batch["image"][:edits], colours[:edits])
            ws_source = model.encode(source)
            before = model.reconstruct(ws_source)[1]
        scalars: Scalars = {}
        loss = torch.zeros(())
        if edits:
            inversion = Inversion(ws_source, before, model.residual(source, before), before, before, source)
            found = model.move(inversion, _first(state, edits), naive[:edits])
            move = self._edits_at_r(batch, edits, colours, source, target, before, naive)
            loss, scalars = self._alignment_losses(found, move)
            aligned = torch.cat([found.aligned, aligned[edits:]])
        image = area_resize(model.decode(ws, state, aligned), model.resolution)
        truth = model.reduced(target)
        fused, terms = self.image_loss(image, truth, batch.get("edited_mask"), rng)
        loss = fused + config.lambda_ada * loss
        return loss, {**scalars, **terms, "loss": loss}

    def _edits_at_r(self, batch, edits, colours, source, target, before, naive) -> Move:
        size, low, reduced = self.model.resolution, self.model.low_fidelity, self.model.reduced
        base, edited_base = (
            reduced(recolour(batch[name][:edits], colours[:edits])) for name in ("base", "edited_base")
        )
        mask = batch.get("edited_mask")
        weights = self.image_loss.regions(None if mask is None else mask[:edits])
        return Move(
            reduced(source), low(before), reduced(target[:edits]), low(naive[:edits]),
            base, edited_base, before, naive, batch["flow"][:edits],
            batch["seen"][:edits], None if weights is None else area_resize(weights, size),
        )  # fmt: skip

    def _unlike(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """A share of the images replaced by textures, and by crops of photographs where there are some."""
        chosen = torch.rand(len(images), generator=rng) < self.config.textures
        if not chosen.any():
            return images
        other = random_textures(len(images), images.shape[-1], rng, self.photographs)
        return torch.where(chosen[:, None, None, None].to(images.device), other.to(images), images)

    # ----------------------------------------------------------------------------------------- numbers

    def evaluate(self, models: dict, batch: Item) -> dict[str, float]:
        """The whole loss; naive and fused inversion of the true edits, and the edits, against their truth."""
        model = self.assemble(models)
        loss, _ = self.whole_loss(model, batch, torch.Generator().manual_seed(self.config.seed))
        batch = self._paired(batch, torch.Generator().manual_seed(self.config.seed))
        target = batch["edited"]
        found, source = model.invert(target), model.invert(batch["image"])
        edited = model.edit(source, found.ws)
        result = {"loss": float(loss)}
        for name, image in (("naive", found.naive), ("fused", found.image), ("edited", edited.image)):
            result[f"l2_{name}"] = float(l2_loss(image.clamp(-1, 1), target))
            result[f"wave_{name}"] = float(wavelet_loss(image.clamp(-1, 1), target))
        for name, residual in (("edit", edited.aligned), ("edit_nothing", source.residual)):
            result[f"{name}_l1"] = float((residual - found.residual).abs().mean())
            result[f"{name}_l2"] = float(l2_loss(residual, found.residual))
        return result

    def grid(self, models: dict, batch: Item) -> tuple[Tensor, int]:
        """Rows: source, true edit, its naive image, the edit."""
        batch = self._paired(batch, torch.Generator().manual_seed(self.config.seed))
        model = self.assemble(models)
        edited = model.edit(batch["image"], model.encode(batch["edited"]))
        rows = [batch["image"], batch["edited"], edited.naive, edited.image]
        return torch.cat(rows), len(batch["image"])


def roughness(flow: Tensor, image: Tensor) -> Tensor:  # N,2,r,r ; N,3,r,r => scalar
    """Mean difference of neighbouring flow vectors, in pixels, less where the image has an edge."""
    total = torch.zeros((), device=flow.device)
    for axis in (2, 3):
        edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
        total = total + (flow.diff(dim=axis).abs() * torch.exp(-10 * edge)).mean()
    return total


def change_loss(aligned: Tensor, target: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """mean_n [sum_M |aligned - target| / (|M| + m)], M the pixels that an edit changes, m a few of them.

    All [N, 3, R, R]. Small changes, a smile for instance, are lost in a mean over the whole picture.
    """
    changed = ((after - before).abs().mean(1) > _CHANGED).float()
    error = (aligned - target).abs().mean(1)
    least = _SMALL_CHANGE * changed[0].numel()
    return ((changed * error).sum((1, 2)) / (changed.sum((1, 2)) + least)).mean()


def after_warp(flow: Tensor, view: Tensor) -> Tensor:  # N,2,h,h twice => N,2,h,h
    """The flow to an image that has itself been warped by `view`, a smooth and small one (fixed point)."""
    found = flow
    for _ in range(3):
        found = flow - warp(view, found)
    return found


def _pooled(image: Tensor, flow: Tensor) -> Tensor:
    return area_resize(image, flow.shape[-1])


def _flow_at(flow: Tensor, size: int) -> Tensor:
    """A flow at a smaller resolution, in its pixels."""
    factor = flow.shape[-1] // size
    return F.avg_pool2d(flow, factor) / factor


def _first(state, n: int):
    return type(state)(*(x[:n] for x in state))
