"""Files as others really have them: early, wrapped or shaped otherwise are read; unusable ones are named."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from public_files import generator, write_flat
from safetensors import safe_open

from wagi import checkpoint, convert
from wagi.conversion import KINDS, rebuild
from wagi.conversion.kinds import READERS


def run(*arguments) -> int:
    return convert.main([str(argument) for argument in arguments])


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


def without_noise(model) -> dict:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("noises.")}


def test_every_kind_has_its_reader():
    assert set(READERS) == set(KINDS)


# ------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("kind", ["swagan", "stylegan2"])
def test_a_generator_without_noise_maps_gets_seeded_ones(tmp_path, capsys, kind):
    """Early rosinality checkpoints (550000.pt): the rest is the file's, the maps are the same each time."""
    model = generator(kind)
    torch.save({"g_ema": without_noise(model), "latent_avg": model.latent_avg}, tmp_path / "g.pt")
    for name in ("a.pt", "b.pt"):
        assert run(tmp_path / "g.pt", "-o", tmp_path / name) == 0
    assert "noise       seeded: the file has none" in capsys.readouterr().out
    a, b = (checkpoint.load_generator(tmp_path / name).state_dict() for name in ("a.pt", "b.pt"))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert all(torch.equal(value, a[name]) for name, value in without_noise(model).items())
    noise = torch.cat([value.flatten() for name, value in a.items() if name.startswith("noises.")])
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1


def test_some_noise_maps_missing_is_damage(tmp_path, capsys):
    state = generator().state_dict()
    del state["noises.noise_1"]
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    assert run(tmp_path / "g.pt", "--info") == 1
    assert "noises.noise_1" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("key", ["g_ema", "state_dict", None])
def test_prefixes_of_a_generator(tmp_path, capsys, prefix, key):
    model = generator()
    state = prefixed(prefix, model.state_dict())
    torch.save(state if key is None else {key: state}, tmp_path / "g.pt")
    assert run(tmp_path / "g.pt", "-o", tmp_path / "out.pt") == 0
    assert f"'{prefix}' was before each" in capsys.readouterr().out
    loaded = checkpoint.load_generator(tmp_path / "out.pt").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["module.", "module.encoder."])
def test_prefixes_of_a_feature_network(tmp_path, capsys, prefix):
    state = rebuild.linear("alex").state_dict()
    write_flat(tmp_path / "alex.pth", prefixed(prefix, state))
    assert run(tmp_path / "alex.pth", "-o", tmp_path / "alex.pt") == 0
    assert f"'{prefix}' was before each" in capsys.readouterr().out
    found = torch.load(tmp_path / "alex.pt", weights_only=True)
    assert all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    "shape, styles", [((8,), "all"), ((1, 1, 8), "all"), ((18, 1, 8), "18"), ((16, 8), "16")]
)
@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_shapes_of_directions(tmp_path, shape, styles, suffix):
    value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    source, out = tmp_path / f"smile{suffix}", tmp_path / "smile.safetensors"
    np.save(source, value) if suffix == ".npy" else torch.save(torch.from_numpy(value), source)
    assert run(source, "-o", out) == 0
    with safe_open(out, "pt") as file:
        assert np.array_equal(file.get_tensor("vector").numpy(), value.reshape(-1, 8).squeeze())
        assert file.metadata()["styles"] == styles


# ---------------------------------------------------------------------------------------- what is named


def refused(capsys, source, status: int = 1) -> str:
    """The one line of a refusal; nothing is written."""
    out = source.with_name("out.pt")
    assert run(source, "-o", out) == status and not out.exists()
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1, text
    return text


def test_w_plus_laid_flat(tmp_path, capsys):
    np.save(tmp_path / "s.npy", np.zeros((1, 9216), np.float32))
    assert "9216 numbers per row are W+ laid flat" in refused(capsys, tmp_path / "s.npy")


def test_lpips_for_squeezenet(tmp_path, capsys):
    widths = (64, 128, 256, 384, 384, 512, 512)
    linear = {f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1) for k, width in enumerate(widths)}
    torch.save(linear, tmp_path / "squeeze.pth")
    assert "LPIPS linear layers for SqueezeNet" in refused(capsys, tmp_path / "squeeze.pth")
    shapes = {"features.0.weight": (64, 3, 3, 3), "features.3.squeeze.weight": (16, 64, 1, 1)}
    trunk = {name: torch.rand(shape) for name, shape in shapes.items()}
    torch.save(trunk, tmp_path / "trunk.pth")
    assert "a SqueezeNet" in refused(capsys, tmp_path / "trunk.pth")


def test_wrapped_unusable_files_keep_their_names(tmp_path, capsys):
    torch.save({"state_dict": {"module.encoder_q.conv1.weight": torch.zeros(1)}}, tmp_path / "moco.pt")
    assert "MoCo" in refused(capsys, tmp_path / "moco.pt")
    torch.save({"state_dict": prefixed("module.", {"hypernet.a": torch.zeros(1)})}, tmp_path / "h.pt")
    assert "HyperStyle" in refused(capsys, tmp_path / "h.pt")


def _reconstruct(meta):
    raise AssertionError("executed")


class Persistent:
    """Pickles as a network of NVIDIA's PyTorch code does: a call with the class's source code."""

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit('executed')",
                "class_name": "Generator", "state": {"z_dim": 512}}  # fmt: skip
        return _reconstruct, (meta,)


@pytest.mark.parametrize("container", ["pickle", "torch", "legacy"])
def test_persistent_pickles_of_nvidia(tmp_path, capsys, monkeypatch, container):
    """StyleGAN2-ADA's {G, D, G_ema}: said to be one, and what to do; its source code does not run."""
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    monkeypatch.setattr(_reconstruct, "__module__", "torch_utils.persistence")
    monkeypatch.setattr(_reconstruct, "__qualname__", "_reconstruct_persistent_obj")
    content, source = {"G": Persistent(), "D": None, "G_ema": Persistent()}, tmp_path / "ffhq.pkl"
    if container == "pickle":
        source.write_bytes(pickle.dumps(content, protocol=4))
    else:
        torch.save(content, source, _use_new_zipfile_serialization=container == "torch")
    text = refused(capsys, source)
    assert "StyleGAN2-ADA or StyleGAN3" in text and "nothing was executed" in text
    assert "export_weights.py" in text and len(text) < 600


def test_a_folder_and_a_pipe(tmp_path, capsys):
    (tmp_path / "weights").mkdir()
    assert "is a folder; name the weight file in it" in refused(capsys, tmp_path / "weights", 2)
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or device" in refused(capsys, tmp_path / "pipe", 2)
    assert "no such file" in refused(capsys, tmp_path / "absent.pt", 2)


def test_the_early_layout_goes_there_and_back(tmp_path):
    """Without noise in, with noise out: --to rosinality of the conversion is a whole checkpoint."""
    model = generator()
    torch.save({"g_ema": without_noise(model), "latent_avg": model.latent_avg}, tmp_path / "g.pt")
    assert run(tmp_path / "g.pt", "-o", tmp_path / "back.pt", "--to", "rosinality") == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)["g_ema"]
    assert set(back) == set(model.state_dict())
