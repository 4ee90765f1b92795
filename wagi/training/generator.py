"""Stage 1, the generator: adversarial from noise (`gan`, the paper's G0), or distilled from a renderer.

gan: SWAGAN as published: non-saturating loss, lazy R1 and path length, style mixing.
distill: z = (scene parameters, noise) -> mapping -> w. Half of a batch decodes w = map(parameters), the other
half w = E0(image), so generator and encoder learn each other; optionally with terms for detail, for codes
that can be edited, and an adversarial one.
"""

from functools import partial

import torch
from torch import Tensor, nn

from wagi.config import GeneratorConfig, ModelConfig
from wagi.data import Item
from wagi.errors import UserError
from wagi.losses import (
    discriminator_loss,
    generator_loss,
    l2_loss,
    path_length_penalty,
    r1_penalty,
    wavelet_loss,
)
from wagi.model import NaiveInverter
from wagi.networks.build import build_part
from wagi.networks.e4e import ProgressiveEncoder
from wagi.networks.swagan import Discriminator, Generator
from wagi.portraits.parameters import COLUMNS
from wagi.training.detail import Detail, change_error
from wagi.training.images import RegionWeights, Scalars, wavelet_l1, weighted_mean
from wagi.training.optim import make_optimizer
from wagi.training.scenes import with_edits
from wagi.training.stage import Phase, Stage


def lazy_betas(every: int) -> tuple[float, float]:
    """Adam's betas (0, 0.99) for a network regularised every `every` steps (StyleGAN2, appendix B)."""
    ratio = every / (every + 1)
    return 0.0, 0.99**ratio


