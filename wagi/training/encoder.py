"""Stage 2, the encoder E0 of a frozen generator, by the e4e recipe (Tov et al. 2021)."""

import sys

import torch
from torch import Tensor, nn

from wagi.config import EncoderConfig, ModelConfig
from wagi.data import Item
from wagi.errors import UserError
from wagi.features import FeatureFiles, load_weights
from wagi.losses import delta_loss, discriminator_loss, generator_loss, l2_loss, r1_penalty, wavelet_loss
from wagi.model import NaiveInverter, area_resize, resize
from wagi.networks.build import build_part
from wagi.networks.e4e import BackboneEncoder, LatentDiscriminator, ProgressiveEncoder
from wagi.networks.swagan import Generator
from wagi.training.generator import scene_latent
from wagi.training.images import ImageLoss, Scalars
from wagi.training.optim import make_optimizer
from wagi.training.stage import Phase, Stage
from wagi.training.teacher import Teacher


class Pool:
    """The last latents, so that the discriminator does not forget (e4e: 50 each of real and encoded)."""

    def __init__(self, size: int) -> None:
        self.size, self.kept = size, torch.empty(0)

    def query(self, w: Tensor, rng: torch.Generator) -> Tensor:  # N,D => N,D
        """Half of the answers are older latents, whose places the new ones take."""
        answers = []
        self.kept = self.kept.to(w)
        for row in w.detach():
            if len(self.kept) < self.size:
                self.kept = torch.cat([self.kept.view(-1, len(row)), row[None]])
                answers.append(row)
            elif torch.rand((), generator=rng) < 0.5:
                i = int(torch.randint(self.size, (), generator=rng))
                answers.append(self.kept[i].clone())
                self.kept[i] = row
            else:
                answers.append(row)
        return torch.stack(answers)


