"""The export formulation computes what the training model computes, in FP32 and in FP16."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.folding import Attention, GroupNorm, folded
from export.graphs import build_graphs
from export.skip import resample_kernel
from export.synthesis import UP_FORMS, Layer, Styles, Synthesis, polyphase_kernel, up_kernel
from tests.export_models import randomised, small_model
from tests.tolerances import NETWORK, TOL
from wagi.networks.alignment import DistortionAligner
from wagi.networks.e4e import StyleHead
from wagi.networks.fusion import ConsultationEncoder, Gates
from wagi.networks.irse import Bottleneck, stem
from wagi.networks.layers import EqualConv2d, ModulatedConv2d, fir, fir_kernel
from wagi.networks.style_space import StyleSpace
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator, State

FP32 = TOL[torch.float32]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel", [up_kernel, polyphase_kernel])
def test_up_kernels_equal_the_published_two_steps(kernel) -> None:
    """Transposed 3x3 convolution, then the FIR: borders included, not square."""
    weight, x = seeded(5, 4, 3, 3), seeded(2, 4, 3, 6, seed=1)
    wanted = fir(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), fir_kernel(gain=4), (1, 1))
    if kernel is up_kernel:
        found = F.conv_transpose2d(x, up_kernel(weight), stride=2, padding=2)
    else:
        found = F.pixel_shuffle(F.conv2d(x, polyphase_kernel(weight), padding=1), 2)
    torch.testing.assert_close(found, wanted, **FP32)


def test_skip_path_is_one_transposed_convolution() -> None:
    """Decision 46: kernel 4, stride 2, padding 1, borders included."""
    layer, skip = Generator(32, style_dim=8, max_channels=4).to_rgbs[0], seeded(2, 12, 3, 5)
    found = F.conv_transpose2d(skip, resample_kernel(layer, 12), stride=2, padding=1)
    torch.testing.assert_close(found, layer.resample(skip), **FP32)


@pytest.mark.parametrize("up", UP_FORMS)
@pytest.mark.parametrize(
    ("kind", "post_skip"), [(Generator, False), (Generator, True), (StyleGAN2Generator, False)]
)
def test_generator_prefix_and_gated_suffix(kind: type[Generator], post_skip: bool, up: str) -> None:
    """Widths that differ, 3x3 tWavelets, a fused block in the middle, noise, both kinds of gates."""
    torch.manual_seed(0)
    generator = randomised(
        kind(32, style_dim=8, n_mlp=1, channel_multiplier=0.02, max_channels=24, to_rgb_kernel=3)
    )
    ws, start = seeded(3, generator.n_latent, 8), generator.resolutions[1]
    state = generator.prefix(ws, start)
    bands, channels = state.skip.shape[1], state.x.shape[1]
    gates = Gates(
        {start: (seeded(3, channels, start, start, seed=1), seeded(3, channels, start, start, seed=2))},
        {start: (seeded(3, bands, start, start, seed=3), seeded(3, bands, start, start, seed=4))},
        post_skip,
    )
    wanted = generator.suffix(ws, State(*state), start, gates)
    synthesis = Synthesis(generator, start, up, torch.float32)
    x, skip = synthesis.prefix(ws)
    torch.testing.assert_close(x, state.x, **NETWORK)
    torch.testing.assert_close(skip, state.skip, **NETWORK)
    plus_one = Gates(*({k: (g + 1, h) for k, (g, h) in part.items()} for part in gates[:2]), post_skip)
    found = synthesis.suffix(synthesis.suffix_styles(ws), x, skip, plus_one)
    torch.testing.assert_close(found, wanted, **NETWORK)


def test_unknown_up_form_is_refused() -> None:
    with pytest.raises(ValueError, match="polyphase"):
        Synthesis(Generator(32, style_dim=8, max_channels=4), 8, "bilinear", torch.float32)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3, 1e15])
@pytest.mark.parametrize("normalise", [False, True])
def test_styles_of_any_size(normalise: bool, scale: float) -> None:
    """Demodulated layers do not depend on the size of the styles, and nothing is infinite."""
    conv = randomised(ModulatedConv2d(6, 5, 3, style_dim=8))
    conv.modulation.bias.data.zero_()
    w, x = scale * seeded(2, 1, 8), seeded(2, 6, 4, 4)
    (style,) = Styles([Layer(conv, 0, 1.0)], StyleSpace([(0, 6)], 1, 8), normalise, offsets=False)(w)
    weight = conv.weight[0] * conv.scale
    if normalise:
        assert style.inner.abs().max() <= 1
        weight = weight / weight.flatten(1).norm(dim=1)[:, None, None, None]
    found = F.conv2d(x * style.inner, weight, padding=1) * style.outer
    torch.testing.assert_close(found, conv(x, w[:, 0]), **FP32)


def folds(module: nn.Module, *inputs: Tensor) -> nn.Module:
    """The folded copy, after checking that it computes the same and leaves the original alone."""
    module = randomised(module).eval()
    before = copy.deepcopy(module.state_dict())
    wanted, plain, half = module(*inputs), folded(module), folded(module, torch.float16)
    torch.testing.assert_close(plain(*inputs), wanted, **NETWORK)
    found = half(*(x.half() for x in inputs))
    torch.testing.assert_close(found.float(), wanted, atol=0.02 * float(wanted.detach().abs().max()), rtol=0)
    for part in half.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            expected = torch.float32 if isinstance(part, nn.Linear) else torch.float16
            assert part.weight.dtype == expected, f"{part} in {part.weight.dtype}"
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    return plain


def layers(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


@pytest.mark.parametrize(("in_ch", "out_ch", "stride"), [(8, 8, 1), (8, 8, 2), (8, 12, 2)])
def test_residual_unit(in_ch: int, out_ch: int, stride: int) -> None:
    """Batch norms behind convolutions go; the one in front of a padded convolution stays."""
    unit = Bottleneck(in_ch, out_ch, stride, squeeze=False)
    plain = folds(unit, seeded(2, in_ch, 6, 6))
    assert layers(plain, nn.BatchNorm2d) == 1 and layers(unit, nn.BatchNorm2d) == 2 + (in_ch != out_ch)
    assert layers(plain, nn.Identity) == (in_ch == out_ch and stride == 1)


def test_other_layers() -> None:
    assert layers(folds(stem(3, 8), seeded(2, 3, 6, 6)), nn.BatchNorm2d) == 0
    assert layers(folds(Bottleneck(16, 16, 1, squeeze=True), seeded(2, 16, 5, 5)), Attention) == 1
    folds(StyleHead(4, 6, 8), seeded(2, 4, 8, 8))
    folds(nn.Sequential(EqualConv2d(3, 4, 3, padding=1), nn.Linear(6, 5)), seeded(2, 3, 6, 6))
    assert layers(folds(nn.Sequential(nn.GroupNorm(2, 6)), seeded(2, 6, 4, 4)), GroupNorm) == 1
    small = seeded(2, 3, 32, 32)
    folds(DistortionAligner((4, 6, 8, 10)), small, seeded(2, 3, 32, 32, seed=1))
    fusion = randomised(ConsultationEncoder(32, {16: 6}, (16,), (6, 8, 10), hidden=8)).eval()
    wanted, found = fusion(small), folded(fusion)(small)
    for one, other in ((wanted.features[16], found.features[16]), (wanted.wavelets[16], found.wavelets[16])):
        torch.testing.assert_close(other, one, **NETWORK)


@pytest.mark.parametrize(("largest", "left"), [(1.0, 0), (1.01, 1)])
def test_slopes_of_at_most_one_keep_the_bits(largest: float, left: int) -> None:
    """As PyTorch's prelu, negative slopes and zeros among them; steeper ones stay a PReLU."""
    module, x = nn.Sequential(nn.PReLU(5)), seeded(2, 5, 6, 6)
    module[0].weight.data = torch.tensor([-0.5, 0.0, 0.25, 0.9, largest])
    x[0, :, 0] = 0
    plain = folded(module)
    assert layers(plain, nn.PReLU) == left and torch.equal(plain(x), module(x))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_whole_inversion(precision: str) -> None:
    model = small_model()
    images = seeded(2, 3, 32, 32).clamp(-1, 1)
    with torch.no_grad():
        wanted = model.invert(images)
    graphs = build_graphs(model, precision)
    found = graphs["pipeline"].run({"image": images})
    assert all(value.dtype == torch.float32 for value in found.values())
    tolerance = NETWORK if precision == "fp32" else {"atol": 5e-2, "rtol": 0}
    torch.testing.assert_close(found["ws"], wanted.ws, **tolerance)
    torch.testing.assert_close(found["naive_r"], model.low_fidelity(wanted.naive), **tolerance)
    torch.testing.assert_close(found["result"], wanted.image, **tolerance)
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32 and parameter.requires_grad
