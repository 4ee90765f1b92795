"""StyleCLIP's latent optimisation and mapper: losses, groups, files, and pictures nearer to the text."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_bundle import error_line, run_cli
from torch.nn.functional import cosine_similarity

import wagi_rt
from tests.tolerances import EXPORT_ATOL
from wagi import checkpoint, config, directions
from wagi.checkpoint import weights_hash
from wagi.editing import latent, mapping, towers
from wagi.editing.settings import DEFAULTS, Settings
from wagi.editing.towers import TextLoss, Towers
from wagi.errors import UserError
from wagi.networks.build import PARTS
from wagi.networks.clip import CLIP, TextSize, VisionSize
from wagi.networks.mapper import Mapper
from wagi.networks.swagan import Generator
from wagi.standins.model import PortraitsID, load
from wagi_rt.probes import images

TEXT = "a face with a red background"


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(2)
    return Generator(32, style_dim=16, n_mlp=1, channel_multiplier=0.25, max_channels=16).eval()


def redness(found, _=None):
    """A loss of each picture that needs no network."""
    return (found - torch.tensor([1.0, -1, -1])[:, None, None]).square().mean((1, 2, 3))


# ---------------------------------------------------------------------------------------------- the mapper


def test_a_mapper_has_the_published_names_and_groups():
    mapper = Mapper(18, 512)
    groups = ("course_mapping", "medium_mapping", "fine_mapping")
    names = {f"{g}.mapping.{k}.{kind}" for g in groups for k in range(1, 5) for kind in ("weight", "bias")}
    assert mapper.state_dict().keys() == names
    ws = torch.randn(2, 18, 512)
    for group, latents in enumerate((range(4), range(4, 8), range(8, 18))):
        moved = ws.clone()
        moved[:, list(latents)] += torch.randn(2, len(latents), 512)
        changed = (mapper(moved) - mapper(ws)).abs().sum((0, 2)) > 0
        assert np.flatnonzero(changed).tolist() == list(latents), group
    assert not hasattr(Mapper(8, 16), "fine_mapping") and Mapper(6, 16)(torch.randn(1, 6, 16)).shape[1] == 6


def test_a_mappers_step_by_value():
    """A tenth of: norm over the group's latents, then four layers of equal rates 0.01 with leaky ReLUs."""
    torch.manual_seed(3)
    mapper, ws = Mapper(10, 8), torch.randn(2, 10, 8)
    state = {name: value.double().numpy() for name, value in mapper.state_dict().items()}
    x = ws[:, 4:8].double().numpy()
    x = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-8)
    for k in range(1, 5):
        weight, bias = (state[f"medium_mapping.mapping.{k}.{kind}"] for kind in ("weight", "bias"))
        x = x @ (weight * 0.01 / math.sqrt(8)).T + 0.01 * bias
        x = np.where(x > 0, x, 0.2 * x) * math.sqrt(2)
    np.testing.assert_allclose(mapper(ws)[:, 4:8].detach(), 0.1 * x, atol=1e-5)


# -------------------------------------------------------------------------------------------------- losses


def test_the_loss_of_a_text_by_value():
    torch.manual_seed(0)
    network = CLIP(TextSize(64, 1, 8, 516, 12), VisionSize(64, 1, 8, 16)).eval()
    clip = Towers("tiny", network, [("l", "o"), ("lo", "w</w>")])
    x, y = (torch.from_numpy(images(32, seed, batch=3)) for seed in (1, 2))
    identity = load(PortraitsID)
    found = TextLoss(clip, "low", identity, 0.3)(x, y)
    text = network.encode_text(torch.tensor([[514, 513, 515, 0, 0, 0, 0, 0]]))
    near, same = cosine_similarity(network.image(x), text), cosine_similarity(*map(identity.embed, (x, y)))
    assert torch.allclose(found, 1 - near + 0.3 * (1 - same), atol=1e-5)
    assert torch.allclose(TextLoss(clip, "low", None, 0.3)(x, y), 1 - near, atol=1e-5)


def test_the_defaults_are_the_published_ones():
    assert DEFAULTS["latent"] == (300, 0.1, 0.008, 0.005)
    assert DEFAULTS["mapper"][1:] == (0.5, 0.8, 0.1)


