"""Promise: SWAGAN computes what the published formulation computes.

The authority is the textbook form: per-sample modulated weights, zero insertion and scipy's FIR filtering,
PyWavelets for the skip path, written as loops over the layers of the published table.
"""

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d
from tolerances import NETWORK

from wagi.networks.fusion import Gates
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Discriminator, Generator

TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give the parameters that start at zero (biases, noise strengths) values that matter."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        if name.endswith("bias") or ".noise." in name:
            p.data += 0.3 * torch.randn(p.shape, generator=rng)


def small(cls=Generator, size=64, **kw):
    torch.manual_seed(0)
    g = cls(size, style_dim=16, n_mlp=2, channel_multiplier=0.0625, max_channels=24, **kw).double().eval()
    randomise(g)
    return g


def planes(f, x):
    return torch.from_numpy(np.stack([[f(c) for c in sample] for sample in x.detach().numpy()]))


def upsample(x):
    """Zero insertion, pad (2, 1), true convolution with gain 4."""

    def plane(c):
        z = np.zeros((2 * c.shape[0], 2 * c.shape[1]))
        z[::2, ::2] = c
        return convolve2d(np.pad(z, ((2, 1), (2, 1))), 4 * TAPS, mode="valid")

    return planes(plane, x)


def dwt(x):
    return torch.from_numpy(np.concatenate(_bands(x.numpy()), axis=1))


def _bands(x):
    ll, (lh, hl, hh) = pywt.dwt2(x, "haar", axes=(2, 3))
    return [ll, lh, hl, hh]


def iwt(y):
    ll, lh, hl, hh = np.split(y.numpy(), 4, axis=1)
    return torch.from_numpy(pywt.idwt2((ll, (lh, hl, hh)), "haar", axes=(2, 3)))


