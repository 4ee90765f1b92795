"""InterFaceGAN and GANSpace files become small safetensors, and only fit the generator they were made for."""

import numpy as np
import pytest
import torch
from public_files import generator, write_rosinality
from safetensors import safe_open

import wagi_rt.directions
from wagi import convert


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


def test_ganspace(tmp_path):
    found = {"mean": torch.randn(1, 8), "comp": torch.randn(5, 1, 8), "std": torch.rand(5)}
    torch.save(found, tmp_path / "pca.pt")
    out = tmp_path / "pca.safetensors"
    assert run(tmp_path / "pca.pt", "-o", out) == 0
    with safe_open(out, "pt") as file:
        assert torch.equal(file.get_tensor("comp"), found["comp"][:, 0])
        assert torch.equal(file.get_tensor("mean"), found["mean"][0])
    assert run(out, "-o", tmp_path / "again.safetensors") == 0  # our own files are read again


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
