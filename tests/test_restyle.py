"""Promise: ReStyle (Alaluf et al. 2021) as published: what encoders read, how they iterate and train.

The authority is the published loop, written here a second time, and the published names of pSp and e4e.
"""

import published
import pytest
import torch
from paper_stages import TINY, pictures
from public_files import generator, randomise, write_inversion
from training_helpers import run, write_portraits

from wagi import checkpoint, convert, evaluate
from wagi.config import settings
from wagi.features import FeatureFiles
from wagi.model import NaiveInverter, area_resize
from wagi.networks.build import build_part
from wagi.networks.restyle import RestyleEditing, RestylePixelToStyle
from wagi.training.encoder import EncoderStage

STEPS = 3


def tiny(encoder: str = "small", **changes: str):
    """Settings of both sides, and random networks with their weights away from zero."""
    off = {"lambda_lpips": "0", "lambda_id": "0", "lambda_adv": "0", "progressive_start": "0"}
    chosen = {**TINY, **off, "encoder": encoder, "restyle_steps": str(STEPS), **changes}
    model, train = settings("ffhq1024", "encoder", chosen)
    torch.manual_seed(1)
    parts = {part: build_part(model, part) for part in ("generator", "encoder")}
    for part in parts.values():
        for value in part.parameters():
            value.data.add_(0.05 * torch.randn(value.shape))
    return model, train, parts


def published_loop(parts, x):
    """The latents after each step, as the public code has it: from the mean latent and its image."""
    g, e = parts["generator"], parts["encoder"]
    w = g.latent_avg.expand(len(x), g.n_latent, -1)
    for _ in range(STEPS):
        y = area_resize(g(w), 32)
        w = w + e(torch.cat([x, y], dim=1))
        yield w


@pytest.mark.parametrize("encoder", ["small", "small-psp"])
def test_inference_is_the_published_loop(encoder):
    _, _, parts = tiny(encoder)
    x = pictures()["image"]
    with torch.no_grad():
        naive, final = NaiveInverter(**parts).results(x)
        *_, w = published_loop(parts, x)
        expected = parts["generator"](w)
    assert torch.allclose(naive, expected, atol=1e-5) and torch.equal(naive, final)
    assert (expected - parts["generator"](parts["generator"].latent_avg.expand_as(w))).std() > 0.01


@pytest.mark.parametrize("size", [32, 64])
def test_training_sums_the_steps_and_keeps_gradients_inside_them(size):
    """Loss and gradient of one backward pass per step on detached latents and images at R, added up."""
    model, train, parts = tiny(size=str(size), residual_resolution="32")
    whole = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = area_resize(whole, 32)
    stage = EncoderStage(model, train, parts, FeatureFiles())
    loss, scalars = stage.encode({"image": whole}, torch.Generator())
    loss.backward()
    found = {name: value.grad.clone() for name, value in stage.encoder.named_parameters()}
    stage.encoder.zero_grad()
    g, e, total = parts["generator"], parts["encoder"], 0.0
    w = g.latent_avg.expand(len(x), g.n_latent, -1)
    for _ in range(STEPS):
        w = w.detach() + e(torch.cat([x, area_resize(g(w).detach(), 32)], dim=1))
        delta = (w[:, 1:] - w[:, :1]).norm(dim=2).sum(1).mean()
        step = (area_resize(g(w), 32) - x).square().mean() + 2e-4 * delta
        step.backward()
        total += step.item()
    assert loss.item() == pytest.approx(total, rel=1e-5)
    assert scalars["l2"].item() == pytest.approx((area_resize(g(w), 32) - x).square().mean().item(), rel=1e-5)
    for name, value in e.named_parameters():
        assert torch.allclose(found[name], value.grad, atol=1e-6, rtol=1e-4), name


def test_names_and_shapes():
    """pSp's published names without its pyramid; six input channels, every head on the 16 px map."""
    listing = published.state_dict("psp_encoder_1024")
    expected = {
        name: tuple(entry["shape"])
        for name, entry in listing.items()
        if not name.startswith("latlayer")
        and not name.startswith(tuple(f"styles.{k}." for k in range(3, 18)))
    }
    expected["input_layer.0.weight"] = (64, 6, 3, 3)
    coarse = {name: shape for name, shape in expected.items() if name.startswith("styles.0.")}
    for k in range(3, 18):
        expected |= {f"styles.{k}." + name.removeprefix("styles.0."): shape for name, shape in coarse.items()}
    with torch.device("meta"):
        for kind in (RestyleEditing, RestylePixelToStyle):
            assert {name: tuple(v.shape) for name, v in kind(18).state_dict().items()} == expected


@pytest.fixture(scope="module")
def public_parts():
    decoder = generator("stylegan2", 256)
    return decoder, randomise(RestyleEditing(decoder.n_latent, decoder.style_dim))


