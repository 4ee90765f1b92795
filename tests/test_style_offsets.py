"""Edits in style space: offsets are added to the styles of the published layers, in every engine."""

import numpy as np
import pytest
import torch

import wagi_rt
from export.comparison import compare_probes
from export.graphs import build_graphs
from export.rows import failure
from tests.tolerances import EXPORT_ATOL
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator
from wagi_rt import directions
from wagi_rt import manifest as manifests
from wagi_rt.directions import STYLE, Direction
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError
from wagi_rt.probes import images


def by_hand(generator, ws, offsets):
    """The image when every modulated layer's own style is moved from outside, layer by layer as they run."""
    order = ["conv1.conv", "to_rgb1.conv"]
    for i in range(len(generator.to_rgbs)):
        order += [f"convs.{2 * i}.conv", f"convs.{2 * i + 1}.conv", f"to_rgbs.{i}.conv"]
    layers, start, handles = dict(generator.named_modules()), 0, []
    for layer in (layers[name] for name in order):
        part = offsets[:, start : start + layer.weight.shape[2]]
        handles.append(layer.modulation.register_forward_hook(lambda m, i, style, part=part: style + part))
        start += layer.weight.shape[2]
    assert start == offsets.shape[1]
    image = generator(ws)
    for handle in handles:
        handle.remove()
    return image


@pytest.mark.parametrize("kind", [Generator, StyleGAN2Generator])
def test_offsets_are_added_to_the_styles(kind):
    torch.manual_seed(1)
    generator = kind(32, style_dim=16, n_mlp=1, channel_multiplier=0.25, max_channels=24).eval()
    ws, offsets = torch.randn(2, generator.n_latent, 16), torch.randn(2, generator.space.channels) / 2
    with torch.no_grad():
        moved = generator(generator.space.with_offsets(ws, offsets))
        assert torch.allclose(moved, by_hand(generator, ws, offsets), atol=1e-5)
        assert (moved - generator(ws)).abs().max() > 0.05
        nothing = generator.space.with_offsets(ws, torch.zeros(1, generator.space.channels))
        assert torch.equal(generator(nothing), generator(ws))


def test_the_published_style_space_of_1024_px():
    """StyleSpace's 9088 channels (Wu et al. 2021), 6048 of them convolutions'."""
    with torch.device("meta"):
        space = StyleGAN2Generator(1024).space
    convolutions = sum(width for k, width in enumerate(space.widths) if k and (k - 1) % 3 or not k)
    assert (space.channels, convolutions) == (9088, 6048)


# ------------------------------------------------------------------------------------------------- exported


@pytest.fixture
def exported(styled):
    return styled[0]


@pytest.fixture
def model(styled):
    return styled[1]


@pytest.fixture
def direction(styled):
    return styled[2]["plaid"]


def test_the_bundle_is_pytorchs(exported, model):
    manifest = manifests.read(exported)
    assert manifest.styles == model.generator.space.channels
    with OrtEngine(manifest) as engine:
        assert not failure(compare_probes(engine))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_edit_is_pytorchs(styled, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    exported, model, known, _ = styled
    image = torch.from_numpy(images(32, 9, batch=1))
    with wagi_rt.load(exported, backend=backend, threads=1) as session:
        face = session.open(image[0].numpy())
        edited = face.edit({"plaid": 0.3, "smile": -1})
        found = session.edit(face.kept, edited.ws[None]).image
        same = session.edit(face.kept, face.ws[None]).image
    with torch.no_grad():
        ws = model.encode(image) - torch.from_numpy(known["smile"].vector)
        wanted = model.edit(
            image, ws, styles=0.3 * torch.from_numpy(known["plaid"].vector)[None]
        ).image.numpy()
    assert np.abs(wanted - same).max() > 0.05
    np.testing.assert_allclose(found, wanted, atol=EXPORT_ATOL)


def test_an_inversion_keeps_its_bits(model):
    pictures = torch.from_numpy(images(32, 11, batch=2))
    found, wanted = (
        build_graphs(model, offsets=offsets)["pipeline"].run({"image": pictures}) for offsets in (True, False)
    )
    assert torch.equal(found["result"], wanted["result"])
    assert torch.equal(found["ws"][:, : model.generator.n_latent], wanted["ws"])


def test_latents_without_offsets_are_taken_too(exported):
    with wagi_rt.load(exported, threads=1) as session:
        face = session.open(images(32, 9, batch=1)[0])
        assert not face.ws[session.manifest.n_latent :].any()
        assert np.array_equal(face.render(face.ws[: session.manifest.n_latent]).image, face.image)


def test_a_model_without_offsets_refuses_such_a_direction(exported, direction):
    manifest = manifests.read(exported)
    with pytest.raises(UserError, match="takes no offsets; export it with --styles") as found:
        manifest._replace(styles=0).require_fit(direction, "text")
    assert found.value.status == 2
    with pytest.raises(UserError, match="has 3 styles, this model"):
        manifest.require_fit(direction._replace(vector=np.ones(3, np.float32)), "text")


def test_a_file_says_its_space(direction, tmp_path):
    directions.write(tmp_path / "text.safetensors", direction)
    found = directions.read(tmp_path / "text.safetensors")
    assert found.space == STYLE and np.array_equal(found.vector, direction.vector)
    (tmp_path / "odd.safetensors").write_bytes(directions.content(direction._replace(space="noise")))
    with pytest.raises(UserError, match="'space' that this version does not know"):
        directions.read(tmp_path / "odd.safetensors")


def test_steps_of_each_space_go_where_they_belong():
    style = Direction("a", np.arange(1, 6, dtype=np.float32), space=STYLE)
    assert style.shift(2, 2, (4, 3)).tolist() == [[0] * 3, [0] * 3, [2, 4, 6], [8, 10, 0]]
    everywhere = Direction("b", np.ones(3, np.float32))
    assert everywhere.shift(2, 2, (4, 3)).tolist() == [[2] * 3, [2] * 3, [0] * 3, [0] * 3]
