"""Promise: one inversion path, equal to the naive two-pass form, and edits that follow section 6 of HFGI."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter
from tolerances import NETWORK

from wagi.model import Inversion, WaGI, area_resize, fade
from wagi.networks.alignment import DistortionAligner
from wagi.networks.fusion import ConsultationEncoder
from wagi.networks.small_encoder import SmallEncoder
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator


def tiny_model(size=32, cls=Generator, features=(8, 16), wavelets=(16,)) -> WaGI:
    """A WaGI of random weights whose gates are far from the identity."""
    torch.manual_seed(0)
    g = cls(size, style_dim=16, n_mlp=2, channel_multiplier=0.03125, max_channels=16)
    g.latent_avg = g.mean_latent(500)
    fusion = ConsultationEncoder(
        min(256, size), {r: g.channels(r) for r in features}, wavelets, hidden=16, zero_init=False
    )
    encoder = SmallEncoder(g.n_latent, 16, input_size=32, width=16)
    return WaGI(g, encoder, DistortionAligner((8, 8, 8, 8)), fusion).eval()


@pytest.mark.parametrize(
    "kw",
    [{}, {"features": (), "wavelets": (16,)}, {"cls": StyleGAN2Generator, "features": (8,), "wavelets": ()}],
)
@torch.no_grad()
def test_inversion_equals_two_full_passes(kw):
    model = tiny_model(**kw)
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    result = model.invert(x)
    ws = model.encoder(x) + model.generator.latent_avg
    naive = model.generator(ws)
    residual = x - naive.clamp(-1, 1)
    aligned = model.aligner(residual, naive.clamp(-1, 1))
    image = model.generator(ws, gates=model.fusion(aligned))
    for ours, expected in zip(result, (ws, naive, residual, aligned, image, x), strict=True):
        torch.testing.assert_close(ours, expected, **NETWORK)
    assert (image - naive).abs().max() > 0.01, "the gates must matter in this test"


@torch.no_grad()
def test_edit_aligns_the_residual_of_the_source_to_the_edited_image():
    model = tiny_model()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    source = model.invert(x)
    ws_edit = source.ws + 0.5 * torch.randn_like(source.ws)
    naive = model.generator(ws_edit)
    faded = fade(source.residual, source.naive.clamp(-1, 1), naive.clamp(-1, 1))
    for residual, edited in (
        (source.residual, model.edit(x, ws_edit, faded=False)),
        (faded, model.edit(x, ws_edit)),
    ):
        aligned = model.aligner(residual, naive.clamp(-1, 1))
        image = model.generator(ws_edit, gates=model.fusion(aligned))
        torch.testing.assert_close(edited.image, image, **NETWORK)
    assert torch.equal(model.edit(source, ws_edit).image, edited.image)
    for ours, same in zip(model.edit(source, source.ws), source, strict=True):
        torch.testing.assert_close(ours, same, **NETWORK)


def test_a_residual_fades_where_the_edit_changes_the_image():
    """Against scipy's moving average, with windows cut at the borders; nothing changed, nothing faded."""
    rng = np.random.default_rng(0)
    residual, before, after = rng.uniform(-1, 1, (3, 2, 3, 80, 80)).astype(np.float32)
    after[:, :, 40:] = before[:, :, 40:]
    change = np.square(after - before).mean(1, keepdims=True)
    window = (1, 1, 5, 5)  # 80 / 16, odd
    total, share = (uniform_filter(x, window, mode="constant") for x in (change, np.ones_like(change)))
    found = fade(*map(torch.from_numpy, (residual, before, after)))
    np.testing.assert_allclose(found, residual / (1 + total / share / 0.01), **NETWORK)
    assert torch.equal(found[:, :, 43:], torch.from_numpy(residual)[:, :, 43:])


@torch.no_grad()
def test_zero_initialised_fusion_starts_at_the_naive_inversion():
    model = tiny_model()
    model.fusion = ConsultationEncoder(32, {8: 16, 16: 16}, (16,), hidden=16).eval()
    result = model.invert(torch.rand(1, 3, 32, 32) * 2 - 1)
    torch.testing.assert_close(result.image, result.naive, **NETWORK)


@torch.no_grad()
def test_residual_lives_at_256_for_larger_generators():
    model = tiny_model(512, features=(64,), wavelets=(128,))
    result = model.invert(torch.zeros(1, 3, 512, 512))
    assert isinstance(result, Inversion)
    assert result.image.shape[-1] == 512 and result.aligned.shape[-1] == 256


def test_area_resize_is_a_block_mean():
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(area_resize(x, 16), F.interpolate(x, size=16, mode="area"))
    with pytest.raises(ValueError, match="multiple of 48"):
        area_resize(x, 48)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 64, 64), (1, 3, 32, 16)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ValueError, match="images must be"):
        tiny_model().invert(torch.zeros(shape))
