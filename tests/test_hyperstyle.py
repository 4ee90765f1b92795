"""Promise: HyperStyle (Alaluf et al. 2022) as published: its hypernetwork, its steps, its files.

The authority is the published forward pass, written here a second time on the file's own tensors, and the
published names and shapes.
"""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from public_files import generator, randomise, write_inversion
from training_helpers import run, write_portraits

from wagi import checkpoint, convert, evaluate
from wagi.config import ModelConfig
from wagi.networks.build import build_part
from wagi.networks.e4e import WEncoder
from wagi.networks.hypernetwork import HyperNetwork, tuned_layers
from wagi.networks.stylegan2 import StyleGAN2Generator

SHARED = (0, 2, 3, 5, 6, 8, 9, 11, 12)  # layers of 512 channels on both sides, 1024 px
OTHERS = {14: (256, 512), 15: (256, 256), 17: (128, 256), 18: (128, 128), 20: (64, 128), 21: (64, 64),
          23: (32, 64), 24: (32, 32)}  # fmt: skip


# ----------------------------------------------------------------------------------- the published facts


def published_shapes() -> dict[str, tuple[int, ...]]:
    """`hypernet.` of a 1024 px checkpoint, without counters and without the copies of the shared weights."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 6, 7, 7), "relu.weight": (64,)}

    def norm(name: str, c: int) -> None:
        found.update({f"{name}.{leaf}": (c,) for leaf in ("weight", "bias", "running_mean", "running_var")})

    def conv(name: str, out: int, c: int, k: int) -> None:
        found.update({f"{name}.weight": (out, c, k, k), f"{name}.bias": (out,)})

    norm("bn1", 64)
    widths = [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3
    for i, (before, c) in enumerate(zip([64, *widths], widths, strict=False)):
        found |= {f"body.{i}.conv1.weight": (c, before, 3, 3), f"body.{i}.conv2.weight": (c, c, 3, 3)}
        norm(f"body.{i}.bn1", c)
        norm(f"body.{i}.bn2", c)
        if before != c:
            found[f"body.{i}.downsample.0.weight"] = (c, before, 1, 1)
            norm(f"body.{i}.downsample.1", c)
    s = "shared_weight_hypernet."
    found |= {s + "w1": (512, 4608), s + "b1": (4608,), s + "w2": (512, 512 * 512), s + "b2": (512 * 512,)}
    for i in SHARED:
        block = f"refinement_blocks.{i}"
        for k, (c, out) in enumerate(((512, 128), (128, 128), (128, 128), (128, 128), (128, 512))):
            conv(f"{block}.convs.{2 * k}", out, c, 3)
        found |= {f"{block}.linear.weight": (512, 512), f"{block}.linear.bias": (512,)}
    for i, (out, c) in OTHERS.items():
        block = f"refinement_blocks.{i}"
        for k, (before, after) in enumerate(((512, 256), (256, 256), (256, 512))):
            conv(f"{block}.convs.{2 * k}", after, before, 3)
        conv(f"{block}.output.1", out * c, 512, 1)
    return found


def test_names_and_shapes_at_full_size():
    with torch.device("meta"):
        network = build_part(ModelConfig(size=1024, generator="stylegan2", wavelet_levels=()), "hypernetwork")
    own = {
        k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    assert own == published_shapes()
    wanted = ["conv1", *(f"convs.{j}" for j in range(16))]
    assert list(network.names) == [*SHARED, *OTHERS]
    assert list(network.names.values()) == [f"{name}.conv.weight" for name in wanted]


# --------------------------------------------------------------------------- files and the forward pass


def published_offsets(s: dict[str, torch.Tensor], pair, widest: int) -> dict[int, torch.Tensor]:
    """Layer -> offsets [N, out, in, 3, 3], from a file's tensors; BatchNorms as at inference."""

    def norm(x, name):
        return F.batch_norm(x, s[f"{name}.running_mean"], s[f"{name}.running_var"], s[f"{name}.weight"],
                            s[f"{name}.bias"])  # fmt: skip

    def strided(x, block, first):
        for k in range(9):
            if (name := f"{block}.convs.{2 * k}.weight") in s:
                x = F.conv2d(x, s[name], s[name[:-6] + "bias"], first if k == 0 else 2, 1)
                x = F.leaky_relu(x, 0.01)
        return x

    x = F.prelu(norm(F.conv2d(pair, s["conv1.weight"], None, 2, 3), "bn1"), s["relu.weight"])
    for i in range(16):
        b = f"body.{i}"
        y = F.relu(
            norm(F.conv2d(x, s[f"{b}.conv1.weight"], None, 2 if i in (3, 7, 13) else 1, 1), f"{b}.bn1")
        )
        y = norm(F.conv2d(y, s[f"{b}.conv2.weight"], None, 1, 1), f"{b}.bn2")
        if f"{b}.downsample.0.weight" in s:
            x = norm(F.conv2d(x, s[f"{b}.downsample.0.weight"], None, 2 if i else 1), f"{b}.downsample.1")
        x = F.relu(x + y)
    found = {}
    for i in sorted({int(name.split(".")[1]) for name in s if name.startswith("refinement_blocks.")}):
        block = f"refinement_blocks.{i}"
        if f"{block}.linear.weight" in s:
            code = strided(x, block, 1).flatten(1)
            weight = s[f"{block}.linear.weight"]
            code = F.linear(code, weight / weight.shape[1] ** 0.5, s[f"{block}.linear.bias"])
            w1, b1, w2, b2 = (s[f"{block}.hypernet.{leaf}"] for leaf in ("w1", "b1", "w2", "b2"))
            rows = (code @ w2 + b2).view(len(code), widest, code.shape[1])
            found[i] = (rows @ w1 + b1).view(len(code), widest, widest, 3, 3)
        else:
            y = strided(x, block, 2).mean((2, 3), keepdim=True)
            y = F.conv2d(y, s[f"{block}.output.1.weight"], s[f"{block}.output.1.bias"])
            out = int(y.shape[1] / SIDES[i])
            found[i] = y.view(len(y), out, SIDES[i], 1, 1).expand(-1, -1, -1, 3, 3)
    return found