class Adversarial(Stage):
    """The discriminator's phases, which both modes share."""

    config: GeneratorConfig
    name = "generator"

    def __init__(self, model_config: ModelConfig, config: GeneratorConfig) -> None:
        self.model_config, self.config = model_config, config
        self.generator: Generator = build_part(model_config, "generator")  # type: ignore[assignment]
        self.models = {"generator": self.generator}
        self.frozen, self.optimizers, self.averaged = {}, {}, ("generator",)

    def add_discriminator(self) -> None:
        model, config = self.model_config, self.config
        self.discriminator = Discriminator(model.size, model.channel_multiplier, model.max_channels)
        self.models["discriminator"] = self.discriminator
        ratio = config.r1_every / (config.r1_every + 1)
        self.optimizers["discriminator"] = make_optimizer(
            "adam", [{"params": list(self.discriminator.parameters())}], config.lr * ratio,
            betas=lazy_betas(config.r1_every),
        )  # fmt: skip

    def discriminator_phases(self, step: int) -> list[Phase]:
        phases = [Phase("discriminator", self.discriminate)]
        if self.config.r1_gamma and step % self.config.r1_every == 0:
            phases.append(Phase("discriminator", self.regularise_discriminator, fp32=True))
        return phases

    def fake(self, batch: Item, rng: torch.Generator) -> Tensor:
        raise NotImplementedError

    def discriminate(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        with torch.no_grad():
            fake = self.fake(batch, rng)
        loss = discriminator_loss(self.discriminator(batch["image"]), self.discriminator(fake))
        return loss, {"d_loss": loss}

    def regularise_discriminator(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        real = batch["image"].detach().requires_grad_()
        loss = r1_penalty(self.discriminator(real), real, self.config.r1_gamma, self.config.r1_every)
        return loss, {"r1": loss}

    @torch.no_grad()
    def track_latents(self, w: Tensor) -> None:
        """`latent_avg`: the running mean of W (official: beta 0.995)."""
        self.generator.latent_avg.lerp_(w.float().mean(0), 1 - self.config.latent_avg_beta)


class GanStage(Adversarial):
    """G0 from noise."""

    def __init__(self, model_config: ModelConfig, config: GeneratorConfig) -> None:
        super().__init__(model_config, config)
        ratio = config.path_every / (config.path_every + 1)
        self.optimizers["generator"] = make_optimizer(
            "adam", [{"params": list(self.generator.parameters())}], config.lr * ratio,
            betas=lazy_betas(config.path_every),
        )  # fmt: skip
        self.add_discriminator()
        self.mean_length = torch.zeros(())

    def phases(self, step: int) -> list[Phase]:
        phases = [*self.discriminator_phases(step), Phase("generator", self.generate)]
        if self.config.path_weight and step % self.config.path_every == 0:
            phases.append(Phase("generator", self.regularise_path, fp32=True))
        return phases

    def sample_ws(self, n: int, rng: torch.Generator) -> Tensor:  # => n, n_latent, style_dim
        """Latents of random z, two of them mixed with probability `mixing`."""
        generator, device = self.generator, self.generator.latent_avg.device
        z = torch.randn(2, n, generator.style_dim, generator=rng).to(device)
        w = generator.map(z[0])
        self.track_latents(w)
        if torch.rand((), generator=rng) < self.config.mixing:
            crossover = int(torch.randint(1, generator.n_latent, (), generator=rng))
            return generator.broadcast(w, generator.map(z[1]), crossover)
        return generator.broadcast(w)

    def fake(self, batch: Item, rng: torch.Generator) -> Tensor:
        return self.generator(self.sample_ws(len(batch["image"]), rng), noise="random")

    def generate(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        loss = generator_loss(self.discriminator(self.fake(batch, rng)))
        return loss, {"g_loss": loss}

    def regularise_path(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Scalars]:
        ws = self.sample_ws(max(1, len(batch["image"]) // 2), rng)
        images = self.generator(ws, noise="random")
        self.mean_length = self.mean_length.to(images.device)
        loss, self.mean_length = path_length_penalty(
            images,
            ws,
            self.mean_length,
            self.config.path_weight,
            self.config.path_every,
            self.config.path_decay,
        )
        return loss, {"path": loss, "path_length": self.mean_length}

    def state(self) -> dict:
        return {"mean_length": self.mean_length.cpu()}

    def load_state(self, state: dict) -> None:
        self.mean_length = state["mean_length"]

    def evaluate(self, models: dict, batch: Item) -> dict[str, float]:
        """The averaged generator's share of detail: its wavelet energy over that of the data (1 is right)."""
        images = self._samples(models["generator"], len(batch["image"]))
        energies = [float(wavelet_loss(x, torch.zeros_like(x))) for x in (images, batch["image"])]
        return {"detail_energy_ratio": energies[0] / max(energies[1], 1e-9)}

    def grid(self, models: dict, batch: Item) -> tuple[Tensor, int]:
        """A row of data over rows of samples of fixed z."""
        n = len(batch["image"])
        return torch.cat([batch["image"], self._samples(models["generator"], 3 * n)]), n

    def _samples(self, generator: Generator, n: int) -> Tensor:
        rng = torch.Generator().manual_seed(self.config.seed)
        z = torch.randn(n, generator.style_dim, generator=rng).to(generator.latent_avg.device)
        return generator(generator.broadcast(generator.map(z)))


class DistillStage(Adversarial):
    """G0 and E0 from rendered portraits."""

    def __init__(self, model_config: ModelConfig, config: GeneratorConfig) -> None:
        super().__init__(model_config, config)
        if not 0 < model_config.param_dim <= model_config.style_dim:
            raise UserError(
                f"mode=distill: needs 1 to {model_config.style_dim} (style_dim) parameters per image, "
                f"the data has {model_config.param_dim}; set mode=gan, or give rendered portraits",
                2,
            )
        self.encoder: ProgressiveEncoder = build_part(model_config, "encoder")  # type: ignore[assignment]
        self.models["encoder"] = self.encoder
        self.averaged = ("generator", "encoder")
        # The mapping network stores its weights a hundred times larger than they act (lr_mul 0.01), which all
        # but freezes it; here it has to learn as fast as the rest.
        mapping = set(self.generator.style.parameters())
        groups: list[dict] = [
            {"params": [p for p in self.generator.parameters() if p not in mapping]},
            {"params": list(self.generator.style.parameters()), "lr": config.mapping_lr},
            {"params": list(self.encoder.parameters()), "lr": config.encoder_lr},
        ]
        if config.lambda_read:
            self.columns = parameter_columns(config.read, model_config.param_dim)
            self.models["reader"] = nn.Linear(model_config.style_dim, len(self.columns))
            # Codes spread an eighth around their mean, so the reader's weights have a long way to go.
            groups.append({"params": list(self.models["reader"].parameters()), "lr": 10 * config.encoder_lr})
        betas = (0.0, 0.99) if config.lambda_adv else (0.9, 0.99)
        self.optimizers["generator"] = make_optimizer(config.optimizer, groups, config.lr, betas)
        self.regions = RegionWeights(config.region_weights)
        if config.lambda_adv:
            self.add_discriminator()
        self.detail = Detail(config)
        self.helpers = (self.detail,)

    def phases(self, step: int) -> list[Phase]:
        adversarial = self.discriminator_phases(step) if self.config.lambda_adv else []
        return [*adversarial, Phase("generator", partial(self.distill, step=step))]

    def decode(self, batch: Item, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(images, codes of those that E0 reads [n, n_latent, w], and by the mapping network [n, w])."""
        generator, image, params = self.generator, batch["image"], batch["params"]
        half = self.mapped(len(image))
        w = generator.map(scene_latent(params, generator.style_dim, rng))
        if torch.is_grad_enabled():
            self.track_latents(w)
        encoded = NaiveInverter(generator, self.encoder, **self.model_config.reads).encode(image[half:])
        ws = torch.cat([generator.broadcast(w[:half]), encoded])
        return generator(ws), encoded, w[half:]

    def mapped(self, n: int) -> int:
        """Number of n images that are decoded from their parameters; E0 reads at least one."""
        return min(round(self.config.mapped_share * n), n - 1)

    def fake(self, batch: Item, rng: torch.Generator) -> Tensor:
        return self.decode(batch, rng)[0]

    def distill(self, batch: Item, rng: torch.Generator, step: int) -> tuple[Tensor, Scalars]:
        """lambda_image (L1 + lambda_wave wavelet L1), weighted by region, + lambda_w |map(p) - E0(x)|^2
        + lambda_delta (mean square of E0's offsets between layers), and what `Detail` and the reader add.

        The mapping network follows E0 and not the other way: drawn towards each other, both gave up what the
        other could not tell, until W had a tenth of its spread and E0 wrote everything into the offsets.
        """
        config, pairs, batch = self.config, len(batch["image"]), with_edits(batch)
        target, weights = batch["image"], self.regions(batch.get("mask"))
        images, encoded, mapped = self.decode(batch, rng)
        errors = (images - target).abs()
        wave = wavelet_l1(images, target, weights)
        latent = l2_loss(mapped, encoded[:, 0].detach())
        delta = l2_loss(encoded[:, 1:], encoded[:, :1].expand_as(encoded[:, 1:]))
        loss = config.lambda_image * (weighted_mean(errors, weights) + config.lambda_wave * wave)
        loss = loss + config.lambda_w * latent + config.lambda_delta * delta
        half = self.mapped(len(target))
        scalars = {"l1_map": errors[:half].mean(), "l1_enc": errors[half:].mean(), "wave": wave, "w": latent}
        scalars["delta"] = delta
        detail, terms = self.detail(images, target, step, rng)
        loss, scalars = loss + detail, {**scalars, **terms}
        if config.lambda_edit:
            scalars["change"] = change_error(
                *(x[pairs + half :] - x[half:pairs] for x in (images, target))  # those that E0 reads
            )
            loss = loss + config.lambda_edit * scalars["change"]
        if config.lambda_read:
            # An edit needs a direction: what no linear map reads from the code, none can change.
            read = self.models["reader"](encoded[:, 0])
            scalars["read"] = l2_loss(read, batch["params"][half:, self.columns])
            loss = loss + config.lambda_read * scalars["read"]
        if config.lambda_adv:
            adversarial = generator_loss(self.discriminator(images))
            loss = loss + config.lambda_adv * adversarial
            scalars["g_adv"] = adversarial
        return loss, {"loss": loss, **scalars}

    def _mapped(self, generator: Generator, params: Tensor) -> Tensor:
        rng = torch.Generator().manual_seed(self.config.seed)
        return generator(generator.broadcast(generator.map(scene_latent(params, generator.style_dim, rng))))

    def evaluate(self, models: dict, batch: Item) -> dict[str, float]:
        """Image loss, L2 and L_wave of the averaged models' two paths; what G0(E0(x)) misses of an edit."""
        generator, target, result = models["generator"], batch["image"], {"loss": 0.0}
        weights = self.regions(batch.get("mask"))
        naive = NaiveInverter(generator, models["encoder"], **self.model_config.reads)
        found = {"map": self._mapped(generator, batch["params"]), "enc": naive.image(batch["image"])}
        for name, images in found.items():
            wave = self.config.lambda_wave * wavelet_l1(images, target, weights)
            result["loss"] += float(weighted_mean((images - target).abs(), weights) + wave) / len(found)
            images = images.clamp(-1, 1)
            result[f"l2_{name}"] = float(l2_loss(images, target))
            result[f"wave_{name}"] = float(wavelet_loss(images, target))
        if self.config.lambda_edit:
            change = naive.image(batch["edited"]) - found["enc"]
            result["change"] = float(change_error(change, batch["edited"] - batch["image"]))
        return result

    def grid(self, models: dict, batch: Item) -> tuple[Tensor, int]:
        """Rows: data, G(map(parameters)), G(E0(data))."""
        generator, image = models["generator"], batch["image"]
        found = NaiveInverter(generator, models["encoder"], **self.model_config.reads).image(image)
        return torch.cat([image, self._mapped(generator, batch["params"]), found]), len(image)


def scene_latent(params: Tensor, style_dim: int, rng: torch.Generator) -> Tensor:  # N,P => N,style_dim
    """z of a distilled generator: the scene's parameters, filled up with noise."""
    n, p = params.shape
    noise = torch.randn(n, style_dim - p, generator=rng).to(params)
    return torch.cat([params, noise], dim=1)


def parameter_columns(names: tuple[str, ...], param_dim: int) -> list[int]:
    """Indices of the named parameters in a portrait's vector. UserError for another name."""
    if unknown := [name for name in names if name not in COLUMNS[:param_dim]]:
        raise UserError(f"read={unknown[0]}: no such parameter; choose from {', '.join(COLUMNS)}", 2)
    if not names:
        raise UserError("read=: name the parameters to read, or set lambda_read=0", 2)
    return [COLUMNS.index(name) for name in names]


def make_stage(model_config: ModelConfig, config: GeneratorConfig) -> Adversarial:
    return DistillStage(model_config, config) if config.mode == "distill" else GanStage(model_config, config)
