"""Arithmetic of the encoders: units, pyramid, progressive stage, batch independence, gradients, cost."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tolerances import NETWORK, TOL
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from wagi.networks.e4e import Backbone, Encoder4Editing, LatentDiscriminator, _merge
from wagi.networks.irse import Bottleneck
from wagi.networks.small_encoder import SmallEncoder

N_STYLES = 9  # coarse, middle and fine heads of e4e are all there


@pytest.fixture(scope="module")
def e4e() -> Encoder4Editing:
    torch.manual_seed(0)
    encoder = Encoder4Editing(N_STYLES, style_dim=8).eval()
    for unit in encoder.body:
        # The few bias-free ReLUs of the attention can all be off by chance; positive inputs keep them on.
        nn.init.constant_(unit.res_layer[4].bias, 0.5)
        unit.res_layer[5].fc1.weight.data.abs_()
    return encoder


@pytest.fixture(scope="module")
def small() -> SmallEncoder:
    torch.manual_seed(0)
    encoder = SmallEncoder(N_STYLES, style_dim=8, input_size=32, width=16).eval()
    for delta in encoder.deltas:
        nn.init.normal_(delta.weight, std=0.1)
    return encoder


@pytest.fixture(params=["e4e", "small"])
def encoder(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def randomise_norms(module: nn.Module) -> None:
    """Statistics, gains and slopes that a wrong layer order or a shared PReLU slope would not survive."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, -0.5, 0.5)