def test_latent_optimisation_is_adams_on_the_published_loss(generator):
    """The same by torch's scheduler and a loss written out; pictures do not influence one another."""
    ws = torch.randn(2, generator.n_latent, 16, generator=torch.Generator().manual_seed(5))
    steps, weight = 20, 0.02
    found = latent.optimise(generator, ws, redness, Settings(steps, 0.1, weight, 0.0))
    alone = latent.optimise(generator, ws[:1], redness, Settings(steps, 0.1, weight, 0.0))
    assert torch.allclose(found[:1], alone, atol=1e-4)

    def rate(step):  # up over 5 % of the run, down by a cosine over the last quarter
        left = 1 - step / steps
        down = 0.5 - 0.5 * math.cos(math.pi * left / 0.25) if left < 0.25 else 1.0
        return down * min(1.0, step / (0.05 * steps))

    wanted = ws[:1].clone().requires_grad_()
    optimizer = torch.optim.Adam([wanted], 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for _ in range(steps):
        optimizer.zero_grad()
        value = redness(generator(wanted)).sum() + weight * torch.dist(wanted, ws[:1]) ** 2
        value.backward()
        optimizer.step()
        schedule.step()
    assert torch.allclose(alone, wanted, atol=1e-4) and (alone - ws[:1]).abs().max() > 0.05
    assert redness(generator(found)).max() < redness(generator(ws)).min()


def test_the_mappers_objective_by_value(generator):
    torch.manual_seed(1)
    mapper, ws = Mapper(generator.n_latent, 16), torch.randn(3, generator.n_latent, 16)

    def loss(found, originals):
        return redness(found) + 0.1 * (found - originals).abs().mean((1, 2, 3))

    found = mapping.objective(generator, mapper, ws, loss, 0.8).detach()
    with torch.no_grad():
        step = mapper(ws)
        before, after = generator(ws), generator(ws + step)
        wanted = np.mean([float(loss(a[None], b[None])) for a, b in zip(after, before, strict=True)])
    assert float(found) == pytest.approx(wanted + 0.8 * float((step**2).mean()), rel=1e-5)


def test_training_changes_the_mapper_alone(generator):
    torch.manual_seed(4)
    codes, settings = torch.randn(12, generator.n_latent, 16) / 4, Settings(30, 5.0, 0.01, 0)
    before = weights_hash(generator)
    mapper, losses = mapping.train(generator, codes[4:], redness, settings, 2)
    assert weights_hash(generator) == before
    assert all(value.grad is None for value in generator.parameters())
    again, _ = mapping.train(generator, codes[4:], redness, settings, 2)
    assert all(torch.equal(a, b) for a, b in zip(mapper.parameters(), again.parameters(), strict=True))
    assert len(losses) == 10
    with torch.no_grad():
        held = codes[:4]
        assert redness(generator(held + mapper(held))).mean() < redness(generator(held)).mean() - 0.02


# ------------------------------------------------------------------------------------------- commands, files


@pytest.fixture(scope="module")
def world(styled, tmp_path_factory):
    """The model of the session's bundle as a checkpoint, and a picture; (folder, bundle, model)."""
    import dataclasses

    root, model = tmp_path_factory.mktemp("world"), styled[1]
    settings = dataclasses.replace(config.settings("smoke", "inversion")[0], aligner="flow")
    parts = {part: checkpoint.state_of(getattr(model, part)) for part in PARTS}
    checkpoint.save(root / "model.pt", "inversion", settings, parts)
    pixels = np.random.default_rng(0).integers(60, 200, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(root / "in.png")
    return root, styled[0], model


def picture(root):
    pixels = np.asarray(Image.open(root / "in.png"))
    return torch.from_numpy(pixels / 127.5 - 1).float().movedim(-1, 0)[None]


def command(world, method, out, *words):
    every = (method, "--model", world[0] / "model.pt", "--out", out, *words)
    return directions.main([str(word) for word in every])


def test_a_latent_step_is_a_direction_of_the_runtime(world, tmp_path):
    root, bundle, model = world
    words = ("--image", root / "in.png", "--text", TEXT, "--steps", 40)
    assert command(world, "latent", tmp_path, *words) == 0
    path = tmp_path / "in-a-face-with-a-red-background.safetensors"
    step = wagi_rt.directions.read(path)
    assert step.vector.shape == (model.generator.n_latent, model.generator.style_dim)
    assert step.generator == weights_hash(model.generator) and step.unit == TEXT
    (row,) = json.loads((tmp_path / "latent-a-face-with-a-red-background.json").read_text())["rows"]
    assert row["after"] > row["similarity before"] + 0.02
    source, loss = picture(root), TextLoss(towers.portraits(), TEXT, None, 0)
    with torch.no_grad():
        edited = model.edit(source, model.encode(source) + torch.from_numpy(step.vector))
        near = loss.similarity(edited.naive.clamp(-1, 1))
    assert row["after"] == pytest.approx(float(near), abs=1e-4)
    out = tmp_path / "out.png"
    assert run_cli("edit", "-m", bundle, root / "in.png", "-o", out, "--direction", f"{path}=1") == 0
    pixels = (edited.image[0].clamp(-1, 1).movedim(0, -1).numpy() + 1) * 127.5
    assert np.abs(np.asarray(Image.open(out)) - pixels).max() < 1 + 127.5 * EXPORT_ATOL


def test_a_mapper_is_trained_kept_and_applied(world, tmp_path):
    root, _, model = world
    words = ("--text", TEXT, "--samples", 90, "--holdout", 12, "--rendered", 12, "--steps", 5)
    assert command(world, "mapper", tmp_path, *words) == 0
    name = "a-face-with-a-red-background"
    mapped, mean = json.loads((tmp_path / f"mapper-{name}.json").read_text())["rows"]
    kept = tmp_path / "mappers" / f"{name}.safetensors"
    (mapper, text), generator = mapping.load(kept, model.generator), model.generator
    z = torch.randn(90, generator.style_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        w = generator.latent_avg + 0.7 * (generator.style(z) - generator.latent_avg)
        held = w[:12, None].expand(-1, generator.n_latent, -1)
        steps, loss = mapper(held), TextLoss(towers.portraits(), TEXT, None, 0)
        near = [loss.similarity(generator(held + x).clamp(-1, 1)).mean() for x in (steps, steps.mean(0))]
    vector = wagi_rt.directions.read(tmp_path / f"{name}.safetensors").vector
    assert text == TEXT and np.abs(vector - steps.mean(0).numpy()).max() < 1e-5
    assert [mapped["after"], mean["after"]] == pytest.approx([float(x) for x in near], abs=1e-4)

    assert command(world, "mapper", tmp_path / "own", "--mapper", kept, "--image", root / "in.png") == 0
    step = wagi_rt.directions.read(tmp_path / "own" / f"in-{name}.safetensors").vector
    with torch.no_grad():
        np.testing.assert_allclose(step, mapper(model.encode(picture(root)))[0].numpy(), atol=1e-5)


def test_a_mapper_of_pictures(world, tmp_path):
    """E0's latents of a folder: of a file that is no picture there are none."""
    data = tmp_path / "data"
    data.mkdir()
    for k in range(6):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(data / f"{k}.png")
    (data / "broken.png").write_bytes((data / "0.png").read_bytes()[:900])
    words = ("--data", data, "--text", TEXT, "--steps", 2)
    assert command(world, "mapper", tmp_path / "out", *words) == 0
    note = wagi_rt.directions.read(tmp_path / "out" / "a-face-with-a-red-background.safetensors").note
    assert note.startswith("mean of 2 steps")


def test_other_files_are_no_mappers(generator, tmp_path):
    path = tmp_path / "m.safetensors"
    mapping.save(path, Mapper(generator.n_latent, 16), TEXT, weights_hash(generator), "")
    assert mapping.load(path, generator)[1] == TEXT
    with pytest.raises(UserError, match="must hold one tensor"):
        wagi_rt.directions.read(path)
    mapping.save(path, Mapper(generator.n_latent, 16), TEXT, "other", "")
    with pytest.raises(UserError, match="moves another generator's latents"):
        mapping.load(path, generator)
    wagi_rt.directions.write(path, wagi_rt.directions.Direction("a", np.ones(16, np.float32)))
    with pytest.raises(UserError, match="not a mapper"):
        mapping.load(path, generator)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latent", "--text", TEXT], "--text: latent needs --text and --image"),
        (["latent", "--text", "spectacles", "--image", "{in}"], "--text 'spectacles' is no word"),
        (["latent", "--text", TEXT, "--image", "{in}", "{in}"], "another picture makes in-a-face-with-a-red"),
        (["latent", "--text", TEXT, "--image", "{in}", "--steps", "1"], "--steps: at least 2"),
        (["latent", "--text", TEXT, "--image", "{in}", "--learning-rate", "nan"], "--steps: at least 2"),
        (["latent", "--text", TEXT, "--image", "{in}", "--mapper", "x"], "--mapper: goes with method mapper"),
        (
            ["latent", "--text", TEXT, "--image", "{in}", "--clip", "x"],
            "--vocabulary: CLIP needs both",
        ),
        (["mapper"], "--text: latent needs --text and --image, mapper --text"),
        (["mapper", "--text", TEXT, "--image", "{in}"], "--image: needs --mapper FILE"),
        (["mapper", "--mapper", "nowhere", "--image", "{in}"], "--mapper nowhere: no such file"),
        (["mapper", "--text", TEXT, "--samples", "2"], "--samples 2: 2 latents are too few"),
        (["mapper", "--text", TEXT, "--data", "nowhere"], "--data nowhere: no such folder"),
        (["sefa", "--text", TEXT], "--text: for latent and mapper only"),
    ],
)
def test_mistakes_cost_one_line(world, tmp_path, capsys, words, message):
    words = [word.replace("{in}", str(world[0] / "in.png")) for word in words]
    assert command(world, words[0], tmp_path, *words[1:]) == 2
    assert message in error_line(capsys.readouterr().err)
    assert not list(tmp_path.rglob("*.*"))


def test_a_picture_that_is_not_there(world, tmp_path, capsys):
    assert command(world, "latent", tmp_path, "--text", TEXT, "--image", "nowhere.png") == 1
    assert "--image nowhere.png: no such file" in error_line(capsys.readouterr().err)
