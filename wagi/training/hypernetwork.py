"""A stage beside the inversion: HyperStyle's hypernetwork (Alaluf et al. 2022) for E0 and G0, both frozen."""

import torch
from torch import Tensor, nn

from wagi.config import HypernetworkConfig, ModelConfig
from wagi.data import Item
from wagi.features import FeatureFiles
from wagi.losses import l2_loss, wavelet_loss
from wagi.model import HyperInverter, area_resize, resize
from wagi.networks.build import build_part
from wagi.training.images import ImageLoss, Scalars
from wagi.training.optim import make_optimizer
from wagi.training.stage import Phase, Stage


class HypernetworkStage(Stage):
    """Trains `hypernetwork` by the losses of all its steps, each with gradients of its own."""

    name = "hypernetwork"
    config: HypernetworkConfig

    def __init__(
        self,
        model_config: ModelConfig,
        config: HypernetworkConfig,
        parts: dict[str, nn.Module],
        files: FeatureFiles,
    ) -> None:
        self.model_config, self.config = model_config, config
        self.frozen = {part: parts[part].requires_grad_(False).eval() for part in ("generator", "encoder")}
        self.models = {"hypernetwork": build_part(model_config, "hypernetwork")}
        self.averaged = ("hypernetwork",)
        self.model = self._assemble({**self.frozen, **self.models})
        trained = [{"params": list(self.models["hypernetwork"].parameters())}]
        self.optimizers = {"hypernetwork": make_optimizer(config.optimizer, trained, config.lr)}
        self.image_loss = ImageLoss(config, files)
        self.helpers = (self.image_loss,)

    def _assemble(self, parts: dict[str, nn.Module]) -> HyperInverter:
        chosen = {name: parts[name] for name in ("generator", "encoder", "hypernetwork")}
        model = self.model_config
        return HyperInverter(**chosen, hyper_steps=model.hyper_steps, **model.reads)  # type: ignore[arg-type]

    def phases(self, step: int) -> list[Phase]:
        return [Phase("hypernetwork", self.refine)]

    def refine(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """The losses of all steps, and the terms of the last one."""
        resolution = self.model_config.resolution
        target = resize(batch["image"], resolution, self.model_config.image_resize)
        _, *refined = self.model.refinements(batch["image"])
        mask = batch.get("mask")
        found = [self.image_loss(area_resize(x.image, resolution), target, mask, rng) for x in refined]
        loss = torch.stack([loss for loss, _ in found]).sum()
        return loss, {"loss": loss, **found[-1][1]}

    def evaluate(self, models: dict, batch: Item) -> dict[str, float]:
        """The image loss, L2 and L_wave of the refined inversion, and L2 of the naive one."""
        naive, image = self._assemble(models).results(batch["image"])
        model = self.model_config
        target = resize(batch["image"], model.resolution, model.image_resize)
        rng = torch.Generator().manual_seed(self.config.seed)
        loss, _ = self.image_loss(area_resize(image, model.resolution), target, batch.get("mask"), rng)
        naive, image = naive.clamp(-1, 1), image.clamp(-1, 1)
        return {
            "loss": float(loss),
            "l2": float(l2_loss(image, batch["image"])),
            "wave": float(wavelet_loss(image, batch["image"])),
            "l2_naive": float(l2_loss(naive, batch["image"])),
        }

    def grid(self, models: dict, batch: Item) -> tuple[Tensor, int]:
        """Rows: data, naive inversion, refined inversion."""
        return torch.cat([batch["image"], *self._assemble(models).results(batch["image"])]), len(
            batch["image"]
        )