def batch_norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    mean, var, gain, bias = (
        v[:, None, None] for v in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + bias


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize(("depth", "stride"), [(32, 2), (48, 1), (48, 2)])
@torch.no_grad()
def test_unit_against_its_definition(squeeze, depth, stride):
    """BN, conv, PReLU per channel, strided conv, BN, channel attention; shortcut subsampled or projected."""
    torch.manual_seed(0)
    unit = Bottleneck(32, depth, stride, squeeze).double().eval()
    randomise_norms(unit)
    x = torch.randn(2, 32, 7, 8, dtype=torch.float64)

    layers = unit.res_layer
    y = F.conv2d(batch_norm(x, layers[0]), layers[1].weight, padding=1)
    y = torch.where(y >= 0, y, y * layers[2].weight[:, None, None])
    y = batch_norm(F.conv2d(y, layers[3].weight, stride=stride, padding=1), layers[4])
    if squeeze:
        pooled = y.mean((2, 3))
        hidden = (pooled @ layers[5].fc1.weight.flatten(1).T).clamp(min=0)
        assert hidden.shape[1] == depth // 16
        y = y / (1 + torch.exp(-(hidden @ layers[5].fc2.weight.flatten(1).T)))[:, :, None, None]
    shortcut = x[:, :, ::stride, ::stride]
    if depth != 32:
        projected = torch.einsum("oi,nihw->nohw", unit.shortcut_layer[0].weight.flatten(1), shortcut)
        shortcut = batch_norm(projected, unit.shortcut_layer[1])
    torch.testing.assert_close(unit(x), y + shortcut, **TOL[torch.float64])


def test_backbone_gives_unit_vectors():
    torch.manual_seed(0)
    with torch.no_grad():
        features = Backbone().eval()(torch.randn(2, 3, 112, 112))
    assert features.shape == (2, 512)
    np.testing.assert_allclose(features.norm(dim=1), np.ones(2), **TOL[np.float32])


def test_pyramid_aligns_corners():
    """Output pixel i of m samples position i (n - 1) / (m - 1) of n: linear interpolation by numpy."""
    rng = np.random.default_rng(0)
    coarse, lateral = rng.normal(size=(4, 4)), rng.normal(size=(8, 8))
    at = np.arange(8) * 3 / 7
    rows = np.stack([np.interp(at, np.arange(4), row) for row in coarse])
    expected = np.stack([np.interp(at, np.arange(4), column) for column in rows.T], axis=1) + lateral
    ours = _merge(torch.from_numpy(coarse)[None, None], torch.from_numpy(lateral)[None, None])
    np.testing.assert_allclose(ours[0, 0].numpy(), expected, **TOL[np.float64])


@torch.no_grad()
def test_e4e_maps_and_heads(e4e, images):
    """Body taps after units 6, 20 and 23, the pyramid over them, and which head reads what."""
    x = e4e.input_layer(images)
    taps = {}
    for i, unit in enumerate(e4e.body):
        x = unit(x)
        taps[i] = x
    assert [tuple(taps[i].shape[1:]) for i in (6, 20, 23)] == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]

    def enlarge(y: Tensor) -> Tensor:
        return F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)

    middle = enlarge(taps[23]) + e4e.latlayer1(taps[20])
    fine = enlarge(middle) + e4e.latlayer2(taps[6])
    read = [taps[23]] * 3 + [middle] * 4 + [fine] * 2
    offsets = [head(features) for head, features in zip(e4e.styles, read, strict=True)]
    expected = torch.stack([offsets[0]] + [offsets[0] + delta for delta in offsets[1:]], dim=1)
    torch.testing.assert_close(e4e(images), expected, **NETWORK)
    assert [len(head.convs) // 2 for head in e4e.styles] == [4] * 3 + [5] * 4 + [6] * 2


@torch.no_grad()
def test_stage_frees_the_first_deltas_only(encoder, images):
    full = encoder(images)
    assert full.shape == (3, N_STYLES, 8)
    try:
        for stage in (0, 1, 2, 3, 7, N_STYLES - 1, N_STYLES + 5):
            encoder.stage = stage
            offsets = encoder(images)
            free = min(stage, N_STYLES - 1)
            torch.testing.assert_close(offsets[:, : free + 1], full[:, : free + 1], **TOL[torch.float32])
            assert torch.equal(offsets[:, free + 1 :], offsets[:, :1].expand(-1, N_STYLES - 1 - free, -1))
        assert not torch.allclose(full[:, 1:], full[:, :1].expand(-1, N_STYLES - 1, -1))
    finally:
        encoder.stage = None


def test_negative_stage_is_refused(encoder):
    with pytest.raises(ValueError, match="stage"):
        encoder.stage = -1


@torch.no_grad()
def test_result_does_not_depend_on_the_batch(encoder, images):
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(encoder(images), alone, **NETWORK)


@pytest.mark.parametrize("shape", [(48, 64), (65, 65), (512, 512)])
def test_e4e_refuses_other_sizes(e4e, shape):
    with pytest.raises(ValueError, match=f"got {shape[0]}x{shape[1]}"):
        e4e(torch.zeros(1, 3, *shape))


def test_gradient_reaches_every_parameter(encoder, images):
    encoder.zero_grad()
    offsets = encoder(images[:1])
    (offsets * torch.randn(offsets.shape)).sum().backward()
    dead = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    encoder.zero_grad()
    assert not dead


def test_small_encoder_starts_in_w_and_can_leave_it(images):
    torch.manual_seed(0)
    encoder = SmallEncoder(4, style_dim=8, input_size=32, width=16)
    offsets = encoder(images)
    assert torch.equal(offsets, offsets[:, :1].expand_as(offsets))
    (offsets * torch.randn(offsets.shape)).sum().backward()
    assert all(delta.weight.grad.abs().max() > 0 for delta in encoder.deltas)


@torch.no_grad()
def test_small_encoder_averages_larger_images(small, images):
    blocks = images.reshape(3, 3, 32, 2, 32, 2).mean((3, 5))
    torch.testing.assert_close(small(images), small(blocks), **NETWORK)


def test_small_encoder_refuses_other_sizes(small):
    for shape in ((16, 16), (48, 48), (32, 64)):
        with pytest.raises(ValueError, match="multiple of 32"):
            small(torch.zeros(1, 3, *shape))
    for size in (16, 48):
        with pytest.raises(ValueError, match="power of two"):
            SmallEncoder(4, 8, input_size=size)


def test_small_encoder_stays_small():
    """The embedded model's budget: at most 2.5 M parameters and 0.16 G multiply-adds at 64 px."""
    with torch.device("meta"):
        encoder = SmallEncoder(8, style_dim=128)
        with FlopCounterMode(display=False) as counter:
            encoder(torch.empty(1, 3, 64, 64))
    assert sum(p.numel() for p in encoder.parameters()) < 2.5e6
    assert counter.get_total_flops() / 2 < 0.16e9


def test_latent_discriminator_is_a_plain_perceptron():
    torch.manual_seed(0)
    critic = LatentDiscriminator(style_dim=6)
    w = torch.randn(5, 6)
    x = w
    for i in (0, 2, 4):
        x = x @ critic.mlp[i].weight.T + critic.mlp[i].bias
        x = torch.where(x > 0, x, 0.2 * x)
    expected = x @ critic.mlp[6].weight.T + critic.mlp[6].bias
    torch.testing.assert_close(critic(w), expected, **TOL[torch.float32])