def modulated(sd, name, x, w, up=False, demodulate=True):
    weight = sd[name + ".weight"][0]
    _, c_in, k, _ = weight.shape
    s = w @ (sd[name + ".modulation.weight"] / w.shape[1] ** 0.5).T + sd[name + ".modulation.bias"]
    out = []
    for xi, si in zip(x, s, strict=True):
        wi = weight * si[None, :, None, None] / (c_in * k * k) ** 0.5
        if demodulate:
            wi = wi * torch.rsqrt(wi.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if up:
            y = F.conv_transpose2d(xi[None], wi.transpose(0, 1), stride=2)
            y = planes(lambda c: convolve2d(np.pad(c, 1), 4 * TAPS, mode="valid"), y)
        else:
            y = F.conv2d(xi[None], wi, padding=k // 2)
        out.append(y)
    return torch.cat(out)


def styled(sd, name, x, w, noise, up=False):
    y = modulated(sd, name + ".conv", x, w, up) + sd[name + ".noise.weight"] * noise
    return 2**0.5 * F.leaky_relu(y + sd[name + ".activate.bias"][None, :, None, None], 0.2)


def reference(sd, ws, blocks, wavelet, gates=None, one=1, post_skip=False):
    """The published table of layers, latents and noises, one line each.

    one: what a gate adds to g. post_skip: wavelets are gated with the skip path's share in them.
    """
    gates = gates or Gates({}, {})
    fuse = lambda x, pair: x if pair is None else x * (one + pair[0]) + pair[1]  # noqa: E731
    noise = lambda j: sd[f"noises.noise_{j}"]  # noqa: E731
    x = styled(sd, "conv1", sd["input.input"].expand(len(ws), -1, -1, -1), ws[:, 0], noise(0))
    skip = modulated(sd, "to_rgb1.conv", x, ws[:, 1], demodulate=False) + sd["to_rgb1.bias"]
    for i in range(blocks):
        res = 2 ** (i + 3)
        x = styled(sd, f"convs.{2 * i}", x, ws[:, 2 * i + 1], noise(2 * i + 1), up=True)
        x = fuse(x, gates.features.get(res))
        x = styled(sd, f"convs.{2 * i + 1}", x, ws[:, 2 * i + 2], noise(2 * i + 2))
        rgb = modulated(sd, f"to_rgbs.{i}.conv", x, ws[:, 2 * i + 3], demodulate=False)
        rgb = rgb + sd[f"to_rgbs.{i}.bias"]
        skip = dwt(upsample(iwt(skip))) if wavelet else upsample(skip)
        pair = gates.wavelets.get(res)
        skip = fuse(rgb + skip, pair) if post_skip else fuse(rgb, pair) + skip
    return iwt(skip) if wavelet else skip


@pytest.mark.parametrize(
    "cls,blocks,kernel", [(Generator, 3, 1), (Generator, 3, 3), (StyleGAN2Generator, 4, 1)]
)
@torch.no_grad()
def test_generator_equals_the_published_formulation(cls, blocks, kernel):
    g = small(cls, to_rgb_kernel=kernel)
    rng = torch.Generator().manual_seed(1)
    ws = torch.randn(2, g.n_latent, 16, generator=rng, dtype=torch.float64)
    image = g(ws)
    assert image.shape == (2, 3, 64, 64) and image.std() > 0.1
    sd = {k: v.double() for k, v in g.state_dict().items()}
    torch.testing.assert_close(image, reference(sd, ws, blocks, cls is Generator), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_gates_act_where_the_paper_says():
    g = small()
    rng = torch.Generator().manual_seed(2)
    ws = torch.randn(2, g.n_latent, 16, generator=rng, dtype=torch.float64)
    pair = lambda c, r: tuple(0.3 * torch.randn(2, c, r, r, generator=rng).double() for _ in "gh")  # noqa: E731
    gates = Gates({16: pair(g.channels(16), 16), 32: pair(g.channels(32), 32)}, {32: pair(12, 32)})
    sd = {k: v.double() for k, v in g.state_dict().items()}
    torch.testing.assert_close(g(ws, gates), reference(sd, ws, 3, True, gates), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size,n_latent", [(32, 6), (64, 8), (128, 10), (256, 12), (512, 14), (1024, 16)])
def test_number_of_latents(size, n_latent):
    with torch.device("meta"):
        assert Generator(size).n_latent == n_latent
        assert StyleGAN2Generator(size).n_latent == n_latent + 2


@pytest.mark.parametrize("size", [0, 16, 48, 100, 2048])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="power of two"):
        Generator(size)


@pytest.mark.parametrize("resolution", [8, 16, 32])
@torch.no_grad()
def test_prefix_and_suffix_are_the_forward_pass(resolution):
    g = small().float()
    ws = torch.randn(3, g.n_latent, 16)
    state = g.prefix(ws, resolution)
    assert state.x.shape == (3, g.channels(resolution), resolution, resolution)
    torch.testing.assert_close(g.suffix(ws, state, resolution), g(ws), **NETWORK)


@torch.no_grad()
def test_latent_options():
    g = small()
    z = torch.randn(4, 16).double()
    g.latent_avg = g.mean_latent(2000)
    assert torch.equal(g.latent_avg, g.mean_latent(2000)), "the mean latent is seeded"
    w = g.map(z)
    assert torch.equal(g.map(z, truncation=0.0), g.latent_avg.expand(4, -1))
    torch.testing.assert_close(g.map(z, 0.5), (w + g.latent_avg) / 2)
    ws = g.broadcast(w, w.flip(0), crossover=3)
    assert torch.equal(ws[:, 2], w) and torch.equal(ws[:, 3], w.flip(0))
    stored = g(g.broadcast(w))
    assert torch.equal(stored, g(g.broadcast(w))), "stored noise repeats"
    assert not torch.equal(g(g.broadcast(w), noise="random"), g(g.broadcast(w), noise="random"))


@torch.no_grad()
def test_the_mapping_network_is_the_published_one():
    """Unit mean square, then layers whose stored weights and biases act with a factor 0.01."""
    g = small()
    z = torch.randn(5, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = z / z.square().mean(1, keepdim=True).sqrt()
    sd = g.state_dict()
    for k in (1, 2):
        x = x @ (0.01 * sd[f"style.{k}.weight"] / 16**0.5).T + 0.01 * sd[f"style.{k}.bias"]
        x = 2**0.5 * torch.where(x > 0, x, 0.2 * x)
    torch.testing.assert_close(g.map(z), x, atol=1e-6, rtol=1e-6)


def downsample(x):
    """Pad (1, 1), true convolution of gain 1, every second sample."""
    return planes(lambda c: convolve2d(np.pad(c, 1), TAPS, mode="valid")[::2, ::2], x)


def layer(sd, name, x, down=False):
    """Discriminator layer: [blur,] equalised 3x3 or strided 3x3 convolution, biased leaky ReLU."""
    index = 1 if down else 0
    weight = sd[f"{name}.{index}.weight"]
    weight = weight / (weight.shape[1] * 9) ** 0.5
    if down:
        x = planes(lambda c: convolve2d(np.pad(c, 2), TAPS, mode="valid"), x)
    x = F.conv2d(x, weight, stride=2) if down else F.conv2d(x, weight, padding=1)
    return 2**0.5 * F.leaky_relu(x + sd[f"{name}.{index + 1}.bias"][None, :, None, None], 0.2)


@torch.no_grad()
def test_discriminator_equals_the_published_formulation():
    """Coefficients are fed in at every level; the last layers see the deviation over groups of four."""
    torch.manual_seed(0)
    d = Discriminator(64, channel_multiplier=0.0625, max_channels=24).double()
    randomise(d)
    x = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sd = {k: v.double() for k, v in d.state_dict().items()}
    coefficients = dwt(x)
    y = layer(sd, "from_rgbs.0.conv", coefficients)
    for i in range(3):
        y = layer(sd, f"convs.{i}.conv1", y)
        y = layer(sd, f"convs.{i}.conv2", y, down=True)
        coefficients = dwt(downsample(iwt(coefficients)))
        y = y + layer(sd, f"from_rgbs.{i + 1}.conv", coefficients)
    assert y.shape[-1] == 4
    groups = y.view(4, 2, -1)  # samples i, i + 2, i + 4, i + 6 form a group
    deviation = ((groups - groups.mean(0)).square().mean(0) + 1e-8).sqrt().mean(1)
    y = torch.cat([y, deviation.repeat(4)[:, None, None, None].expand(-1, 1, 4, 4)], dim=1)
    y = layer(sd, "final_conv", y).flatten(1)
    y = y @ (sd["final_linear.0.weight"] / y.shape[1] ** 0.5).T + sd["final_linear.0.bias"]
    y = 2**0.5 * F.leaky_relu(y, 0.2)
    y = y @ (sd["final_linear.1.weight"] / y.shape[1] ** 0.5).T + sd["final_linear.1.bias"]
    torch.testing.assert_close(d(x), y, atol=1e-6, rtol=1e-6)
    assert y.std() > 0.01


@torch.no_grad()
def test_discriminator_sees_coefficients_and_groups():
    torch.manual_seed(0)
    d = Discriminator(32, channel_multiplier=0.0625, max_channels=24)
    x = torch.randn(8, 3, 32, 32)
    logits = d(x)
    assert logits.shape == (8, 1) and logits.std() > 0
    # Deviations are taken over samples {i, i+2, i+4, i+6}: swapping whole groups moves logits with them.
    order = [1, 0, 3, 2, 5, 4, 7, 6]
    torch.testing.assert_close(d(x[order]), logits[order], **NETWORK)
    with pytest.raises(ValueError, match="multiple of 4"):
        d(x[:6])
