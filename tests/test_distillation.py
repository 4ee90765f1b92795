"""Promise: `mode=distill` teaches generator and encoder from rendered scenes as documented, by value."""

import numpy as np
import pytest
import pywt
import torch
from export_models import randomised
from paper_stages import TINY, pictures, trained_by

from wagi.config import settings
from wagi.training.generator import make_stage

PARAMETERS, HALF = 5, 2
REGIONS = (0.5, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0)  # of the portraits presets


def make(**overrides: str):
    torch.manual_seed(1)
    chosen = {**TINY, "param_dim": str(PARAMETERS), **overrides}
    made = make_stage(*settings("portraits-64", "generator", chosen))
    randomised(made.encoder)
    made.train_mode()
    return made


def scenes() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    mask = torch.randint(0, 9, (4, 32, 32), generator=rng, dtype=torch.uint8)
    return {**pictures(), "params": torch.randn(4, PARAMETERS, generator=rng), "mask": mask}


class Observed:
    """One step: what the mapping network and the generator were fed, and what they gave."""

    def __init__(self, stage, batch) -> None:
        generator = stage.generator
        mapped, made = [], []
        handles = [
            module.register_forward_hook(lambda _, args, out, into=into: into.append((args[0], out)))
            for module, into in ((generator.style, mapped), (generator, made))
        ]
        (only,) = [p for p in stage.phases(1) if p.optimizer == "generator"]
        self.loss, self.scalars = only.loss(batch, torch.Generator().manual_seed(5))
        for handle in handles:
            handle.remove()
        ((self.z, self.w),), ((self.ws, self.images),) = mapped, made
        with torch.no_grad():
            self.encoded = stage.encoder(batch["image"][HALF:]) + generator.latent_avg


def numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def expected(seen: Observed, batch) -> dict[str, float]:
    """The four terms by numpy and PyWavelets; each pixel weighs by its region, with mean one."""
    error = numpy(seen.images - batch["image"])
    weights = np.array(REGIONS)[batch["mask"].numpy()][:, None]
    weights = weights / weights.mean()
    wave = 0.0
    for level, bands in enumerate(reversed(pywt.wavedec2(error, "haar", level=3, axes=(2, 3))[1:]), 1):
        side = 32 >> level
        averaged = weights.reshape(4, 1, side, 1 << level, side, 1 << level).mean((3, 5))
        wave += np.mean([(np.abs(band) * averaged).mean() for band in bands])
    encoded = numpy(seen.encoded)
    return {
        "l1": (np.abs(error) * weights).mean(),
        "wave": wave,
        "w": ((numpy(seen.w)[HALF:] - encoded[:, 0]) ** 2).mean(),
        "delta": ((encoded[:, 1:] - encoded[:, :1]) ** 2).mean(),
    }


def test_half_is_decoded_from_the_scene_and_half_from_the_image():
    stage, batch = make(), scenes()
    seen = Observed(stage, batch)
    assert torch.equal(seen.z[:, :PARAMETERS], batch["params"]), "z begins with the scene's parameters"
    rest = seen.z[:, PARAMETERS:]
    assert rest.shape == (4, 16 - PARAMETERS) and 0.5 < rest.std() < 1.5, "and is filled up with noise"
    torch.testing.assert_close(seen.ws[:HALF], seen.w[:HALF, None].expand_as(seen.ws[:HALF]))
    torch.testing.assert_close(seen.ws[HALF:], seen.encoded)


def test_terms_and_total_by_value():
    """10 (L1 + 0.25 wavelet L1) + 3 |map - E0|^2 + |offsets|^2."""
    batch = scenes()
    seen = Observed(make(), batch)
    values = expected(seen, batch)
    for name in ("wave", "w", "delta"):
        assert seen.scalars[name].item() == pytest.approx(values[name], rel=1e-4), name
    parts = [10 * values["l1"], 10 * 0.25 * values["wave"], 3 * values["w"], values["delta"]]
    assert seen.loss.item() == pytest.approx(sum(parts), rel=1e-5)
    assert min(parts) > 1e-3 * sum(parts), parts


def test_an_adversary_adds_its_term():
    batch = scenes()
    stage = make(lambda_adv="0.5")
    seen = Observed(stage, batch)
    values = expected(seen, batch)
    rest = 10 * (values["l1"] + 0.25 * values["wave"]) + 3 * values["w"] + values["delta"]
    with torch.no_grad():
        logits = numpy(stage.discriminator(seen.images))
    assert seen.loss.item() == pytest.approx(rest + 0.5 * np.log1p(np.exp(-logits)).mean(), rel=1e-5)
    assert [p.optimizer for p in stage.phases(1)] == ["discriminator", "generator"]
    loss, _ = stage.phases(1)[0].loss(batch, torch.Generator().manual_seed(5))
    assert trained_by(stage, loss) == {"discriminator"}


def test_latent_avg_follows_the_scenes_while_training_only():
    stage, batch = make(latent_avg_beta="0.5"), scenes()
    seen = Observed(stage, batch)
    torch.testing.assert_close(stage.generator.latent_avg, 0.5 * seen.w.detach().mean(0))
    before = stage.generator.latent_avg.clone()
    with torch.no_grad():
        stage.evaluate({"generator": stage.generator, "encoder": stage.encoder}, batch)
    assert torch.equal(stage.generator.latent_avg, before)


def test_the_discriminators_phases_leave_latent_avg_alone():
    """Else each step would move it several times."""
    stage = make(lambda_adv="0.1", r1_every="1")
    stage.generator.latent_avg.fill_(1)
    for phase in stage.phases(0)[:2]:
        assert phase.optimizer == "discriminator"
        phase.loss(scenes(), torch.Generator().manual_seed(5))
    assert torch.equal(stage.generator.latent_avg, torch.ones(16))


@pytest.mark.parametrize(("adversary", "beta"), [("0", 0.9), ("0.1", 0.0)])
def test_three_rates(adversary, beta):
    """The mapping network's stored weights are a hundred times what acts: it learns at a rate of its own."""
    stage = make(lambda_adv=adversary)
    rates = {id(p): g["lr"] for g in stage.optimizers["generator"].param_groups for p in g["params"]}
    mapping = list(stage.generator.style.parameters())
    synthesis = [p for key, p in stage.generator.named_parameters() if not key.startswith("style")]
    for own, rate in ((synthesis, 2e-3), (mapping, 0.5), (list(stage.encoder.parameters()), 1e-3)):
        assert {rates.pop(id(p)) for p in own} == {rate}
    assert not rates
    assert all(g["betas"] == (beta, 0.99) for g in stage.optimizers["generator"].param_groups)
