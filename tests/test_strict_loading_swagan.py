"""Promise: generators and discriminators have exactly the published names and shapes."""

import published
import pytest
import torch

from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Discriminator, Generator


@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024])
def test_swagan_generator(size):
    with torch.device("meta"):
        generator = Generator(size)
    assert not published.difference(generator, published.state_dict(f"swagan_generator_{size}"))


@pytest.mark.parametrize("size", [256, 1024])
def test_swagan_discriminator(size):
    with torch.device("meta"):
        discriminator = Discriminator(size)
    assert not published.difference(discriminator, published.state_dict(f"swagan_discriminator_{size}"))


def test_stylegan2_generator():
    with torch.device("meta"):
        generator = StyleGAN2Generator(1024)
    assert not published.difference(generator, published.state_dict("stylegan2_generator_1024"))


@pytest.mark.parametrize(
    "name, make, filters",
    [("swagan_generator_64", Generator, 34), ("swagan_discriminator_256", Discriminator, 54)],
)
def test_fixed_buffers_hold_the_published_values(name, make, filters):
    size = int(name.rsplit("_", 1)[1])
    state = make(size).state_dict()
    values = {k: entry["value"] for k, entry in published.state_dict(name).items() if "value" in entry}
    assert len(values) == filters
    for key, value in values.items():
        expected = torch.tensor(value).view_as(state[key])
        torch.testing.assert_close(state[key], expected, atol=1e-6, rtol=0, msg=key)
