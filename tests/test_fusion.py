"""ADA, consultation encoder and gates: shapes at any resolution, identity at the start, gradients."""

import pytest
import torch
import torch.nn.functional as F
from tolerances import NETWORK, TOL
from torch import nn

from wagi.networks.alignment import DistortionAligner, _join
from wagi.networks.fusion import ConsultationEncoder, Gates, gate

SMALL = dict(
    resolution=64, feature_channels={16: 24, 32: 12}, wavelet_levels=(32,), widths=(6, 8, 10), hidden=8
)  # fmt: skip


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def dead_parameters(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


@pytest.mark.parametrize("size", [64, 256])
def test_aligner_keeps_the_published_sizes(size):
    """Encoder maps at R, R/2, R/4, R/8; at 256 px the decoder meets 64, 128 and 256 as in the public code."""
    aligner = DistortionAligner().eval()
    seen = {}
    for name, layer in aligner.named_children():
        layer.register_forward_hook(lambda _, args, out, name=name: seen.update({name: (*out.shape[1:3],)}))
    with torch.no_grad():
        out = aligner(torch.randn(1, 3, size, size), torch.randn(1, 3, size, size))
    assert out.shape == (1, 3, size, size)
    assert seen == {
        "conv_layer1": (16, size), "conv_layer2": (32, size // 2), "conv_layer3": (48, size // 4),
        "conv_layer4": (64, size // 8), "dconv_layer1": (32, size // 4), "dconv_layer2": (16, size // 2),
        "dconv_layer3": (3, size),
    }  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 37])
def test_untrained_aligner_leaves_the_residual_alone(size):
    """In eval mode but for BatchNorm's epsilon; at the first training step, on the scale of a residual."""
    aligner = DistortionAligner((8, 16, 24, 32)).eval()
    residual, image = 0.2 * torch.randn(8, 3, size, size), torch.randn(8, 3, size, size)
    torch.testing.assert_close(aligner(residual, image), residual, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(aligner.train()(residual, image), residual, atol=2e-2, rtol=5e-2)


def test_aligner_order_of_channels():
    """The residual comes first, then the image; in the decoder the enlarged map comes before the skip."""
    aligner = DistortionAligner((4, 6, 8, 10)).eval()
    residual, image = torch.randn(2, 1, 3, 16, 16)
    got = []
    aligner.conv_layer1.register_forward_hook(lambda _, args, out: got.append(args[0]))
    aligner(residual, image)
    assert torch.equal(got[0][:, :3], residual) and torch.equal(got[0][:, 3:], image)

    low, skip = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 8, 8)
    joined = _join(low, skip)
    assert torch.equal(joined[:, 2:], skip)
    torch.testing.assert_close(
        joined[:, :2], F.interpolate(low, scale_factor=2, mode="bilinear"), **TOL[torch.float32]
    )


@torch.no_grad()
def test_aligner_takes_any_size():
    out = DistortionAligner((4, 6, 8, 10)).eval()(torch.randn(1, 3, 36, 52), torch.randn(1, 3, 36, 52))
    assert out.shape == (1, 3, 36, 52)


def test_aligner_gradient_reaches_every_parameter():
    aligner = DistortionAligner((4, 6, 8, 10))
    optimizer = torch.optim.SGD(aligner.parameters(), 1e-3)
    for _ in range(2):  # the branches that start at zero pass gradients on from the second step
        optimizer.zero_grad()
        out = aligner(torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32))
        (out * torch.randn(out.shape)).sum().backward()
        optimizer.step()
    assert not dead_parameters(aligner)


def test_gates_by_resolution():
    fusion = ConsultationEncoder(**SMALL, zero_init=False).eval()
    assert fusion.levels == (16, 32)
    gates = fusion(torch.randn(2, 3, 64, 64))
    assert {r: [tuple(t.shape) for t in pair] for r, pair in gates.features.items()} == {
        16: [(2, 24, 16, 16)] * 2, 32: [(2, 12, 32, 32)] * 2,
    }  # fmt: skip
    assert {r: [tuple(t.shape) for t in pair] for r, pair in gates.wavelets.items()} == {
        32: [(2, 12, 32, 32)] * 2
    }
    assert not Gates().features and not Gates().wavelets


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (dict(resolution=256, feature_channels={64: 512}), {"condition_scale3", "condition_shift3"}),
        (
            dict(resolution=256, feature_channels={64: 512, 128: 256}, wavelet_levels=(128,)),
            {f"{head}{k}" for head in ("condition_scale", "condition_shift") for k in (2, 3)}
            | {"wavelet_scale2", "wavelet_shift2"},
        ),
        (
            dict(resolution=128, feature_channels={16: 32}, wavelet_levels=(128, 16)),
            {"condition_scale4", "condition_shift4"}
            | {f"wavelet_{head}{k}" for head in ("scale", "shift") for k in (1, 4)},
        ),
    ],
)
def test_names_follow_the_trunk_layer(arguments, names):
    """k = 1 at R, 2 at R/2, ...; the trunk ends at the lowest fused level. The second case is the paper's."""
    with torch.device("meta"):
        fusion = ConsultationEncoder(**arguments)
    children = {name for name, _ in fusion.named_children()}
    trunk = {name for name in children if name.startswith("conv_layer")}
    deepest = max(int(name[-1]) for name in names)
    assert trunk == {f"conv_layer{k}" for k in range(1, deepest + 1)}
    assert children - trunk == names


