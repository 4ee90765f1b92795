"""InterFaceGAN and GANSpace files become small safetensors, and only fit the generator they were made for."""

import numpy as np
import pytest
import torch
from public_files import generator, write_rosinality
from safetensors import safe_open

import wagi_rt.directions
from wagi import checkpoint, convert
from wagi.config import ModelConfig
from wagi.conversion.public_directions import require_fit
from wagi.errors import UserError


def run(*arguments) -> int:
    return convert.main([str(argument) for argument in arguments])


def unit(*shape):
    value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return value / np.linalg.norm(value, axis=-1, keepdims=True)


@pytest.mark.parametrize("shape, suffix", [((1, 8), ".npy"), ((1, 8), ".pt"), ((1, 18, 8), ".pt")])
def test_interfacegan(tmp_path, shape, suffix):
    value, source, out = unit(*shape), tmp_path / f"smile{suffix}", tmp_path / "smile.safetensors"
    np.save(source, value) if suffix == ".npy" else torch.save(torch.from_numpy(value), source)
    assert run(source, "-o", out) == 0
    with safe_open(out, "pt") as file:
        assert np.array_equal(file.get_tensor("vector").numpy(), value.reshape(-1, 8).squeeze())
        words = file.metadata()
    direction = wagi_rt.directions.read(out)  # the runtime takes it as it is
    assert direction.name == "smile" and np.array_equal(direction.vector, value.reshape(-1, 8).squeeze())
    assert words["made_for"] == "stylegan2" and words["styles"] == ("18" if len(shape) == 3 else "all")


def test_stylespace(tmp_path):
    """The 9088 channels of a StyleGAN2 of 1024 px; another generator's, and another family's, are refused."""
    value = np.random.default_rng(1).standard_normal((1, 9088)).astype(np.float32)
    np.save(tmp_path / "gaze.npy", value)
    assert run(tmp_path / "gaze.npy", "-o", tmp_path / "gaze.safetensors") == 0
    direction = wagi_rt.directions.read(tmp_path / "gaze.safetensors")
    assert direction.space == wagi_rt.directions.STYLE and np.array_equal(direction.vector, value[0])
    facts = {"space": "style", "channels": "9088", "made_for": "stylegan2"}
    require_fit(facts, ModelConfig(size=1024, generator="stylegan2"), "gaze")
    for config, message in (
        (ModelConfig(size=512, generator="stylegan2"), "9088 styles, the generator has 8960"),
        (ModelConfig(size=1024, generator="swagan"), "StyleGAN2 directions do not fit a SWAGAN"),
    ):
        with pytest.raises(UserError, match=message):
            require_fit(facts, config, "gaze")


def test_ganspace(tmp_path, capsys):
    found = {"mean": torch.randn(1, 8), "comp": torch.randn(5, 1, 8), "std": torch.rand(5)}
    torch.save(found, tmp_path / "pca.pt")
    assert run(tmp_path / "pca.pt", "-o", tmp_path / "pca.safetensors") == 2
    assert "name a folder" in capsys.readouterr().err and not (tmp_path / "pca.safetensors").exists()
    out = tmp_path / "directions"
    assert run(tmp_path / "pca.pt", "-o", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [f"pca-0{k}.safetensors" for k in range(5)]
    for k in range(5):
        direction = wagi_rt.directions.read(out / f"pca-0{k}.safetensors")
        np.testing.assert_allclose(direction.vector, found["comp"][k, 0] * found["std"][k], rtol=1e-6)
        assert direction.name == f"pca-0{k}" and direction.unit == "one standard deviation of W"
    assert run(tmp_path / "pca.pt", "-o", out) == 2  # not over what is there
    np.save(tmp_path / "age.npy", unit(1, 8))
    assert run(tmp_path / "age.npy", "-o", tmp_path / "folder") == 2


def test_stylegan2_directions_do_not_fit_a_swagan(tmp_path, capsys):
    np.save(tmp_path / "age.npy", unit(1, 8))
    for kind in ("swagan", "stylegan2"):
        source = write_rosinality(tmp_path / f"{kind}-public.pt", generator(kind), average=True)
        assert run(source, "-o", tmp_path / f"{kind}.pt") == 0
    out, swagan = tmp_path / "age.safetensors", tmp_path / "swagan.pt"
    capsys.readouterr()
    assert run(tmp_path / "age.npy", "-o", out, "--generator", swagan) == 1
    text = capsys.readouterr().err
    assert not out.exists() and text.count("\n") == 1 and "W was learned on its own" in text
    assert run(tmp_path / "age.npy", "-o", out, "--generator", tmp_path / "stylegan2.pt") == 0
    owner = checkpoint.weights_hash(checkpoint.load_generator(tmp_path / "stylegan2.pt"))
    assert wagi_rt.directions.read(out).generator == owner
    assert (
        run(
            tmp_path / "age.npy",
            "-o",
            tmp_path / "b.safetensors",
            "--generator",
            swagan,
            "--made-for",
            "swagan",
        )
        == 0
    )
    capsys.readouterr()
    assert run("--info", out, swagan, tmp_path / "stylegan2.pt") == 0
    text = capsys.readouterr().out
    assert "age.safetensors with swagan.pt: no: StyleGAN2 directions do not fit a SWAGAN" in text
    assert "age.safetensors with stylegan2.pt: yes" in text
