"""Scenes that a generator draws: its own pictures, in the folder that the flow aligner is trained on."""

import json

import numpy as np
import pytest
import torch

from tests.training_helpers import run, save_tiny_model
from wagi import checkpoint, config, scenes
from wagi.model import area_resize
from wagi.networks.flow_alignment import Alignment, warp
from wagi.portraits import dataset, vector
from wagi.portraits.edits import BASE, PER_SCENE, TURNED
from wagi.training import flow as stage
from wagi.training.drawn import Edits, Scenes, read_edits
from wagi.training.scenes import ScenePairs
from wagi_rt.directions import Direction, write

COUNT, SIZE = 25, 32
SPANS = {"yaw": (-2.0, 2.0), "hair": (0.0, 1.5), "smile": None}


def make_world(root, **settings):
    """A tiny model, and a folder of directions in its latents: one of a W+, one without a range."""
    save_tiny_model(root / "model.pt", **settings)
    generator = checkpoint.load_generator(root / "model.pt")
    rng = np.random.default_rng(3)
    (root / "directions").mkdir()
    for name, span in SPANS.items():
        shape = (generator.n_latent, generator.style_dim) if name == "hair" else (generator.style_dim,)
        vector = rng.standard_normal(shape).astype(np.float32)
        origin = checkpoint.weights_hash(generator)
        path = root / "directions" / f"{name}.safetensors"
        write(path, Direction(name, vector, range=span, generator=origin))
    return root


def arguments(root, out, *options, count=COUNT):
    given = ["--model", str(root / "model.pt"), "--directions", str(root / "directions"), "--out", str(out)]
    given += ["--views", "yaw", "--count", str(count), "--device", "cpu", "--threads", "1", "--quiet"]
    return [*given, *options]


def draw(root, out, *options, count=COUNT):
    return scenes.main(arguments(root, out, *options, count=count))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Of a generator that reads noise, as a trained SWAGAN does."""
    root = make_world(tmp_path_factory.mktemp("drawn"), param_dim=0)
    assert draw(root, root / "scenes") == 0
    return root


def test_pictures_are_the_generators_at_shifted_latents(world):
    """Every picture again from G0 alone: the latents of a scene's five differ by multiples of directions."""
    generator = checkpoint.load_generator(world / "model.pt")
    edits = read_edits(world / "directions", ["yaw"], 0.5, generator, "")
    drawn = Scenes(generator, edits, 1, 0, 1.0)
    vectors = {one.name: one.shift(1, generator.n_latent) for one in edits.appearance + edits.views}
    images = np.load(world / "scenes" / "images.npy", mmap_mode="r")
    used, w_means = set(), []
    for number in range(8):
        ws = drawn.latents(number).numpy()
        w_means.append(ws[0])
        steps = [ws[k] - ws[0] for k in range(PER_SCENE)]
        np.testing.assert_allclose(steps[4], steps[1] + steps[3], atol=1e-4)
        for k, names in ((1, {"hair", "smile"}), (2, {"hair", "smile"}), (3, {"yaw"})):
            matches = {}
            for name in names:
                strength = float((steps[k] * vectors[name]).sum() / np.square(vectors[name]).sum())
                if np.allclose(steps[k], strength * vectors[name], atol=1e-4):
                    matches[name] = strength
            ((name, strength),) = matches.items()
            low, high = SPANS[name] or (-0.5, 0.5)
            assert low <= strength <= high and abs(strength) > (high - low) / 9
            used.add((name, strength > 0))
    assert used >= {("yaw", True), ("yaw", False), ("hair", True)} and ("hair", False) not in used
    assert min(np.abs(a - b).max() for i, a in enumerate(w_means) for b in w_means[:i]) > 0.1
    # The folder was drawn with --strength 1.
    drawn = drawn._replace(edits=edits._replace(strength=1.0))
    for number in (0, 24):
        with torch.no_grad():
            wanted = generator(drawn.latents(number)).clamp(-1, 1).movedim(1, -1).numpy() * 127.5 + 127.5
        found = images[number * PER_SCENE : (number + 1) * PER_SCENE]
        assert np.abs(found - wanted).max() <= 0.51


def test_pairs_have_no_flow_where_the_view_differs(world):
    pairs = ScenePairs(world / "scenes", SIZE)
    assert len(pairs) == 500 and pairs.param_dim == 0
    seen = set()
    for index in range(0, 500, 23):
        item = pairs.get(index)
        a, b = (int(n) % PER_SCENE for n in item["pictures"])
        same = TURNED[a] == TURNED[b]
        seen.add(same)
        assert not item["flow"].any() and bool(item["seen"].all()) == same == bool(item["seen"].any())
        assert not item["mask"].any() and item["params"].shape == (0,)
        first = int(item["pictures"][0]) // PER_SCENE * PER_SCENE
        base = pairs.pictures.get(first + BASE[b])["image"]
        assert torch.equal(item["edited_base"], base)
    assert seen == {True, False}