def test_head_widths():
    """Published inside width is the output's, 48 for wavelets; `hidden` caps both and never widens."""
    levels = dict(feature_channels={64: 512}, wavelet_levels=(64,))
    with torch.device("meta"):
        published, capped = ConsultationEncoder(**levels), ConsultationEncoder(**levels, hidden=60)
    for fusion, feature, wavelet in ((published, 512, 48), (capped, 60, 48)):
        assert fusion.condition_scale3[0].weight.shape == (feature, 64, 3, 3)
        assert fusion.condition_shift3[2].weight.shape == (512, feature, 3, 3)
        assert fusion.wavelet_scale3[0].weight.shape == (wavelet, 64, 3, 3)
        assert fusion.wavelet_shift3[2].weight.shape == (12, wavelet, 3, 3)


@torch.no_grad()
def test_start_is_exactly_the_identity():
    """Zero last layers: the gated generator is G0(w) to the bit, whatever the residual."""
    gates = ConsultationEncoder(**SMALL)(torch.randn(2, 3, 64, 64))
    for pair in (*gates.features.values(), *gates.wavelets.values()):
        x = torch.randn(pair[0].shape)
        assert torch.equal(gate(x, pair), x)
    free = ConsultationEncoder(**SMALL, zero_init=False)(torch.randn(2, 3, 64, 64))
    assert all(t.abs().max() > 0 for pair in (*free.features.values(), *free.wavelets.values()) for t in pair)


@torch.no_grad()
def test_head_against_its_definition():
    """Equalised 3x3, sqrt(2) leaky ReLU of slope 0.2, equalised 3x3."""
    fusion = ConsultationEncoder(16, {8: 5}, widths=(4, 6), zero_init=False).eval()
    residual = torch.randn(1, 3, 16, 16)
    head = fusion.condition_shift2
    for conv in (head[0], head[2]):
        nn.init.normal_(conv.bias)
    x = fusion.conv_layer2(fusion.conv_layer1(residual))
    x = F.conv2d(x, head[0].weight / (6 * 9) ** 0.5, head[0].bias, padding=1)
    x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
    expected = F.conv2d(x, head[2].weight / (5 * 9) ** 0.5, head[2].bias, padding=1)
    torch.testing.assert_close(fusion(residual).features[8][1], expected, **NETWORK)


def test_gate_formula():
    x, g, h = torch.randn(3, 2, 4, 3, 3)
    torch.testing.assert_close(gate(x, (g, h)), x + g * x + h, **TOL[torch.float32])
    assert gate(x, None) is x


def test_gradient_reaches_every_parameter():
    """At the identity start the last layers learn; once they have moved, everything does."""
    fusion = ConsultationEncoder(**SMALL)

    def backward() -> list[str]:
        fusion.zero_grad()
        gates = fusion(torch.randn(2, 3, 64, 64))
        pairs = (*gates.features.values(), *gates.wavelets.values())
        sum((gate(torch.randn(p[0].shape), p) * torch.randn(p[0].shape)).sum() for p in pairs).backward()
        return dead_parameters(fusion)

    assert not [name for name in backward() if ".2." in name and name.startswith(("condition", "wavelet"))]
    for name, p in fusion.named_parameters():
        if name.startswith(("condition", "wavelet")) and name.endswith("2.weight"):
            nn.init.normal_(p)
    assert not backward()


def test_wrong_levels_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\[8, 16\] must be some of \[16, 32, 64\]"):
        ConsultationEncoder(64, {16: 4}, (8,), widths=(4, 4, 4))
    with pytest.raises(ValueError, match="must be some of"):
        ConsultationEncoder(64, {})
    with pytest.raises(ValueError, match="must be 64x64, got 32x32"):
        ConsultationEncoder(**SMALL)(torch.zeros(1, 3, 32, 32))
