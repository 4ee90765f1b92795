"""Public PyTorch layouts convert to models with the same outputs, and back."""

import json

import numpy as np
import pytest
import torch
from public_files import (
    generator,
    randomise,
    write_flat,
    write_inversion,
    write_rosinality,
)
from safetensors import safe_open

from wagi import checkpoint, convert
from wagi.conversion import rebuild
from wagi.features import LPIPS, ArcFace
from wagi.networks.alignment import DistortionAligner
from wagi.networks.e4e import Encoder4Editing
from wagi.networks.fusion import ConsultationEncoder, Gates
from wagi.networks.irse import Backbone
from wagi.networks.psp import PixelToStyle
from wagi.networks.swagan import Generator


def run(*arguments) -> int:
    return convert.main([str(argument) for argument in arguments])


def image_of(model, seed=0):
    ws = torch.randn(2, model.n_latent, model.style_dim, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(ws)


def load(path, part="generator"):
    """A part of either output format."""
    content = checkpoint.read(path)
    return checkpoint.build_loaded(content, part, path)


# ------------------------------------------------------------------------------------------ generators


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind, size, kernel", [("swagan", 32, 1), ("swagan", 64, 3), ("stylegan2", 32, 1)])
def test_generators(tmp_path, kind, size, kernel, suffix):
    model = generator(kind, size, to_rgb_kernel=kernel)
    source = write_rosinality(tmp_path / "g.pt", model, average=True)
    out = tmp_path / f"out{suffix}"
    assert run(source, "-o", out, "--licence", "CC BY 4.0") == 0
    loaded = load(out)
    assert type(loaded) is type(model)
    assert torch.equal(image_of(loaded), image_of(model)) and image_of(model).std() > 0.01
    assert torch.equal(loaded.latent_avg, model.latent_avg)


def test_training_checkpoints_get_a_mean_latent(tmp_path, capsys):
    """g_ema, not g; a Namespace among the content; the mean of 100k seeded samples, the same each time."""
    model = generator()
    source = write_rosinality(tmp_path / "g.pt", model)
    for name in ("a.pt", "b.pt"):
        assert run(source, "-o", tmp_path / name) == 0
    a, b = load(tmp_path / "a.pt"), load(tmp_path / "b.pt")
    assert torch.equal(a.latent_avg, b.latent_avg) and torch.equal(image_of(a), image_of(model))
    with torch.no_grad():
        w = model.map(torch.randn(100_000, 8, generator=torch.Generator().manual_seed(7)))
    error = w.std(0) * (2 / 100_000) ** 0.5
    assert ((a.latent_avg - w.mean(0)).abs() < 6 * error).all()
    assert "100000 seeded samples" in capsys.readouterr().out


def test_release_metadata(tmp_path):
    source = write_rosinality(tmp_path / "g.pt", generator(), average=True)
    out = tmp_path / "out.safetensors"
    assert run(source, "-o", out, "--licence", "CC BY 4.0") == 0
    with safe_open(out, "pt") as file:
        words = file.metadata()
    assert words["kind"] == "swagan" and words["size"] == "32" and words["n_latent"] == "6"
    assert words["licence"] == "CC BY 4.0" and words["source"] == "g.pt" and len(words["source_sha256"]) == 64
    assert json.loads(words["config"])["style_dim"] == 8


def test_half_precision_keeps_what_it_can(tmp_path, capsys):
    """Rounded to numpy's half; a tensor beyond its range stays as it is; the model still loads."""
    model = generator()
    with torch.no_grad():
        model.conv1.activate.bias.fill_(1e6)
    source = write_rosinality(tmp_path / "g.pt", model, average=True)
    assert run(source, "-o", tmp_path / "half.safetensors", "--half") == 0
    assert run(source, "-o", tmp_path / "half.pt", "--half") == 2
    assert "--half writes *.safetensors only" in capsys.readouterr().err
    loaded = load(tmp_path / "half.safetensors").state_dict()
    for name, value in model.state_dict().items():
        wide = name == "conv1.activate.bias"
        expected = value.numpy() if wide else value.numpy().astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(loaded[name].numpy(), expected, err_msg=name)


def test_there_and_back_again(tmp_path):
    """--to rosinality of what was converted has the published names, the same numbers, and converts again."""
    model = generator("swagan", 64)
    source = write_rosinality(tmp_path / "g.pt", model, average=True)
    assert run(source, "-o", tmp_path / "ours.safetensors") == 0
    assert run(tmp_path / "ours.safetensors", "-o", tmp_path / "back.pt", "--to", "rosinality") == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    state = model.state_dict()
    assert list(back["g_ema"]) == list(state)
    assert all(torch.equal(back["g_ema"][name], value) for name, value in state.items())
    assert torch.equal(back["latent_avg"], model.latent_avg)
    assert run(tmp_path / "back.pt", "-o", tmp_path / "again.pt") == 0
    assert torch.equal(image_of(load(tmp_path / "again.pt")), image_of(model))


def test_widths_are_found_from_shapes():
    for multiplier, limit, size in ((2, 512, 1024), (1, 512, 256), (0.125, 128, 64), (2, 16, 32)):
        with torch.device("meta"):
            model = Generator(size, 8, 2, multiplier, limit)
        config = rebuild.generator_config(model.state_dict(), "x")
        again = rebuild.part(config, "generator")
        assert not checkpoint.differences(again, model.state_dict())


# ------------------------------------------------------------------------------ encoders, whole models


@pytest.fixture(scope="module")
def inversion_parts():
    """A random StyleGAN2 of 256 px and an encoder for its 14 styles; the body of IR-SE50 is at full width."""
    torch.manual_seed(0)
    decoder = generator("stylegan2", 256)
    encoder = randomise(Encoder4Editing(decoder.n_latent, decoder.style_dim))
    return decoder, encoder, decoder.latent_avg.repeat(decoder.n_latent, 1)


OPTS = {
    "e4e": {"encoder_type": "Encoder4Editing", "stylegan_size": 256, "start_from_latent_avg": True},
    "psp": {"encoder_type": "GradualStyleEncoder", "output_size": 256, "learn_in_w": False},
}


@pytest.mark.parametrize("kind, wrapped", [("e4e", False), ("psp", True)])
def test_encoders(tmp_path, inversion_parts, kind, wrapped, capsys):
    """Wrapped: `module.` before encoder. and decoder., and latent_avg [1, styles, D]."""
    decoder, encoder, average = inversion_parts
    parts = {"encoder": encoder, "decoder": decoder}
    if wrapped:
        average, parts = average[None], {"module": torch.nn.ModuleDict(parts)}
    source = write_inversion(tmp_path / "e.pt", OPTS[kind], average, **parts)
    assert run(source, "-o", tmp_path / "out.pt") == 0
    assert ("'module.' was before each" in capsys.readouterr().out) == wrapped
    content = checkpoint.read(tmp_path / "out.pt")
    settings = content["config"]["model"]
    assert content["stage"] == "encoder" and settings["encoder"] == kind
    assert settings["image_resize"] == "pil"
    loaded = load(tmp_path / "out.pt", "encoder")
    assert isinstance(loaded, PixelToStyle if kind == "psp" else Encoder4Editing)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = encoder._pyramid(x, decoder.n_latent - 1)
        heads = [head(maps[16 if k < 3 else 32 if k < 7 else 64]) for k, head in enumerate(encoder.styles)]
        first = heads[0] if kind == "e4e" else 0
        expected = torch.stack([heads[0], *(first + head for head in heads[1:])], 1) + average
        codes = loaded(x) + load(tmp_path / "out.pt").latent_avg
    assert torch.allclose(codes, expected, atol=1e-5) and codes.std() > 0.01
    assert torch.equal(image_of(load(tmp_path / "out.pt")), image_of(decoder))


def test_hfgi_becomes_configuration_a(tmp_path, inversion_parts, capsys):
    """encoder, decoder, grid_align, residue: an inversion checkpoint that computes HFGI's formulas."""
    decoder, encoder, average = inversion_parts
    residue = randomise(ConsultationEncoder(256, {64: 8}, (), (32, 48, 64), None, zero_init=False))
    aligner = randomise(DistortionAligner())
    source = write_inversion(
        tmp_path / "hfgi.pt",
        OPTS["e4e"],
        average,
        encoder=encoder,
        decoder=decoder,
        residue=residue,
        grid_align=aligner,
    )
    assert run(source, "-o", tmp_path / "out.pt") == 0
    model = checkpoint.load_model(tmp_path / "out.pt")
    ws = average[None]
    delta = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        state, naive = model.reconstruct(ws)
        aligned, image = model.fuse(ws, state, naive, delta)
        expected_delta = aligner(delta, decoder(ws).clamp(-1, 1))
        trunk = residue.conv_layer3(residue.conv_layer2(residue.conv_layer1(expected_delta)))
        gates = Gates({64: (residue.condition_scale3(trunk), residue.condition_shift3(trunk))}, {})
        expected = decoder(ws, gates)
    assert torch.allclose(aligned, expected_delta, atol=1e-5)
    assert torch.allclose(image, expected, atol=1e-4)
    assert not torch.allclose(image, naive, atol=1e-2)
    assert "generator, encoder, aligner, fusion" in capsys.readouterr().out
    config = checkpoint.model_config(checkpoint.read(tmp_path / "out.pt"), "out.pt")
    assert (config.naive, config.image_resize) == ("bilinear", "pil")  # tests/test_paper_settings.py


def test_encoder_of_another_generator(tmp_path, capsys):
    """16 heads (a SWAGAN's) with a StyleGAN2 decoder of 14 latents."""
    decoder = generator("stylegan2", 256)
    state = {f"encoder.styles.{k}.linear.bias": torch.zeros(8) for k in range(16)}
    state |= {f"decoder.{k}": v for k, v in decoder.state_dict().items()}
    average = decoder.latent_avg[None]
    torch.save({"state_dict": state, "opts": OPTS["e4e"], "latent_avg": average}, tmp_path / "e.pt")
    assert run(tmp_path / "e.pt", "-o", tmp_path / "out.pt") == 1
    assert "16 styles" in (text := capsys.readouterr().err) and "14 styles" in text


@pytest.mark.parametrize(
    "content, words",
    [
        ({"state_dict": {"hypernet.a": torch.zeros(1)}}, "HyperStyle"),
        ({"state_dict": {"mapper.a": torch.zeros(1)}}, "StyleCLIP"),
        (
            {"state_dict": {"encoder.a": torch.zeros(1), "decoder.b": torch.zeros(1)}},
            "--kind e4e or --kind psp",
        ),
        ({"something": torch.zeros(1)}, "no public layout"),
    ],
)
def test_other_checkpoints_are_named(tmp_path, capsys, content, words):
    torch.save(content, tmp_path / "x.pt")
    assert run(tmp_path / "x.pt", "--info") == 1
    assert words in capsys.readouterr().err


# ------------------------------------------------------------------------------------- feature networks


def test_irse50(tmp_path):
    """model_ir_se50.pth in its old format; the result is the identity network of training."""
    torch.manual_seed(0)
    model = randomise(Backbone())
    source = write_flat(tmp_path / "model_ir_se50.pth", model.state_dict(), legacy=True)
    assert run(source, "-o", tmp_path / "id.pt") == 0
    x = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        expected = model(torch.nn.functional.adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112))
        assert torch.allclose(ArcFace(tmp_path / "id.pt").embed(x), expected, atol=1e-5)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips(tmp_path, net, capsys):
    torch.manual_seed(0)
    trunk, linear = rebuild.trunk(net), rebuild.linear(net)
    state = {**trunk.state_dict(), "classifier.1.weight": torch.zeros(2, 2)}
    write_flat(tmp_path / "trunk.pth", state, legacy=True)
    write_flat(tmp_path / "linear.pth", linear.state_dict())
    for name in ("trunk", "linear"):
        assert run(tmp_path / f"{name}.pth", "-o", tmp_path / f"{name}.pt") == 0
    out = capsys.readouterr().out
    assert {"alex": "AlexNet", "vgg": "VGG16"}[net] in out and "1 tensors of the classifier" in out
    x, y = torch.randn(2, 1, 3, 64, 64)
    a = LPIPS(tmp_path / "trunk.pth", tmp_path / "linear.pth", net)
    b = LPIPS(tmp_path / "trunk.pt", tmp_path / "linear.pt", net)
    with torch.no_grad():
        assert torch.equal(a(x, y), b(x, y))


