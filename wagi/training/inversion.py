"""Stage 3, the inversion: ADA and fusion learn to put back what E0 and G0, frozen in eval mode, have lost.

First ADA alone for `ada_steps` (no generator gradient in the loop), then both (WaGI eq. 2):
L2 + lambda_wave L_wave + lambda_lpips LPIPS + lambda_id identity + lambda_ada L_ADA; ours, not the paper's:
lambda_looks, 0 unless asked for.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wagi.config import InversionConfig, ModelConfig
from wagi.data import Item
from wagi.features import FeatureFiles
from wagi.losses import alignment_loss, l2_loss, wavelet_loss
from wagi.model import WaGI, area_resize
from wagi.networks.build import PARTS, build_part
from wagi.networks.swagan import State
from wagi.training.images import ImageLoss, Scalars
from wagi.training.optim import make_optimizer
from wagi.training.stage import Phase, Stage
from wagi.training.warp import random_colours, random_perspective, recolour


class Task(NamedTuple):
    """One step's problem: render `target` from its latents and a residual that lies elsewhere."""

    target: Tensor  # [N, 3, S, S]
    mask: Tensor | None  # [N, S, S] region labels
    ws: Tensor
    state: State
    naive: Tensor
    residual: Tensor  # [N, 3, R, R], where it belongs
    given: Tensor  # [N, 3, R, R], where it is


