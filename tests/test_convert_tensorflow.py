"""The official TensorFlow SWAGAN converts to a generator with the same images, to 1e-4."""

import numpy as np
import published
import pytest
import torch
from public_files import tf_shapes, tf_variables, write_tf
from tf_reference import Graph, dwt, iwt

from wagi import checkpoint, convert


def converted(tmp_path, variables, suffix=".pt"):
    out = tmp_path / f"out{suffix}"
    source = write_tf(tmp_path / "swagan.pkl", variables)
    assert convert.main([str(source), "-o", str(out), "--overwrite"]) == 0
    return out


@pytest.mark.parametrize("size", [256, 1024])
def test_our_tiny_layout_is_the_published_one(size):
    """Names and shapes of the generator at full width, from the listing of the real graph."""
    listed = published.tf_variables(size)
    real = {name: shape for name, shape in listed.items() if not name.startswith("D/")}
    assert tf_shapes(size, 512, 8, 2, 512) == real


@pytest.mark.parametrize("size, kernel", [(32, 3), (64, 3), (64, 1)])
def test_images_equal_the_official_arithmetic(tmp_path, size, kernel):
    variables = tf_variables(size, kernel, seed=size + kernel)
    model = checkpoint.load_generator(converted(tmp_path, variables))
    graph = Graph(variables)
    rng = np.random.default_rng(1)
    dlatents = rng.standard_normal((2, model.n_latent + 2, model.style_dim))  # two more in the file than used
    expected = np.stack([graph.synthesis(ws) for ws in dlatents])
    with torch.no_grad():
        image = model(torch.tensor(dlatents[:, : model.n_latent], dtype=torch.float32)).numpy()
    assert expected.std() > 0.05
    assert np.abs(image - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_mapping_and_mean_latent(tmp_path):
    variables = tf_variables()
    model = checkpoint.load_generator(converted(tmp_path, variables))
    z = np.random.default_rng(2).standard_normal((3, model.style_dim))
    expected = np.stack([Graph(variables).mapping(row) for row in z])
    with torch.no_grad():
        assert np.allclose(model.map(torch.tensor(z, dtype=torch.float32)).numpy(), expected, atol=1e-5)
    assert np.array_equal(model.latent_avg.numpy(), variables["dlatent_avg"])


def test_the_reference_inverts_itself():
    x = np.random.default_rng(3).standard_normal((3, 8, 8))
    assert np.allclose(iwt(dwt(x)), x)


def test_protocols_and_byte_orders(tmp_path):
    """Pickle protocols 2 to 5, Fortran order and big-endian numbers give the same weights."""
    variables = tf_variables()
    odd = dict(variables)
    odd["synthesis/8x8/Conv1/weight"] = np.asfortranarray(variables["synthesis/8x8/Conv1/weight"])
    odd["mapping/Dense0/weight"] = variables["mapping/Dense0/weight"].astype(">f4")
    states = []
    for name, found, protocol in (("a", variables, 4), ("b", odd, 4), ("c", variables, 5)):
        source, out = write_tf(tmp_path / f"{name}.pkl", found, protocol), tmp_path / f"{name}.pt"
        assert convert.main([str(source), "-o", str(out)]) == 0
        states.append(checkpoint.read(out)["weights"]["generator"])
    for state in states[1:]:
        assert all(torch.equal(value, state[name]) for name, value in states[0].items())


def test_info_says_what_it_is(tmp_path, capsys):
    source = write_tf(tmp_path / "swagan.pkl", tf_variables())
    assert convert.main([str(source), "--info"]) == 0
    text = capsys.readouterr().out
    for words in (
        "official TensorFlow SWAGAN",
        "32 px",
        "6 styles of 8",
        "tWavelets 3x3",
        "8 in the file, 6 used",
    ):
        assert words in text, text


@pytest.mark.parametrize(
    "change, words",
    [
        ({"synthesis/8x8/Conv1/bias": None}, ("1 missing", "synthesis/8x8/Conv1/bias", "SWAGAN 32 px")),
        (
            {"synthesis/8x8/Skip/weight": np.zeros(3, np.float32)},
            ("1 unexpected", "synthesis/8x8/Skip/weight"),
        ),
        ({"synthesis/8x8/Conv1/weight": np.zeros((3, 3, 8), np.float32)}, ("rank 4", "8x8/Conv1/weight")),
        (
            {"synthesis/8x8/Conv1/bias": np.zeros(9, np.float32)},
            ("convs.1.activate.bias [9] instead of [8]",),
        ),
        ({"synthesis/8x8/ToRGB/weight": np.zeros(3, np.float32)}, ("StyleGAN2",)),
        ({"dlatent_avg": np.zeros(4, np.float32)}, ("latent_avg [4]",)),
        ({"synthesis/noise0": np.full((1, 1, 4, 4), np.nan, np.float32)}, ("NaN", "noise0")),
    ],
)
def test_another_network_is_refused_by_name(tmp_path, capsys, change, words):
    variables = {k: v for k, v in {**tf_variables(), **change}.items() if v is not None}
    source, out = write_tf(tmp_path / "swagan.pkl", variables), tmp_path / "out.pt"
    assert convert.main([str(source), "-o", str(out)]) == 1
    text = capsys.readouterr().err
    assert not out.exists() and text.count("\n") == 1
    for word in words:
        assert word in text, text