# -------------------------------------------------------------------------------------------- differences


def test_differences_are_listed_with_the_nearest_layout(tmp_path, capsys):
    state = generator(
        "swagan", 64, style_dim=512, n_mlp=8, channel_multiplier=2, max_channels=512
    ).state_dict()
    del state["style.3.weight"], state["convs.1.noise.weight"]
    state["convs.0.activate.bias"] = torch.zeros(7)
    state["extra.weight"] = torch.zeros(2)
    torch.save({"g_ema": state, "latent_avg": torch.zeros(512)}, tmp_path / "g.pt")
    assert run(tmp_path / "g.pt", "-o", tmp_path / "out.pt") == 1
    text = capsys.readouterr().err
    for words in (
        "missing",
        "convs.1.noise.weight [1]",
        "1 unexpected: extra.weight [2]",
        "convs.0.activate.bias [7] instead of [512]",
        "nearest known layout: SWAGAN generator 64",
    ):
        assert words in text, text


def test_another_filter_is_another_network(tmp_path, capsys):
    state = generator().state_dict()
    state["to_rgbs.0.upsample.kernel"] = torch.ones(4, 4) / 4
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    assert run(tmp_path / "g.pt", "--info") == 1
    assert "to_rgbs.0.upsample.kernel" in capsys.readouterr().err


def test_fixed_filters_may_be_absent(tmp_path):
    model = generator()
    fixed = (".kernel", ".ll", ".lh", ".hl", ".hh")
    state = {name: value for name, value in model.state_dict().items() if not name.endswith(fixed)}
    torch.save({"g_ema": state, "latent_avg": torch.zeros(8)}, tmp_path / "g.pt")
    assert run(tmp_path / "g.pt", "-o", tmp_path / "out.pt") == 0
    assert torch.equal(image_of(load(tmp_path / "out.pt")), image_of(model))
