"""Promise: the losses of a generator's detail are what they say, against PyWavelets and numpy."""

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F
from paper_stages import make as inversion
from paper_stages import phase, pictures, trained_by
from test_distillation import HALF, Observed, expected, make, numpy, scenes
from training_helpers import run, write_portraits

from wagi.config import settings
from wagi.errors import UserError
from wagi.haar import haar
from wagi.portraits.parameters import COLUMNS
from wagi.standins.model import PortraitsFeatures, load
from wagi.training import detail
from wagi.training.generator import parameter_columns


def test_energy_tells_a_blur_from_a_shift():
    """Detail moved by a few pixels keeps its energy, blurred detail loses it; alike is zero."""
    image = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64))).float()
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), "replicate"), 3, 1)
    assert detail.energy_loss(image, image) == 0
    assert detail.energy_loss(image.roll(2, 3), image) < 0.3 * detail.energy_loss(blurred, image)
    finest = haar(image).unflatten(1, (4, 3))[:, 1:].square().mean(2)  # one level by hand: windows of 8
    expected = (F.avg_pool2d(finest, 8, 4) + 1e-4).sqrt()
    torch.testing.assert_close(detail._local_energy(haar(image), 8), expected)


def locked(error: np.ndarray) -> float:
    """Two levels: each kind of coefficient less that of the picture moved along what it measures, halved."""
    total = 0.0
    for _ in range(2):
        low, here = pywt.dwt2(error, "haar")
        moved = [pywt.dwt2(np.roll(error, 1, axis), "haar")[1] for axis in (2, 3)]
        for band, axis in enumerate((0, 1, 1)):  # vertical, horizontal and diagonal detail
            part = (here[band] - moved[axis][band]) / 2
            n, c, side, _ = part.shape
            total += np.abs(part.reshape(n, c, side // 4, 4, side // 4, 4).mean((3, 5))).mean() / 3
        error = low
    return total


def test_lock_against_pywavelets():
    x, y = np.random.default_rng(3).uniform(-1, 1, (2, 2, 3, 32, 32))
    found = detail.lock_loss(torch.from_numpy(y), torch.from_numpy(x))
    assert float(found) == pytest.approx(locked(y - x), rel=1e-6)


@pytest.mark.parametrize("period", [2, 4])
def test_lock_sees_a_grid_and_not_detail_without_one(period):
    """A checkerboard on the generator's own grid costs 1.5 times the noise of the same energy."""
    rows = torch.arange(64)[:, None] // (period // 2)
    grid = (1.0 - 2 * ((rows + rows.T) % 2))[None, None].expand(1, 3, -1, -1)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = F.interpolate(noise, scale_factor=period // 2) if period > 2 else noise
    noise = noise[..., :64, :64] / noise[..., :64, :64].std()
    flat = torch.zeros_like(grid)
    assert detail.lock_loss(grid, flat) > 1.5 * detail.lock_loss(noise, flat)


def test_terms_rise_to_their_weights():
    """The share that the images seen have reached of detail_kimg, on top of a loss that has none at first."""
    batch, plain = scenes(), None
    given = dict(lambda_energy="5", lambda_lock="20", detail_kimg="0.032", batch="16", lambda_looks="2")
    for step, share in ((0, 0.0), (1, 0.5), (2, 1.0), (9, 1.0)):
        (phase,) = make(**given).phases(step)
        loss, scalars = phase.loss(batch, torch.Generator().manual_seed(5))
        added = 5 * scalars["energy"] + 20 * scalars["lock"] + 2 * scalars["looks"]
        plain = loss.item() if plain is None else plain
        assert loss.item() == pytest.approx(plain + share * added.item(), rel=1e-5), step


def test_looks_are_those_of_the_stand_in_and_both_pictures_move_alike():
    config = settings("portraits-64", "generator", {"lambda_looks": "2", "detail_kimg": "0"})[1]
    x, y = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = detail.Detail(config)
    _, terms = found(y, x, 0, torch.Generator().manual_seed(1))
    shift = torch.randint(16, (2,), generator=torch.Generator().manual_seed(1)).tolist()
    moved = (np.roll(v.numpy(), shift, (2, 3)) for v in (y, x))
    distance = load(PortraitsFeatures)(*(torch.from_numpy(v) for v in moved)).mean()
    torch.testing.assert_close(terms["looks"], distance)
    assert float(found(x, x, 0, torch.Generator())[1]["looks"]) == pytest.approx(0, abs=1e-6)


def test_the_inversion_adds_looks_at_their_weight():
    """In the joint phase, on the decoded image against its target; nothing of it by default."""
    assert inversion("inversion").image_loss.looks is None
    stage, seen = inversion("inversion", {"ada_steps": "0", "lambda_looks": "2"}), []
    stage.image_loss.looks.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    loss, terms = phase(stage, 0).loss(pictures(), torch.Generator().manual_seed(5))
    ((y, x, _),) = seen
    assert torch.equal(x, pictures()["image"]) and not torch.equal(x, y)
    stage.image_loss.looks = None
    without, others = phase(stage, 0).loss(pictures(), torch.Generator().manual_seed(5))
    added = 2 * terms["looks"].item()
    assert added > 1e-4 and loss.item() == pytest.approx(without.item() + added, rel=1e-5)
    assert "looks" not in others and trained_by(stage, terms["looks"]) == {"aligner", "fusion"}


def test_a_linear_map_reads_the_named_parameters():
    batch = scenes()
    stage = make(lambda_read="3", read="roll,yaw")
    seen = Observed(stage, batch)
    reader = stage.models["reader"]
    read = numpy(seen.encoded[:, 0]) @ numpy(reader.weight).T + numpy(reader.bias)
    error = ((read - numpy(batch["params"])[HALF:][:, [2, 0]]) ** 2).mean()
    assert seen.scalars["read"].item() == pytest.approx(error, rel=1e-5)
    values = expected(seen, batch)
    rest = 10 * (values["l1"] + 0.25 * values["wave"]) + 3 * values["w"] + values["delta"]
    assert seen.loss.item() == pytest.approx(rest + 3 * error, rel=1e-5)
    learned = [p for group in stage.optimizers["generator"].param_groups for p in group["params"]]
    assert any(p is reader.weight for p in learned)


def test_parameters_are_found_by_name():
    assert parameter_columns(("smile", "glasses=none"), 133) == [
        COLUMNS.index("smile"),
        COLUMNS.index("glasses=none"),
    ]
    for names, said in ((("grin",), "read=grin"), ((), "read=")):
        with pytest.raises(UserError, match=said):
            parameter_columns(names, 133)


@pytest.mark.parametrize(("share", "mapped"), [("0.5", 2), ("0.25", 1), ("0", 0), ("1", 3)])
def test_share_of_a_batch_from_its_parameters(share, mapped):
    assert make(mapped_share=share).mapped(4) == mapped


def test_change_counts_a_small_edit_as_much_as_a_large_one():
    """By numpy; a copy of the source misses all of a change, whatever its area; other changes cost, too."""
    change = np.zeros((2, 3, 32, 32), np.float32)
    change[0, :, 4:8, 4:8], change[1] = 1.0, 1.0
    found = 0.25 * change
    found[0, :, 20:24, 20:24] = 1.0
    missed = [(((f - c) ** 2).sum()) / ((c**2).sum() + 10) for f, c in zip(found, change, strict=True)]
    error = detail.change_error(torch.from_numpy(found), torch.from_numpy(change))
    assert error.item() == pytest.approx(np.mean(missed), rel=1e-6)
    nothing = detail.change_error(torch.zeros(2, 3, 32, 32), torch.from_numpy(100 * change))
    assert nothing.item() == pytest.approx(1, abs=1e-3)


def test_change_is_that_between_the_pictures_that_the_encoder_reads():
    """Eight pictures of four pairs; the first is decoded from its parameters, so three pairs are compared."""
    first, second = scenes(), scenes()
    edited = {"edited": -second["image"], "edited_params": second["params"], "edited_mask": second["mask"]}
    stage = make(lambda_edit="6", mapped_share="0.125")
    (phase,) = stage.phases(1)
    made = []
    handle = stage.generator.register_forward_hook(lambda _, args, out: made.append(out))
    loss, scalars = phase.loss({**first, **edited}, torch.Generator().manual_seed(5))
    handle.remove()
    images, target = made[0], torch.cat([first["image"], edited["edited"]])
    assert images.shape == target.shape
    pairs = [(numpy(images[k + 4] - images[k]), numpy(target[k + 4] - target[k])) for k in (1, 2, 3)]
    error = np.mean([((f - c) ** 2).sum() / ((c**2).sum() + 10) for f, c in pairs])
    assert scalars["change"].item() == pytest.approx(error, rel=1e-5)
    (without,) = make(mapped_share="0.125").phases(1)
    plain, _ = without.loss({**first, **edited}, torch.Generator().manual_seed(5))
    assert loss.item() == pytest.approx(plain.item() + 6 * error, rel=1e-5)


def test_change_needs_scenes(tmp_path, capsys):
    data = write_portraits(tmp_path / "p")
    assert run("generator", data, tmp_path / "run", "--set", "lambda_edit=6", "--steps", "1") == 2
    assert "--data" in (said := capsys.readouterr().err) and "no scenes of edits" in said