SIZE = 256
WIDE = dict(channel_multiplier=2 / 64, max_channels=8)  # 8 channels up to 64 px, then 4, 2
SIDES = {14: 8, 15: 4, 17: 4, 18: 2}  # channels that come in, of the layers that do not share


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """HyperStyle's two public files with random weights, 256 px, narrow; and the networks behind them."""
    folder = tmp_path_factory.mktemp("hyper")
    torch.manual_seed(0)
    decoder = generator("stylegan2", SIZE, **WIDE)
    encoder = randomise(WEncoder(decoder.n_latent, decoder.style_dim))
    network = HyperNetwork(tuned_layers(decoder), SIZE, 2)
    for value in network.parameters():
        value.data.add_(0.1 * torch.randn(value.shape))
    randomise(network)
    average = decoder.latent_avg.repeat(decoder.n_latent, 1)
    write_inversion(folder / "w.pt", {"encoder_type": "WEncoder"}, average, encoder=encoder, decoder=decoder)
    state = dict(network.state_dict())
    shared = {k: v for k, v in state.items() if k.startswith("shared_weight_hypernet.")}
    for block in SHARED:
        state |= {f"refinement_blocks.{block}.hypernet.{k.split('.')[1]}": v for k, v in shared.items()}
    write(folder / "h.pt", state, decoder)
    return folder, state, decoder, encoder


def write(path, hypernet, decoder):
    state = {f"hypernet.{k}": v for k, v in hypernet.items()}
    state |= {f"decoder.{k}": v for k, v in decoder.state_dict().items()}
    opts = {"encoder_type": "SharedWeightsHyperNetResNet", "n_iters_per_batch": 2, "input_nc": 6}
    average = decoder.latent_avg.repeat(decoder.n_latent, 1)
    torch.save({"state_dict": state, "opts": opts, "latent_avg": average, "global_step": 1}, path)
    return path


def with_offsets(decoder: StyleGAN2Generator, offsets: dict[int, torch.Tensor], k: int) -> StyleGAN2Generator:
    changed = copy.deepcopy(decoder)
    for index, (name, _, _) in tuned_layers(decoder).items():
        changed.get_parameter(name).data.mul_(1 + offsets[index][k])
    return changed


def test_the_converted_model_computes_the_published_inversion(public, tmp_path, monkeypatch):
    """From W by two steps: offsets that add up, weights W (1 + offset), each image its own generator."""
    folder, state, decoder, encoder = public
    out = tmp_path / "out.pt"
    assert convert.main([str(folder / "h.pt"), "-o", str(out), "--w-encoder", str(folder / "w.pt")]) == 0
    model = checkpoint.build_inverter(checkpoint.read(out), out)
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        small = x[..., :64, :64]  # quicker; the encoder takes any square
        w = F.linear(encoder.body(encoder.input_layer(small)).mean((2, 3)),
                     encoder.linear.weight / 512**0.5, encoder.linear.bias)  # fmt: skip
        ws = (w + decoder.latent_avg)[:, None].repeat(1, decoder.n_latent, 1)
        assert torch.allclose(model.latents(model.encoder(small)), ws, atol=1e-5)
        monkeypatch.setattr(model, "encode", lambda _: ws)
        naive, final = model.results(x)
        y = decoder(ws)
        assert torch.allclose(naive, y, atol=1e-4)
        offsets: dict[int, torch.Tensor] = {}
        for _ in range(2):
            added = published_offsets(state, torch.cat([x, y], 1), 8)
            offsets = {i: offsets.get(i, 0) + value for i, value in added.items()}
            y = torch.cat([with_offsets(decoder, offsets, k)(ws[k : k + 1]) for k in range(2)])
    assert torch.allclose(final, y, atol=1e-3) and (y - naive).abs().mean() > 0.01
    assert not torch.allclose(offsets[0][0], offsets[0][1], atol=1e-3)


