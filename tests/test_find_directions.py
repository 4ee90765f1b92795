"""Directions are found where they are: known worlds, scikit-learn and numpy are the authority."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from public_files import TINY, generator, write_rosinality
from sklearn.decomposition import PCA

from tests.training_helpers import save_tiny_model
from wagi import checkpoint, convert, directions
from wagi.checkpoint import weights_hash
from wagi.editing import boundaries, components, finding, judging, shifts
from wagi.editing.attributes import ATTRIBUTES, read_labels
from wagi.editing.world import World
from wagi.errors import UserError
from wagi.networks.swagan import Generator
from wagi.portraits.parameters import sample, vector
from wagi_rt.directions import read


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="module")
def swagan(tmp_path_factory):
    """A public generator in its own layout, converted."""
    root = tmp_path_factory.mktemp("swagan")
    write_rosinality(root / "public.pt", generator("swagan"), average=True)
    assert convert.main([str(root / "public.pt"), "-o", str(root / "swagan.pt")]) == 0
    return root / "swagan.pt"


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


# ------------------------------------------------------------------------------------- without labels


def test_ganspace_is_scikit_learns_pca(swagan, tmp_path):
    command = ["ganspace", "--model", str(swagan), "--out", str(tmp_path), "--components", "3"]
    assert directions.main([*command, "--samples", "300", "--seed", "4"]) == 0
    found = checkpoint.load_generator(swagan)
    z = torch.randn(300, found.style_dim, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        truth = PCA(3).fit(found.style(z).numpy())
    for k in range(3):
        stored = read(tmp_path / f"ganspace-{k:02d}.safetensors")
        assert abs(cosine(stored.vector, truth.components_[k])) > 0.9999
        assert np.linalg.norm(stored.vector) == pytest.approx(truth.explained_variance_[k] ** 0.5, rel=5e-3)
        assert (
            stored.generator == weights_hash(found) and stored.vector.max() == np.abs(stored.vector).max()
        )


def test_sefa_is_numpys_eigenvectors_of_the_style_weights():
    torch.manual_seed(0)
    found = Generator(32, style_dim=6, n_mlp=1, channel_multiplier=0.125, max_channels=8)
    state = found.state_dict()
    names = {1: "convs.0", 2: "convs.1", 3: "convs.2"}  # latent -> the convolution that it styles
    rows = np.concatenate(
        [state[f"{name}.conv.modulation.weight"].double().numpy() for name in names.values()]
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    for k, direction in enumerate(components.sefa(found, 3, range(1, 4))):
        assert abs(direction @ vectors[:, np.argsort(values)[::-1][k]]) == pytest.approx(1)


def test_sefa_finds_the_axis_that_styles_read_most():
    """Weights built by hand: of every three rows two read axis 2, one axis 0."""
    found = Generator(32, style_dim=6, n_mlp=1, channel_multiplier=0.125, max_channels=8)
    for layer in components.modulations(found).values():
        axes = [2, 2, 0, 2, 2, 0, 2, 2]
        layer.weight.data = torch.eye(6)[axes] * torch.rand(8, 1).add(0.1)
    first, second = components.sefa(found, 2, range(found.n_latent))
    assert first == pytest.approx(np.eye(6)[2]) and second == pytest.approx(np.eye(6)[0])


def test_layers_move_their_latents_alone(swagan, tmp_path, capsys):
    command = ["sefa", "--model", str(swagan), "--out", str(tmp_path), "--components", "1"]
    assert directions.main([*command, "--layers", "1-2"]) == 0
    moved = read(tmp_path / "sefa-00.safetensors").vector
    assert moved.shape == (checkpoint.load_generator(swagan).n_latent, TINY["style_dim"])
    assert np.flatnonzero(np.abs(moved).sum(1)).tolist() == [1, 2]
    for bad in (["--layers", "2-1"], ["--layers", "0-99"], ["--layers", "x"], ["--components", "9"]):
        assert directions.main([*command, *bad]) == 2
        assert capsys.readouterr().err.startswith(f"error: {bad[0]} {bad[1]}")


# --------------------------------------------------------------------------------------- known worlds


def linear_world(rng, n=400, mixed=0.6):
    """Codes [N, D] that two unit directions make of two values, which go together."""
    first, second = np.linalg.qr(rng.standard_normal((12, 2)))[0].T
    values = rng.standard_normal((n, 2))
    values[:, 1] += mixed * values[:, 0]
    return (
        values @ np.stack([3 * first, 2 * second]) + 0.1 * rng.standard_normal((n, 12)),
        values,
        first,
        second,
    )


def test_a_conditional_boundary_leaves_the_other_attribute_alone():
    codes, values, first, second = linear_world(np.random.default_rng(0))
    normals = [boundaries.boundary(codes, values[:, k]) for k in (0, 1)]
    alone = boundaries.conditional(normals[0], [normals[1]])
    assert cosine(normals[0], first) > 0.9 and alone @ normals[1] == pytest.approx(0, abs=1e-6)
    assert abs(cosine(alone, second)) < 0.15 and np.linalg.norm(alone) == pytest.approx(1)
    step = boundaries.shift_per_unit(first, codes, values[:, 0])
    assert step == pytest.approx(3, rel=0.05)
    with pytest.raises(ValueError, match="nothing"):
        boundaries.conditional(first, [first])


def test_the_boundary_takes_the_ends_of_a_scale_and_all_of_two_classes():
    chosen, labels = boundaries.classes(np.arange(10.0))
    assert chosen.tolist() == [0, 1, 2, 7, 8, 9] and labels.tolist() == [False] * 3 + [True] * 3
    chosen, labels = boundaries.classes(np.array([1, -1, 1.0]))
    assert chosen.tolist() == [0, 1, 2] and labels.tolist() == [True, False, True]


def test_pairs_tell_apart_what_changes_together():
    """Yaw and smile in scenes where both often change at once; each one's true shift comes out."""
    rng = np.random.default_rng(1)
    true = {name: rng.standard_normal((4, 8)) for name in ("yaw", "smile")}
    changes = np.zeros((300, 133), np.float32)
    columns = [int(np.flatnonzero(ATTRIBUTES[name].weights)[0]) for name in true]
    changes[:, columns[0]] = rng.standard_normal(300)
    changes[:, columns[1]] = changes[:, columns[0]] * (rng.random(300) < 0.7) + 0.5 * rng.standard_normal(300)
    moved = sum(changes[:, c, None, None] * v for c, v in zip(columns, true.values(), strict=True))
    noise = 0.05 * rng.standard_normal(moved.shape)
    wanted = [ATTRIBUTES[name] for name in (*true, "hat")]
    found = shifts.pair_directions(moved + noise, changes, wanted)
    assert found.keys() == true.keys()  # no hat changed
    for name, value in true.items():
        np.testing.assert_allclose(found[name], value, atol=0.05)


