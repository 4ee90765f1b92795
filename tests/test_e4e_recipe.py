"""Promise: the encoder stage is e4e's recipe (Tov et al. 2021) for a generator of 16 latents.

Losses and their weights by value, the progressive schedule by step, the latent discriminator's training.
"""

import numpy as np
import pytest
import torch
from paper_stages import make, numpy_wavelet_loss, parameters, phase, pictures, trained_by

from wagi.config import settings

LAST = 15  # a SWAGAN of 1024 px has 16 latents: 15 deltas


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


@pytest.fixture(scope="module")
def full_size():
    """The schedule of the preset, on a narrow generator of 1024 px."""
    return make("encoder", {"size": "1024", "feature_levels": "64", "wavelet_levels": ""})


@pytest.mark.parametrize(
    ("step", "deltas"),
    [(0, 0), (19999, 0), (20000, 1), (21999, 1), (22000, 2), (23999, 2), (24000, 3), (45999, 13),
     (46000, 14), (47999, 14), (48000, LAST), (10**6, LAST)],
)  # fmt: skip
def test_deltas_are_freed_one_by_one(full_size, step, deltas):
    """W only until step 20 000, then one more delta per 2000 steps; all of them from 48 000 on."""
    full_size.phases(step)
    encoder = full_size.models["encoder"]
    assert encoder.n_styles == LAST + 1 and encoder.n_deltas == deltas


def test_the_stage_decides_what_the_encoder_says():
    stage = make("encoder", {"progressive_start": "10", "progressive_every": "2"})
    encoder, x = stage.models["encoder"], pictures()["image"]
    for step, free in ((0, 0), (9, 0), (10, 1), (12, 2), (18, 5)):
        stage.phases(step)
        offsets = encoder(x)
        moved = (offsets[:, 1:] - offsets[:, :1]).abs().amax((0, 2))
        assert (moved > 0).tolist() == [k < free for k in range(5)], step


def terms(stage, batch, free: int) -> dict[str, float]:
    """e4e's terms at a stage with `free` deltas, by numpy."""
    generator, encoder = stage.frozen["generator"], stage.models["encoder"]
    with torch.no_grad():
        offsets = encoder(batch["image"])
        ws = offsets + generator.latent_avg
        y, x = generator(ws), batch["image"]
        logits = stage.models["discriminator"](ws[:, : free + 1].flatten(0, 1)).double().numpy()
    moved = (offsets - offsets[:, :1]).double().numpy()
    return {
        "l2": float(((y - x).double().numpy() ** 2).mean()),
        "delta": sum(np.linalg.norm(moved[:, k], axis=1).mean() for k in range(1, free + 1)),
        "adv": float(softplus(-logits).mean()),
    }


@pytest.mark.parametrize(("step", "free"), [(5, 0), (10, 1), (13, 2)])
def test_terms_and_total_by_value(step, free):
    """L2 1, delta 2e-4, adversarial 0.1, over the styles that may differ; no wavelet term."""
    stage, batch = make("encoder", {"progressive_start": "10", "progressive_every": "2"}), pictures()
    loss, scalars = phase(stage, step, -1).loss(batch, seeded())
    values = terms(stage, batch, free)
    assert {"l2", "delta", "adv"} <= scalars.keys()
    for name, value in values.items():
        assert scalars[name].item() == pytest.approx(value, rel=1e-4, abs=1e-7), name
    total = values["l2"] + 2e-4 * values["delta"] + 0.1 * values["adv"]
    assert loss.item() == pytest.approx(total, rel=1e-6)


def test_the_delta_term_ends_with_the_schedule():
    """The reference drops it at its last stage; without a schedule it stays, over all styles."""
    batch = pictures()
    stage = make("encoder", {"progressive_start": "10", "progressive_every": "2"})
    loss, scalars = phase(stage, 18, -1).loss(batch, seeded())
    values = terms(stage, batch, 5)
    assert "delta" not in scalars
    assert loss.item() == pytest.approx(values["l2"] + 0.1 * values["adv"], rel=1e-6)
    stage = make("encoder", {"progressive_start": "0"})
    _, scalars = phase(stage, 0, -1).loss(batch, seeded())
    values = terms(stage, batch, 5)
    assert values["delta"] > 0.1 and scalars["delta"].item() == pytest.approx(values["delta"], rel=1e-4)


def test_the_other_weights_of_the_recipe():
    _, config = settings("ffhq1024", "encoder")
    assert (config.lambda_l2, config.lambda_lpips, config.lambda_id, config.lambda_wave) == (1, 0.8, 0.1, 0)
    assert (config.optimizer, config.lr, config.batch) == ("ranger", 1e-4, 8)
    assert make("encoder").optimizers["discriminator"].param_groups[0]["lr"] == 2e-5