class InversionStage(Stage):
    """Trains `aligner` and `fusion`, whose BatchNorms are in train mode (but for batch_norm=running)."""

    name = "inversion"
    config: InversionConfig

    def __init__(
        self,
        model_config: ModelConfig,
        config: InversionConfig,
        parts: dict[str, nn.Module],
        files: FeatureFiles,
    ) -> None:
        self.model_config, self.config = model_config, config
        self.frozen = {part: parts[part].requires_grad_(False).eval() for part in ("generator", "encoder")}
        self.models = {part: build_part(model_config, part) for part in ("aligner", "fusion")}
        self.averaged = ("aligner", "fusion")
        self.model = self.assemble({**self.frozen, **self.models})
        trained = [p for model in self.models.values() for p in model.parameters()]
        self.optimizers = {"inversion": make_optimizer(config.optimizer, [{"params": trained}], config.lr)}
        self.image_loss = ImageLoss(config, files)
        self.helpers = (self.image_loss,)

    def train_mode(self) -> None:
        super().train_mode()
        if self.config.batch_norm == "running":
            for module in (m for model in self.models.values() for m in model.modules()):
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def assemble(self, parts: dict[str, nn.Module]) -> WaGI:
        """The model of these parts, by name."""
        chosen: dict[str, Any] = {name: parts[name] for name in PARTS}
        return WaGI(**chosen, **self.model_config.ways)

    def settled(self, step: int) -> bool:
        """The fusion is trained too."""
        return step >= self.config.ada_steps

    def phases(self, step: int) -> list[Phase]:
        return [Phase("inversion", self.align if step < self.config.ada_steps else self.invert)]

    def _warp(self, residual: Tensor, rng: torch.Generator) -> Tensor:
        config = self.config
        return random_perspective(
            residual, config.distortion, config.warp_probability, rng, config.warp_per_sample
        )

    @torch.no_grad()
    def _task(self, batch: Item, rng: torch.Generator) -> "Task":
        """The targets with their misaligned residuals; all constants (decision 24).

        The residual is the image's own under a random warp (decision 23). With true edits at hand
        (`--edited`), a share of the images are edits instead, given what `WaGI.edit` carries over.
        """
        image, mask, model = batch["image"], batch.get("mask"), self.model
        n = len(image)
        edits = torch.zeros(n, dtype=torch.bool)
        colours = random_colours(n, self.config.recolour, rng).to(image.device)
        target = image = recolour(image, colours)
        if "edited" in batch:
            edits = torch.rand(n, generator=rng) < self.config.edit_probability
            chosen = edits.to(image.device)[:, None, None, None]
            target = torch.where(chosen, recolour(batch["edited"], colours), image)
            if mask is not None:
                mask = torch.where(chosen[:, 0], batch["edited_mask"], mask)
        ws = model.encode(target)
        state, naive = model.reconstruct(ws)
        residual = model.residual(target, naive)
        given = self._warp(residual, rng)
        if edits.any():
            before = model.reconstruct(model.encode(image[edits]))[1]
            given[edits] = model.carry(model.residual(image[edits], before), before, naive[edits])
        return Task(target, mask, ws, state, naive, residual, given)

    def align(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """ADA alone: move the given residual to where the naive image wants it."""
        task = self._task(batch, rng)
        aligned = self.model.aligner(task.given, self.model.low_fidelity(task.naive))
        loss = self._alignment_loss(aligned, task.residual)
        return loss, {"ada": loss, **self._against_nothing(aligned, task.given, task.residual)}

    def invert(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """The whole model; all losses reach ADA (decision 24)."""
        return self.whole_loss(self.model, batch, rng)

    def whole_loss(self, model: WaGI, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """Eq. (2) of a model with these frozen parts, and its terms."""
        config, task = self.config, self._task(batch, rng)
        aligned, image = model.fuse(task.ws, task.state, task.naive, task.given)
        target = model.reduced(task.target)
        loss, scalars = self.image_loss(area_resize(image, model.resolution), target, task.mask, rng)
        scalars["ada"] = self._alignment_loss(aligned, task.residual)
        loss = loss + config.lambda_ada * scalars["ada"]
        return loss, {"loss": loss, **scalars, **self._against_nothing(aligned, task.given, task.residual)}

    def _alignment_loss(self, aligned: Tensor, residual: Tensor) -> Tensor:
        config = self.config
        wave = {"norm": config.wave_norm, "scale": config.haar_scale}
        return alignment_loss(aligned, residual, config.lambda_wave_ada, **wave)  # type: ignore[arg-type]

    @staticmethod
    def _against_nothing(aligned: Tensor, warped: Tensor, residual: Tensor) -> Scalars:
        """L1 to the true residual after ADA and without it: ADA must win to be of use (decision 28)."""
        return {"ada_l1": (aligned - residual).abs().mean(), "warped_l1": (warped - residual).abs().mean()}

    def evaluate(self, models: dict, batch: Item) -> dict[str, float]:
        """Naive and fused inversion of unwarped images; on seeded misalignments, ADA against doing nothing
        and the whole loss."""
        model, target = self.assemble(models), batch["image"]
        found = model.invert(target)
        result = {}
        for name, images in (("naive", found.naive), ("fused", found.image)):
            images = images.clamp(-1, 1)
            result[f"l2_{name}"] = float(l2_loss(images, target))
            result[f"wave_{name}"] = float(wavelet_loss(images, target))
        warped = self._warp(found.residual, torch.Generator().manual_seed(self.config.seed))
        aligned = model.aligner(warped, model.low_fidelity(found.naive))
        for name, value in self._against_nothing(aligned, warped, found.residual).items():
            result[name] = float(value)
        loss, _ = self.whole_loss(model, batch, torch.Generator().manual_seed(self.config.seed))
        result["loss"] = float(loss)
        if "edited" in batch:
            edited = model.edit(found, model.encode(batch["edited"]))
            residual = model.residual(batch["edited"], edited.naive)
            edits = self._against_nothing(edited.aligned, found.residual, residual)
            result |= {"edit_ada_l1": float(edits["ada_l1"]), "edit_nothing_l1": float(edits["warped_l1"])}
            result["l2_edited"] = float(l2_loss(edited.image.clamp(-1, 1), batch["edited"]))
        return result

    def grid(self, models: dict, batch: Item) -> tuple[Tensor, int]:
        """Rows: data, naive inversion, WaGI, aligned residual (halved)."""
        found = self.assemble(models).invert(batch["image"])
        scale = found.naive.shape[-1] // found.aligned.shape[-1]
        residual = (found.aligned / 2).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        return torch.cat([batch["image"], found.naive, found.image, residual]), len(batch["image"])