def test_a_killed_run_goes_on_and_others_are_refused(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("wagi.training.drawn.SAVE_EVERY", 2)
    whole = np.load(world / "scenes" / "images.npy")
    real = Scenes.pictures

    def killed(self, number):
        if number == 5:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(Scenes, "pictures", killed)
    with pytest.raises(KeyboardInterrupt):
        scenes.run(scenes.parser().parse_args(arguments(world, tmp_path / "s", count=8)))
    assert json.loads((tmp_path / "s" / "meta.json").read_text())["done"] == 4 * PER_SCENE
    monkeypatch.setattr(Scenes, "pictures", real)
    assert draw(world, tmp_path / "s", count=8) == 0
    assert "8 scenes (4 drawn now)" in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path / "s" / "images.npy"), whole[: 8 * PER_SCENE])
    assert draw(world, tmp_path / "s", "--seed", "2", count=8) == 2
    assert "holds another run (seed 1 there, 2 asked)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--views", "turn"], "--views turn: no such direction; there are hair, smile, yaw"),
        (["--views", "yaw", "smile", "hair"], "holds no direction that is not among --views"),
        (["--truncation", "0"], "--truncation 0: must be above 0"),
        (["--count", "0"], "--count 0: must be between 1"),
        (["--directions", "nowhere"], "--directions nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line(world, tmp_path, capsys, options, line):
    assert draw(world, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_another_generators_directions_are_refused(world, tmp_path, capsys):
    save_tiny_model(tmp_path / "other.pt", seed=5, param_dim=0)
    assert draw(world, tmp_path / "out", "--model", str(tmp_path / "other.pt")) == 2
    assert "another generator's latents" in capsys.readouterr().err


def test_a_distilled_generator_is_drawn_from_portraits_parameters(tmp_path):
    """z begins with the parameters of the renderer's portraits; truncation goes towards the mean of W."""
    root = make_world(tmp_path)
    generator = checkpoint.load_generator(root / "model.pt")
    given = []
    generator.style.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    edits = Edits([Direction("a", np.ones(160, np.float32))], [Direction("b", np.ones(160, np.float32))], 1.0)
    whole, half = (Scenes(generator, edits, 7, 133, t).latents(3)[0] for t in (1.0, 0.5))
    np.testing.assert_array_equal(given[0][0, :133], vector(dataset.portrait(7, 3)))
    assert given[0][0, 133:].std() > 0.5
    torch.testing.assert_close(half - generator.latent_avg, (whole - generator.latent_avg) / 2)


# ----------------------------------------------------------------------------------------------- training


def test_the_flow_aligner_trains_on_them(world, tmp_path):
    """All phases, and region weights without regions."""
    given = ["--encoder", str(world / "model.pt"), "--set", "aligner=flow", "--batch", "4", "--steps", "3"]
    given += ["--set", "flow_steps=2", "--set", "half_size_steps=1", "--set", "lr_rampdown=0"]
    given += ["--set", "region_weights=1,1,2,3,3,1,1,3,2", "--set", "holdout=4"]
    assert run("inversion", world / "scenes", tmp_path / "out", *given) == 0
    found = checkpoint.load_model(tmp_path / "out" / "checkpoint.pt")
    start = checkpoint.load_model(world / "model.pt")
    assert all(map(torch.equal, found.generator.parameters(), start.generator.parameters()))
    log = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for line in log for value in line.values() if isinstance(value, float))


def test_the_residual_may_be_far_smaller_than_the_pictures(tmp_path, monkeypatch):
    """R below half of the pictures' size, as 256 is at 1024 px: the true flow is brought down to it."""
    settings = {"size": 128, "residual_resolution": 32, "param_dim": 0}
    root = make_world(tmp_path, **settings)
    monkeypatch.setattr("wagi.training.scenes.GROUP", 2)
    assert draw(root, tmp_path / "scenes", count=2) == 0
    given = ["--encoder", str(root / "model.pt"), "--batch", "2", "--steps", "2", "--set", "flow_steps=1"]
    given += ["--set", "aligner=flow", "--set", "size=128", "--set", "residual_resolution=32"]
    assert run("inversion", tmp_path / "scenes", tmp_path / "out", *given) == 0


def test_mirrored_scenes_are_refused(world, tmp_path, capsys):
    given = ["--encoder", str(world / "model.pt"), "--set", "aligner=flow", "--set", "flip=true"]
    assert run("inversion", world / "scenes", tmp_path / "out", *given) == 2
    assert "flip=true: mirrored portraits would not fit their kept naive images" in capsys.readouterr().err


def losses(world, flow, seen):
    """The flow's losses between two views of one appearance: a picture, and the same 2 px further left."""
    rng = torch.Generator().manual_seed(0)
    wide = area_resize(torch.rand(1, 3, 36, 36, generator=rng), 18)
    wide = torch.nn.functional.interpolate(wide, size=(72, 72), mode="bilinear")[..., 4:36, :]
    image, edited = wide[..., 8:40], wide[..., 10:42]
    blank, state = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 4, 4)
    field = torch.zeros(1, 2, 8, 8)
    field[:, 0] = flow / 4
    field.requires_grad_()
    shown = torch.full((1, 1, 16, 16), float(seen))
    truth = torch.zeros(1, 2, 16, 16)
    truth[:, 0] = 1.0 if seen else 0.0
    move = stage.Move(
        image, blank, edited, blank, image, edited, state, state, truth, shown, None
    )  # fmt: skip

    class Stage(stage.FlowStage):
        def __init__(self):
            model, _ = config.settings("smoke", "inversion", {"aligner": "flow"})
            self.config, self.model = config.InversionConfig(), model

    found = Alignment(edited, (field, warp(field, field * 0)), blank, blank[:, :1])
    return field, Stage()._alignment_losses(found, move)[1]


@pytest.mark.parametrize("seen", [True, False])
def test_the_photometric_loss_counts_where_nothing_is_known_of_the_view(world, seen):
    """It is least at the true flow, known or not; the distance to a flow counts only where there is one."""
    at = {pixels: losses(world, pixels, seen)[1] for pixels in (-2.0, 0.0, 2.0, 4.0)}
    photometric = {pixels: float(one["photometric"].detach()) for pixels, one in at.items()}
    assert min(photometric, key=photometric.get) == 2.0 and photometric[2.0] < 0.5 * photometric[0.0]
    distance = {pixels: float(one["flow"].detach()) for pixels, one in at.items()}
    assert (distance[2.0], distance[0.0]) == (pytest.approx((0, 2)) if seen else (0, 0))