def test_an_optional_wavelet_term_counts_too():
    stage, batch = make("encoder", {"lambda_wave": "0.5", "lambda_adv": "0", "lambda_delta": "0"}), pictures()
    loss, _ = phase(stage, 0, -1).loss(batch, seeded())
    generator, encoder, x = stage.frozen["generator"], stage.models["encoder"], batch["image"]
    with torch.no_grad():
        y = generator(encoder(x) + generator.latent_avg)
    expected = float((y - x).square().mean()) + 0.5 * numpy_wavelet_loss(y, x)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


# --------------------------------------------------------------------------- the latent discriminator


def test_the_discriminator_tells_w_from_codes():
    """softplus(-D(map(z))) + softplus(D(w)): one code per image, drawn from those that may differ."""
    stage, batch = make("encoder", {"progressive_start": "10", "progressive_every": "2"}), pictures()
    mapped, judged = [], []
    stage.frozen["generator"].style.register_forward_hook(lambda _, args, out: mapped.append((*args, out)))
    stage.models["discriminator"].register_forward_hook(lambda _, args, out: judged.append((*args, out)))
    loss, _ = phase(stage, 12).loss(batch, seeded())
    ((z, w),), ((real, real_logits), (encoded, encoded_logits)) = mapped, judged
    assert z.shape == (4, 16) and abs(z.std().item() - 1) < 0.4 and torch.equal(real, w)
    with torch.no_grad():
        codes = stage.models["encoder"](batch["image"]) + stage.frozen["generator"].latent_avg
    distance = (codes - encoded[:, None]).abs().amax(2)
    assert (distance[:, :3].amin(1) < 1e-5).all(), "each is one of its image's first three codes"
    logits = [t.detach().double().numpy() for t in (real_logits, encoded_logits)]
    assert loss.item() == pytest.approx(softplus(-logits[0]).mean() + softplus(logits[1]).mean(), rel=1e-5)


def test_which_code_is_judged_varies():
    stage, batch = make("encoder", {"progressive_start": "0"}), pictures()
    judged = []
    stage.models["discriminator"].register_forward_hook(lambda _, args, out: judged.append(args[0]))
    with torch.no_grad():
        codes = stage.models["encoder"](batch["image"]) + stage.frozen["generator"].latent_avg
        for seed in range(12):
            phase(stage, 0).loss(batch, seeded(seed))
    chosen = [(codes - encoded[:, None]).abs().amax(2).argmin(1) for encoded in judged[1::2]]
    assert {int(k) for row in chosen for k in row} == set(range(6))


def test_r1_every_sixteen_steps_on_real_latents():
    """16 * 10 / 2 * mean |dD/dw|^2 over real w, steps 0, 16, 32, ...; only the discriminator learns of it."""
    stage, batch = make("encoder"), pictures()
    lengths = [len(stage.phases(step)) for step in range(33)]
    assert [step for step, n in enumerate(lengths) if n == 3] == [0, 16, 32] and set(lengths) == {2, 3}
    mapped = []
    stage.frozen["generator"].style.register_forward_hook(lambda _, args, out: mapped.append(out))
    penalty, _ = phase(stage, 16, 1).loss(batch, seeded())
    w = mapped[0].detach().requires_grad_()
    (slope,) = torch.autograd.grad(stage.models["discriminator"](w).sum(), w)
    assert penalty.item() == pytest.approx(16 * 5 * slope.square().sum(1).mean().item(), rel=1e-4)
    assert trained_by(stage, penalty) == {"discriminator"}


def test_each_phase_has_its_own_optimiser_and_trains_its_own_network():
    stage, batch = make("encoder"), pictures()
    phases = stage.phases(0)
    assert [p.optimizer for p in phases] == ["discriminator", "discriminator", "encoder"]
    assert trained_by(stage, phases[0].loss(batch, seeded())[0]) == {"discriminator"}
    # The encoder's loss passes through the discriminator, whose parameters the loop switches off.
    assert trained_by(stage, phases[2].loss(batch, seeded())[0]) - {"discriminator"} == {"encoder"}
    assert all(p.grad is None for name, p in parameters(stage) if name.startswith("generator"))
    for name, optimizer in stage.optimizers.items():
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in stage.models[name].parameters()}


def test_pools_answer_with_older_latents_half_of_the_time():
    """Full pools of 50: about half of the answers are older ones, and each older one leaves the pool."""
    from wagi.training.encoder import Pool

    pool, rng = Pool(50), seeded()
    rows = torch.arange(2050.0)[:, None]
    assert torch.equal(pool.query(rows[:50], rng), rows[:50]), "until it is full, what comes in goes out"
    answers = torch.cat([pool.query(rows[i : i + 8], rng) for i in range(50, 2050, 8)])
    assert len(pool.kept) == 50
    older = (answers != rows[50:]).flatten()
    assert 0.45 < older.float().mean() < 0.55
    assert (answers[older] < rows[50:][older]).all()
    assert len(answers.unique()) + len(pool.kept) == 2050, "no latent is given twice or lost"
