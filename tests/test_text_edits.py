"""Edits by text: steps are what the texts' features and the channels' effects say, from every door."""

import gzip
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_bundle import error_line, run_cli, write_tiny_bundle

import wagi_rt
from export import to_onnx
from tests.tolerances import EXPORT_ATOL
from wagi.editing import channels, styleclip
from wagi.networks.clip import CLIP, TextSize, VisionSize
from wagi.networks.swagan import Generator
from wagi.standins.clip import PortraitsCLIP, tokens
from wagi.standins.model import load
from wagi_rt import worded
from wagi_rt.errors import UserError
from wagi_rt.probes import images

TEXT, NEUTRAL = "a smiling man with round glasses", "a man"


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(2)
    return Generator(32, style_dim=16, n_mlp=1, channel_multiplier=0.25, max_channels=16).eval()


def tower(found):
    """Four features of an image: means of its quarters."""
    return torch.nn.functional.adaptive_avg_pool2d(found, 2).flatten(1)[:, :4]


def test_effects_are_differences(generator):
    generator.double()
    latents = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)).double()
    found, space = channels.effects(generator, tower, latents), generator.space
    ws = generator.broadcast(latents)
    with torch.no_grad():
        for channel in (0, 5, space.channels // 2, space.channels - 1):
            offset = torch.zeros(1, space.channels).double()
            offset[0, channel] = 1e-4
            up, down = (tower(generator(space.with_offsets(ws, sign * offset))) for sign in (1, -1))
            wanted = ((up - down) / 2e-4).mean(dim=0)
            assert torch.allclose(found[channel].double(), wanted, atol=1e-5), channel
    generator.float()


def test_deviations_are_those_of_the_convolutions_styles(generator):
    latents = torch.randn(50, 16)
    found, space = channels.deviations(generator, latents), generator.space
    with torch.no_grad():
        wanted = generator.convs[0].conv.modulation(latents).numpy().std(axis=0, ddof=1)
    np.testing.assert_allclose(found[space.starts[2] : space.starts[3]], wanted, rtol=1e-4)
    assert not found[space.starts[1] : space.starts[2]].any()  # tWavelets


# ------------------------------------------------------------------------------------------------- bundles


def wanted_offsets(text, first, second):
    """The step by torch's text tower: ridge-solved effects times the difference, thresholded, limited."""
    with torch.no_grad():
        a, b = load(PortraitsCLIP).text(tokens([first, second])).double().numpy()
    step = text.table[:, 1:].astype(np.float64) @ ((a - b) / np.linalg.norm(a - b)) * 0.7
    step = np.where(np.abs(step) >= 0.1 * np.abs(step).max(), step, 0)
    step = step * min(1, 4 / np.abs(step).max())
    return step * text.table[:, 0]


def test_an_edit_by_text_is_pytorchs(styled):
    folder, model, _, text = styled
    image = torch.from_numpy(images(32, 9, batch=1))
    with wagi_rt.load(folder, threads=1) as session:
        face = session.open(image[0].numpy())
        edited = face.edit(text=TEXT, neutral=NEUTRAL, smile=0.5)
        found = session.edit(face.kept, edited.ws[None]).image
        direction = worded.of_session(session).direction(TEXT, NEUTRAL)
    offsets = wanted_offsets(text, TEXT, NEUTRAL)
    np.testing.assert_allclose(direction.vector, offsets, atol=1e-4 * np.abs(offsets).max())
    with torch.no_grad():
        ws = model.encode(image) + 0.5 * torch.from_numpy(styled[2]["smile"].vector)
        wanted = model.edit(image, ws, styles=torch.from_numpy(offsets)[None].float()).image.numpy()
    np.testing.assert_allclose(found, wanted, atol=EXPORT_ATOL)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(60, 200, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_the_command(styled, photo, tmp_path, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    out = tmp_path / "out.png"
    words = ("--text", TEXT, "--neutral", NEUTRAL, "--text-strength", "-0.5", "--set", "smile=1")
    assert (
        run_cli("edit", "-m", styled[0], "--backend", backend, "--threads", 1, photo, "-o", out, *words) == 0
    )
    with wagi_rt.load(styled[0], backend=backend, threads=1) as session:
        face = session.open(photo)
        wanted = face.edit(text=TEXT, neutral=NEUTRAL, text_strength=-0.5, smile=1).image
    difference = np.abs(np.asarray(Image.open(out)).astype(int) - wanted)
    assert difference.max() <= 1


@pytest.mark.parametrize(
    "words, message",
    [
        (("--text", "a man with spectacles"), "'spectacles' is no word of this model"),
        (("--text", "a rouund hat"), "did you mean round"),
        (("--text", "a face"), "mean the same to this model"),
        (("--text", "..."), "has no words"),
        (("--text", "a " * 40), "a text of 40 tokens, the model reads 31"),
        (("--text", "a hat", "--text-threshold", "1"), "text threshold 1: must be from 0 to below 1"),
        (("--neutral", "a face"), "--neutral, --text-threshold: go with --text"),
        (("--text", "a hat", "--text-strength", "much"), "must be a number, not 'much'"),
    ],
)
def test_mistakes_cost_one_line(styled, words, message, photo, tmp_path, capsys):
    assert run_cli("edit", "-m", styled[0], photo, "-o", tmp_path / "out.png", *words) == 2
    assert message in error_line(capsys.readouterr().err) and not (tmp_path / "out.png").exists()


def test_text_without_a_text_model(photo, tmp_path, capsys):
    bundle = write_tiny_bundle(tmp_path / "tiny", schema=3, aligner="flow")
    assert run_cli("edit", "-m", bundle, photo, "-o", tmp_path / "out.png", "--text", "a hat") == 2
    assert "holds no text model" in error_line(capsys.readouterr().err)
    with wagi_rt.load(bundle, threads=1) as session:
        face = session.open(np.asarray(Image.open(photo).resize((session.size,) * 2)))
        with pytest.raises(UserError, match="holds no text model") as found:
            face.edit(text="a hat")
    assert found.value.status == 2


def test_a_changed_table_is_refused(styled, tmp_path, photo, capsys):
    import shutil

    bundle = shutil.copytree(styled[0], tmp_path / "changed")
    table = np.load(bundle / "relevance.npy")
    np.save(bundle / "relevance.npy", table * 2)
    assert run_cli("edit", "-m", bundle, photo, "-o", tmp_path / "o.png", "--text", "a hat") == 1
    assert "relevance.npy: sha256 differs" in error_line(capsys.readouterr().err)


# ------------------------------------------------------------------------------------------------- folders


def test_a_folder_keeps_clip_too(generator, tmp_path):
    torch.manual_seed(0)
    network = CLIP(TextSize(64, 1, 8, 516, 12), VisionSize(64, 1, 8, 16)).eval()
    model = styleclip.clip(network, "tiny", [("l", "o"), ("lo", "w</w>")], generator, images=2, seed=0)
    styleclip.write(tmp_path / "text", model)
    found = styleclip.read(tmp_path / "text")
    assert (found.name, found.tokens, found.generator) == ("tiny", "pairs", model.generator)
    assert gzip.decompress(found.vocabulary).decode().split("\n")[1:] == ["l o", "lo w</w>"]
    numbers = torch.tensor([[514, 3, 515, 0, 0, 0, 0, 0]])
    assert torch.allclose(found.tower.text(numbers), network.text(numbers), atol=2e-3)  # kept in half
    assert found.table.shape == (generator.space.channels, 13)


def test_a_folder_that_is_none(tmp_path, capsys):
    words = ["--checkpoint", "x.pt", "-o", str(tmp_path / "b"), "--text", str(tmp_path)]
    assert to_onnx.main(words) == 2
    assert "no text model, or a damaged one" in error_line(capsys.readouterr().err)


def test_the_manifest_says_what_the_text_model_is(styled):
    manifest = json.loads((styled[0] / "manifest.json").read_text())
    assert manifest["text"]["name"] == "portraits-CLIP" and manifest["text"]["tokens"] == "words"
    assert manifest["graphs"]["text"]["parity"]["max_abs"] < EXPORT_ATOL
    assert worded.GRAPH == "text" and manifest["styles"] == styled[1].generator.space.channels