class EncoderStage(Stage):
    """Trains `encoder`; with lambda_adv also the latent discriminator.

    teacher: whose codes lambda_teacher draws the encoder's to; saved nowhere.
    """

    name = "encoder"
    config: EncoderConfig

    def __init__(
        self,
        model_config: ModelConfig,
        config: EncoderConfig,
        parts: dict[str, nn.Module],
        files: FeatureFiles,
        teacher: Teacher | None = None,
    ) -> None:
        self.model_config, self.config = model_config, config
        self.generator: Generator = parts["generator"].requires_grad_(False).eval()  # type: ignore[assignment]
        encoder = parts["encoder"] if "encoder" in parts else self._fresh(files)
        self.encoder: ProgressiveEncoder = encoder  # type: ignore[assignment]
        self.naive = NaiveInverter(self.generator, self.encoder, **model_config.reads)
        self.models, self.frozen, self.averaged = (
            {"encoder": self.encoder},
            {"generator": self.generator},
            ("encoder",),
        )
        self.optimizers = {
            "encoder": make_optimizer(
                config.optimizer, [{"params": list(self.encoder.parameters())}], config.lr
            )
        }
        self.image_loss = ImageLoss(config, files)
        self.teacher = teacher
        self.helpers = (self.image_loss,) if teacher is None else (self.image_loss, teacher)
        self.pools = {"real": Pool(config.pool), "encoded": Pool(config.pool)}
        if config.lambda_adv:
            self.discriminator = LatentDiscriminator(model_config.style_dim)
            self.models["discriminator"] = self.discriminator
            groups = [{"params": list(self.discriminator.parameters())}]
            self.optimizers["discriminator"] = make_optimizer(
                "adam", groups, config.discriminator_lr, (0.9, 0.999)
            )
        self._note_schedule()

    def _fresh(self, files: FeatureFiles) -> nn.Module:
        encoder = build_part(self.model_config, "encoder")
        if isinstance(encoder, BackboneEncoder) and files.arcface:
            encoder.initialise_from_backbone(
                load_weights(files.arcface, "--arcface", "ArcFace model_ir_se50.pth")
            )
        return encoder

    def _note_schedule(self) -> None:
        config = self.config
        last = config.progressive_start + config.progressive_every * (self.encoder.n_styles - 2)
        if config.progressive_start and config.steps <= last:
            print(
                f"note: the progressive schedule reaches all styles at step {last}, the run ends at "
                f"{config.steps}; see progressive_start and progressive_every",
                file=sys.stderr,
            )

    def progressive_stage(self, step: int) -> int | None:
        """e4e section 3.2: W only at first, then one more delta per `progressive_every` steps; None: all."""
        config = self.config
        if not config.progressive_start:
            return None
        if step < config.progressive_start:
            return 0
        stage = 1 + (step - config.progressive_start) // config.progressive_every
        return stage if stage < self.encoder.n_styles - 1 else None

    def settled(self, step: int) -> bool:
        """All styles are active."""
        return self.progressive_stage(step) is None

    def phases(self, step: int) -> list[Phase]:
        self.encoder.stage = self.progressive_stage(step)
        phases = []
        if self.config.lambda_adv:
            phases.append(Phase("discriminator", self.discriminate))
            if self.config.r1_gamma and step % self.config.r1_every == 0:
                phases.append(Phase("discriminator", self.regularise, fp32=True))
        return [*phases, Phase("encoder", self.encode)]

    def encode(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        """The losses of all steps of the encoder, and the terms of the last one."""
        model = self.model_config
        target = resize(batch["image"], model.resolution, model.image_resize)
        codes = self.teacher.codes(batch["image"]) if self.teacher else None
        found = [self._judge(offsets, target, batch, codes, rng) for offsets in self.naive.attempts(target)]
        loss = torch.stack([loss for loss, _ in found]).sum()
        return loss, {"loss": loss, **found[-1][1]}

    def _judge(
        self, offsets: Tensor, target: Tensor, batch: Item, codes: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Scalars]:
        config, ws = self.config, self.naive.latents(offsets)
        images = area_resize(self.generator(ws), self.model_config.resolution)
        loss, scalars = self.image_loss(images, target, batch.get("mask"), rng)
        # The reference drops the delta term once its schedule is over (decision 26).
        if config.lambda_delta and (self.encoder.stage is not None or not config.progressive_start):
            scalars["delta"] = delta_loss(offsets, self.encoder.stage)
            loss = loss + config.lambda_delta * scalars["delta"]
        if config.lambda_adv:
            scalars["adv"] = generator_loss(self.discriminator(self._distinct(ws).flatten(0, 1)))
            loss = loss + config.lambda_adv * scalars["adv"]
        if codes is not None:
            scalars["teacher"] = (ws.float() - codes).square().mean()
            loss = loss + config.lambda_teacher * scalars["teacher"]
        return loss, scalars

    def _distinct(self, ws: Tensor) -> Tensor:
        """The latents that may differ at this stage."""
        return ws[:, : self.encoder.n_deltas + 1]

    def _pairs(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(real, encoded) latents [N, style_dim], each from its pool."""
        generator, image = self.generator, batch["image"]
        with torch.no_grad():
            if self.model_config.param_dim and "params" in batch:
                z = scene_latent(batch["params"], generator.style_dim, rng)
            else:
                z = torch.randn(len(image), generator.style_dim, generator=rng).to(image.device)
            real = generator.map(z)
            ws = self._distinct(self.naive.encode(image))
            chosen = torch.randint(ws.shape[1], (len(ws),), generator=rng).to(ws.device)
            encoded = ws[torch.arange(len(ws), device=ws.device), chosen]
        return self.pools["real"].query(real, rng), self.pools["encoded"].query(encoded, rng)

    def discriminate(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        real, encoded = self._pairs(batch, rng)
        loss = discriminator_loss(self.discriminator(real), self.discriminator(encoded))
        return loss, {"d_loss": loss}

    def regularise(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        real = self._pairs(batch, rng)[0].requires_grad_()
        loss = r1_penalty(self.discriminator(real), real, self.config.r1_gamma, self.config.r1_every)
        return loss, {"r1": loss}

    def state(self) -> dict:
        pools = {name: pool.kept.cpu() for name, pool in self.pools.items()}
        return {**pools, "teacher": self.teacher.digest} if self.teacher else pools

    def load_state(self, state: dict) -> None:
        if self.teacher and state["teacher"] != self.teacher.digest:
            raise UserError(
                "--teacher: this run was started with another teacher; give that checkpoint, "
                "or name another --out folder", 2,
            )  # fmt: skip
        for name, pool in self.pools.items():
            pool.kept = state[name]

    def _invert(self, models: dict, batch: Item) -> Tensor:
        models["encoder"].stage = self.encoder.stage
        naive = NaiveInverter(models["generator"], models["encoder"], **self.model_config.reads)
        return naive.image(batch["image"])

    def evaluate(self, models: dict, batch: Item) -> dict[str, float]:
        """The image loss, L2 and L_wave of the naive inversion."""
        images, model = self._invert(models, batch), self.model_config
        target = resize(batch["image"], model.resolution, model.image_resize)
        rng = torch.Generator().manual_seed(self.config.seed)
        loss, _ = self.image_loss(area_resize(images, model.resolution), target, batch.get("mask"), rng)
        images = images.clamp(-1, 1)
        return {
            "loss": float(loss),
            "l2": float(l2_loss(images, batch["image"])),
            "wave": float(wavelet_loss(images, batch["image"])),
        }

    def grid(self, models: dict, batch: Item) -> tuple[Tensor, int]:
        """Rows: data, naive inversion."""
        return torch.cat([batch["image"], self._invert(models, batch)]), len(batch["image"])