@pytest.mark.parametrize(
    ("kind", "named"), [("e4e", "ProgressiveBackboneEncoder"), ("psp", "BackboneEncoder")]
)
def test_public_checkpoints_convert(tmp_path, public_parts, kind, named):
    """The converted encoder adds what its heads say (e4e: to the first one), and knows its steps."""
    decoder, encoder = public_parts
    average = decoder.latent_avg.repeat(decoder.n_latent, 1)
    opts = {"encoder_type": named, "input_nc": 6, "n_iters_per_batch": 4, "output_size": 256}
    source = write_inversion(tmp_path / "r.pt", opts, average, encoder=encoder, decoder=decoder)
    assert convert.main([str(source), "-o", str(tmp_path / "out.pt")]) == 0
    loaded = checkpoint.build_inverter(checkpoint.read(tmp_path / "out.pt"), tmp_path / "out.pt")
    assert loaded.encoder.steps == 4
    x = torch.randn(1, 6, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = encoder.body(encoder.input_layer(x))
        heads = torch.stack([head(features) for head in encoder.styles], dim=1)
        added = heads + heads[:, :1] if kind == "e4e" else heads.clone()
        added[:, 0] = heads[:, 0]
        assert torch.allclose(loaded.encoder(x), added, atol=1e-5) and added.std() > 0.01
        assert torch.equal(loaded.latents(0 * added)[0], average)


def test_what_is_not_restyle_is_refused(tmp_path, public_parts, capsys):
    """The variant on ResNet34 by its name; a wrong number of steps; a missing head by its name."""
    decoder, encoder = public_parts
    average = decoder.latent_avg.repeat(decoder.n_latent, 1)
    opts = {"encoder_type": "BackboneEncoder", "n_iters_per_batch": 0}
    for change, words in (
        ({"encoder_type": "ResNetBackboneEncoder"}, "--kind restyle-e4e or --kind restyle-psp"),
        ({}, "opts.n_iters_per_batch is '0'"),
    ):
        source = write_inversion(
            tmp_path / "r.pt", {**opts, **change}, average, encoder=encoder, decoder=decoder
        )
        assert convert.main([str(source), "--info"]) == 1
        assert words in capsys.readouterr().err
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items() if k != "styles.4.linear.bias"}
    state |= {f"decoder.{k}": v for k, v in decoder.state_dict().items()}
    content = {"state_dict": state, "opts": {"encoder_type": "BackboneEncoder"}, "latent_avg": average}
    torch.save(content, tmp_path / "r.pt")
    assert convert.main([str(tmp_path / "r.pt"), "--info"]) == 1
    assert "1 missing: styles.4.linear.bias" in capsys.readouterr().err


def test_from_command_to_numbers(tmp_path, capsys):
    """Trained from what fits of an ordinary encoder, measured alone, taken as E0, refused by the export."""
    data = write_portraits(tmp_path / "data")
    assert run("generator", data, tmp_path / "g") == 0
    start = str(tmp_path / "g" / "checkpoint.pt")
    words = ("--generator", start, "--set", "restyle_steps=2", "--set", "encoder=small-psp", "--steps", "2")
    assert run("encoder", data, tmp_path / "e", *words) == 0
    assert "note: encoder=small-psp, restyle_steps=2 begins with what fits of" in capsys.readouterr().err
    own = checkpoint.read(tmp_path / "e" / "checkpoint.pt")
    assert own["config"]["model"]["restyle_steps"] == 2
    path = str(tmp_path / "e" / "checkpoint.pt")
    words = ["--model", path, "--data", str(data), "--protocol", "portraits", "--limit", "2", "-q"]
    assert evaluate.main(words) == 0
    assert "l2" in capsys.readouterr().out.lower()
    assert run("inversion", data, tmp_path / "i", "--encoder", path, "--steps", "1") == 0
    from export import to_onnx

    words = ["--checkpoint", str(tmp_path / "i" / "checkpoint.pt"), "-o", str(tmp_path / "bundle")]
    assert to_onnx.main(words) == 1
    assert "a ReStyle encoder" in capsys.readouterr().err


def test_an_image_encoder_begins_a_pair_encoder(tmp_path):
    """The first three filters are the image's; so ReStyle begins with IR-SE50 as well."""
    _, _, parts = tiny()
    _, _, plain = tiny(restyle_steps="0")
    from wagi.networks.e4e import widened

    own, given = parts["encoder"].state_dict(), plain["encoder"].state_dict()
    found = widened(given, own)
    assert list(found) == ["stem.weight"]
    assert torch.equal(found["stem.weight"][:, :3], given["stem.weight"])
    assert torch.equal(found["stem.weight"][:, 3:], own["stem.weight"][:, 3:])