def test_files_that_do_not_belong_together(public, tmp_path, capsys):
    folder, state, decoder, _ = public
    out, w = tmp_path / "out.pt", str(folder / "w.pt")

    def refused(path, *words) -> str:
        status = convert.main([str(path), "-o", str(out), *words])
        assert status in (1, 2) and not out.exists()
        return capsys.readouterr().err

    assert "--w-encoder: is needed" in refused(folder / "h.pt")
    assert "has no encoder" in refused(folder / "h.pt", "--w-encoder", str(folder / "h.pt"))
    other = write(tmp_path / "other.pt", state, generator("stylegan2", SIZE, seed=5, **WIDE))
    assert "made for another generator" in refused(other, "--w-encoder", w)
    name = "refinement_blocks.3.hypernet.w1"
    changed = write(tmp_path / "c.pt", {**state, name: state[name] + 1}, decoder)
    assert f"{name} differs from shared_weight_hypernet.w1" in refused(changed, "--w-encoder", w)
    fewer = write(tmp_path / "f.pt", {k: v for k, v in state.items() if k != name}, decoder)
    assert f"missing {name}" in refused(fewer, "--w-encoder", w)
    less = {k: v for k, v in state.items() if k != "refinement_blocks.14.output.1.bias"}
    assert "1 missing: refinement_blocks.14.output.1.bias" in refused(
        write(tmp_path / "l.pt", less, decoder), "--w-encoder", w
    )


# ------------------------------------------------------------------------------------------- training


def test_from_command_to_numbers(tmp_path, capsys):
    """A fresh hypernetwork changes nothing; a trained one does, and is measured beside the naive one."""
    data = write_portraits(tmp_path / "data")
    assert run("generator", data, tmp_path / "g") == 0
    start = str(tmp_path / "g" / "checkpoint.pt")
    words = ("--encoder", start, "--set", "hyper_steps=2", "--set", "ema_kimg=0.001", "--lr", "0.01")
    assert run("hypernetwork", data, tmp_path / "h", *words, "--steps", "6") == 0
    path = tmp_path / "h" / "checkpoint.pt"
    content = checkpoint.read(path)
    assert sorted(content["weights"]) == ["encoder", "generator", "hypernetwork"]
    model = checkpoint.build_inverter(content, path)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        naive, final = model.results(x)
        model.hypernetwork = build_part(checkpoint.model_config(content, path), "hypernetwork").eval()
        fresh = model.results(x)
    assert torch.allclose(fresh[0], fresh[1], atol=1e-5) and (naive - final).abs().max() > 1e-4
    capsys.readouterr()
    words = ["--model", str(path), "--data", str(data), "--protocol", "portraits", "--limit", "2"]
    assert evaluate.main([*words, "-q", "--json"]) == 0
    l2 = json.loads(capsys.readouterr().out)["results"]["l2"]
    assert l2["naive"]["mean"] != l2["final"]["mean"]
    release = str(tmp_path / "release.safetensors")
    assert convert.main([str(path), "-o", release]) == 0
    capsys.readouterr()
    assert evaluate.main(["--model", release, *words[2:], "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["l2"] == l2


@pytest.mark.parametrize("size", [32, 64])
def test_gradients_stay_inside_a_step_and_add_up(size):
    """The gradient is that of one backward pass per step on detached images and offsets, at R."""
    from paper_stages import TINY

    from wagi.config import settings
    from wagi.features import FeatureFiles
    from wagi.model import area_resize
    from wagi.training.hypernetwork import HypernetworkStage

    off = {"lambda_lpips": "0", "lambda_id": "0", "hyper_width": "2", "hyper_steps": "2"}
    off |= {"size": str(size), "residual_resolution": "32"}
    model, train = settings("ffhq1024", "hypernetwork", {**TINY, **off})
    torch.manual_seed(0)
    parts = {part: build_part(model, part) for part in ("generator", "encoder")}
    stage, x = HypernetworkStage(model, train, parts, FeatureFiles()), torch.rand(2, 3, size, size)
    network = stage.models["hypernetwork"].eval()
    for value in network.parameters():
        value.data.add_(0.1 * torch.randn(value.shape))
    loss, _ = stage.refine({"image": x}, torch.Generator())
    loss.backward()
    found = {name: value.grad.clone() for name, value in network.named_parameters()}
    network.zero_grad()
    with torch.no_grad():
        ws, x = stage.model.encode(x), area_resize(x, 32)
        y = parts["generator"](ws)
    offsets, total = None, 0.0
    for _ in range(2):
        added = network(torch.cat([x, area_resize(y.detach(), 32)], 1))
        offsets = {k: v + (offsets[k].detach() if offsets else 0) for k, v in added.items()}
        y = stage.model.render(ws, offsets)
        step = (area_resize(y, 32) - x).square().mean()
        step.backward()
        total += step.item()
    assert loss.item() == pytest.approx(total, rel=1e-5)
    for name, value in network.named_parameters():
        assert torch.allclose(found[name], value.grad, atol=1e-6, rtol=1e-3), name