def test_pairs_leave_the_conditions_alone():
    """Codes that hold yaw and smile along vectors with a part in common: what is kept has none of yaw's."""
    rng = np.random.default_rng(3)
    params = rng.normal(size=(400, 133)).astype(np.float32)
    known = [ATTRIBUTES[name] for name in ("yaw", "smile")]
    axes = np.zeros((2, 2, 4))
    axes[0, 0, 0], axes[1, 0, :2] = 1.0, 0.6
    values = np.stack([one.of(params) for one in known], axis=1)
    there = World(np.einsum("na,ald->nld", values, axes), values, known, params)
    found = finding._shifts(there, known, ["yaw"])
    np.testing.assert_allclose(found["yaw"], axes[0], atol=1e-2)
    np.testing.assert_allclose(found["smile"], 0.6 * np.eye(2, 4)[[1]] * [[1], [0]], atol=1e-2)


def test_pairs_stay_inside_their_scene():
    pairs = shifts.scene_pairs(12)
    assert len(pairs) == 20 and (pairs[:, 0] // 5 == pairs[:, 1] // 5).all() and pairs.max() == 9


def test_attributes_read_what_a_portrait_has():
    for seed in range(30):
        portrait = sample(seed)
        values = {name: float(one.of(vector(portrait))) for name, one in ATTRIBUTES.items()}
        assert (values["hat"] > 0) == (portrait.hat != "none")
        assert (values["beard"] > 0) == (portrait.beard != "none")
    edits = [sample(3).__class__(**{**vars(sample(3)), "yaw": yaw}) for yaw in (0.1, 0.4)]
    low, high = (ATTRIBUTES["yaw"].of(vector(one)) for one in edits)
    assert (high - low) == pytest.approx(ATTRIBUTES["yaw"].step, rel=1e-5)  # 0.3 rad


# ------------------------------------------------------------------------------------------ judgement


def judged(own, other):
    changes = np.stack([own, other], axis=1).astype(float)
    return judging.Judged(0.9, judging.STRENGTHS, changes, 0)


def test_the_range_ends_where_another_attribute_or_the_effect_does():
    rising = np.array(judging.STRENGTHS)
    assert judged(rising, 0.2 * rising).range() == (-2, 2)
    assert judged(rising, np.where(rising > 1, 0.9, 0)).range() == (-2, 1)
    assert judged(np.minimum(rising, 0.5), 0 * rising).range() == (-2, 0.5)  # rises no further
    assert judged(rising, 0.4 * rising).range() is None and judged(-rising, 0 * rising).range() is None
    assert judged(rising, 0.4 * rising).range(0.5) == (-2, 2)
    half = np.where(rising == 0.5, 1.0, 0)  # below a unit, measured by the change of a unit
    assert judged(rising, 0.3 * half).range() == (-2, 2) and judged(rising, 0.4 * half).range() == (-2, 0)
    assert judged(2 * rising, 0 * rising).slopes.tolist() == [2, 0]


class Painter(torch.nn.Module):
    """A generator whose picture is its latent: the first two numbers are its red and green."""

    def forward(self, ws):
        return ws.mean(1)[:, :3, None, None].expand(-1, 3, 4, 4)


@pytest.mark.parametrize(("effect", "scale"), [(0.5, 2.0), (0.8, 1.25), (1.7, 1.0), (0.1, 3.0), (-0.4, 1.0)])
def test_a_unit_becomes_the_change_that_it_names(effect, scale):
    """Three times at most, never less than found; what moves the wrong way is left to be refused."""
    rising = np.array(judging.STRENGTHS)
    assert finding.scale_to(1.0, judged(effect * rising, 0 * rising)) == pytest.approx(scale)


def test_changes_are_what_the_rendered_edits_show():
    model = torch.nn.Module()
    model.generator = Painter()
    codes = np.random.default_rng(0).uniform(-0.2, 0.2, (5, 4, 6))
    direction = np.array([0.1, -0.05, 0, 9, 9, 9])
    found = judging.changes(model, codes, direction, lambda x: x.mean(dim=(2, 3)).numpy(), (-1, 2), batch=2)
    np.testing.assert_allclose(found, [[-0.1, 0.05, 0], [0.2, -0.1, 0]], atol=1e-6)


# ------------------------------------------------------------------------------------------- commands


CELEBA = "3\nSmiling Young\n000001.jpg  1 -1\n000002.jpg -1 -1\n000003.jpg -1  1\n"
MASK_HQ = "3\nSmiling Young \n0.jpg  1 -1 \n1.jpg -1 -1 \n2.jpg -1  1 \n"
CSV = "file,Smiling,Young\n0.jpg,1,-1\nsub/1.jpg,-1,-1\n2.jpg,-1,1\n"


@pytest.mark.parametrize("text, file", [(CELEBA, "000002.jpg"), (MASK_HQ, "1.jpg"), (CSV, "1.jpg")])
def test_labels_in_their_public_layouts(tmp_path, text, file):
    (tmp_path / "labels").write_text(text)
    labels = read_labels(tmp_path / "labels")
    assert labels.names == ["Smiling", "Young"] and len(labels.rows) == 3
    assert labels.rows[file].tolist() == [-1, -1]


@pytest.mark.parametrize("text", ["", "3\n", "a\n", "file,x\n", "file,x\na.png,one\n", "2\na b\nx.jpg 1\n"])
def test_other_texts_are_refused(tmp_path, text):
    (tmp_path / "labels").write_text(text)
    with pytest.raises(UserError, match="--labels"):
        read_labels(tmp_path / "labels")


def test_interfacegan_on_labelled_images(model, tmp_path, capsys):
    """Red against green pictures separate in any encoder's codes; labels by chance do not."""
    rng, data, out = np.random.default_rng(0), tmp_path / "images", tmp_path / "out"
    data.mkdir()
    lines = ["file,red,chance"]
    for k in range(60):
        colour = (220, 40, 40) if (red := k % 2) else (40, 220, 40)
        pixels = np.clip(np.array(colour) + rng.integers(-30, 30, (32, 32, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(data / f"{k}.png")
        lines.append(f"{k}.png,{red},{rng.integers(2)}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    command = [
        "interfacegan",
        "--model",
        str(model),
        "--data",
        str(data),
        "--out",
        str(out),
        "--rendered",
        "4",
    ]
    command += ["--labels", str(tmp_path / "labels.csv"), "--keep", str(tmp_path / "codes")]
    status = directions.main([*command, "--condition", "none", "--most-leakage", "1e9"])
    rows = {row["name"]: row for row in json.loads((out / "directions.json").read_text())["rows"]}
    assert rows["red"]["auc"] == 1 and "AUC below 0.75" in rows["chance"]["kept"]
    assert status == 0 and rows["red"]["kept"] == "yes" and rows["red"]["effect"] > 0
    assert [path.name for path in out.glob("*.safetensors")] == ["red.safetensors"]
    assert len(list((tmp_path / "codes").glob("*.npy"))) == 1
    assert directions.main([*command, "--minimum-auc", "1.1"]) == 1
    assert not list(out.glob("*.safetensors")) and "no direction holds" in capsys.readouterr().err


def test_usage_is_one_line(model, tmp_path, capsys):
    base = ["--model", str(model), "--out", str(tmp_path / "out")]
    for words, said in (
        (["pairs"], "--data"),
        (["pairs", "--data", "portraits:1:4"], "--data portraits:1:4"),
        (["interfacegan", "--data", "portraits:1:9", "--holdout", "3", "--names", "horns"], "--names horns"),
        (["interfacegan", "--data", "portraits:1:4", "--holdout", "9"], "--data portraits:1:4"),
        (["sefa", "--components", "0"], "--components 0"),
    ):
        assert directions.main([words[0], *base, *words[1:]]) == 2
        text = capsys.readouterr().err
        assert text.startswith(f"error: {said}") and text.count("\n") == 1
