"""Promise: generators and discriminators have exactly the published names and shapes."""

import pytest
import torch

from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Discriminator, Generator


def difference(module: torch.nn.Module, listing: dict) -> str:
    """Readable difference between a module's state dict and a published listing; empty when equal."""
    ours = {name: list(value.shape) for name, value in module.state_dict().items()}
    theirs = {name: entry["shape"] for name, entry in listing.items()}
    lines = [f"missing    {k} {theirs[k]}" for k in theirs.keys() - ours.keys()]
    lines += [f"unexpected {k} {ours[k]}" for k in ours.keys() - theirs.keys()]
    lines += [f"shape      {k} {ours[k]} != {v}" for k, v in theirs.items() if ours.get(k, v) != v]
    return "\n".join(sorted(lines))


@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024])
def test_swagan_generator(state_dicts, size):
    with torch.device("meta"):
        generator = Generator(size)
    assert not difference(generator, state_dicts(f"swagan_generator_{size}"))


@pytest.mark.parametrize("size", [256, 1024])
def test_swagan_discriminator(state_dicts, size):
    with torch.device("meta"):
        discriminator = Discriminator(size)
    assert not difference(discriminator, state_dicts(f"swagan_discriminator_{size}"))


def test_stylegan2_generator(state_dicts):
    with torch.device("meta"):
        generator = StyleGAN2Generator(1024)
    # The listing is that of an e4e decoder, which carries the mapping network under the same names.
    listing = state_dicts("stylegan2_generator_1024")
    ours = {k: v for k, v in generator.state_dict().items() if k in listing}
    assert set(ours) == set(listing)
    assert all(list(ours[k].shape) == entry["shape"] for k, entry in listing.items())


def test_fixed_buffers_hold_the_published_values(state_dicts):
    generator, listing = Generator(64, style_dim=512), state_dicts("swagan_generator_64")
    checked = 0
    for name, value in generator.state_dict().items():
        if "value" in listing[name]:
            expected = torch.tensor(listing[name]["value"]).view_as(value)
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)
            checked += 1
    assert checked == 34
