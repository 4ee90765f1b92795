"""The flow aligner: an inversion is exact, warps are what scipy makes of them, every input counts."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from tolerances import TOL
from torch.utils.flop_counter import FlopCounterMode

from wagi.networks.alignment import DistortionAligner
from wagi.networks.flow_alignment import FlowAligner, change_gate, warp

CHANNELS = 6


@pytest.fixture(scope="module")
def aligner():
    """An aligner whose zero-initialised layers are not zero, so that everything can be seen to act."""
    torch.manual_seed(0)
    model = FlowAligner(CHANNELS, pyramid=(4, 6, 8), hidden=(6, 8, 10), head=8, matched=8, overview=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def inputs(size, state=8, n=2, seed=1):
    rng = torch.Generator().manual_seed(seed)
    residual, naive, edited = torch.rand(3, n, 3, size, size, generator=rng) - 0.5
    states = torch.randn(2, n, CHANNELS, state, state, generator=rng)
    return [residual, naive, edited, *states]


@pytest.mark.parametrize("size", [32, 48, 80])
def test_shapes_at_any_multiple_of_16(aligner, size):
    found = aligner(*inputs(size))
    assert found.aligned.shape == (2, 3, size, size) and found.gate.shape == (2, 1, size, size)
    assert [flow.shape[-1] for flow in found.flows] == [size // 16, size // 8, size // 4, size]
    torch.testing.assert_close(found.weights.sum(1), torch.ones(2, size, size))


def test_an_inversion_is_exact(aligner):
    """The same latents: the residual comes back to the bit, whatever the weights."""
    residual, naive, _, state, _ = inputs(64)
    assert torch.equal(aligner(residual, naive, naive, state, state).aligned, residual)


def test_far_from_a_change_nothing_moves(aligner):
    """An edit of one corner leaves the residual of the other one as it is, to the bit."""
    residual, naive, edited, state, other = inputs(64)
    edited = torch.where(torch.arange(64) < 24, edited, naive)
    aligned = aligner(residual, naive, edited, state, other).aligned
    assert torch.equal(aligned[..., 30:], residual[..., 30:])
    assert not torch.equal(aligned[..., :20], residual[..., :20])


def test_the_gate_against_numpy():
    before, after = np.random.default_rng(2).uniform(-1, 1, (2, 1, 3, 32, 32))
    change = np.square(after - before).mean(1)
    padded = np.pad(change[0], 1)
    ones = np.pad(np.ones((32, 32)), 1)
    window = np.lib.stride_tricks.sliding_window_view
    mean = window(padded, (3, 3)).sum((2, 3)) / window(ones, (3, 3)).sum((2, 3))
    found = change_gate(torch.from_numpy(before), torch.from_numpy(after))
    np.testing.assert_allclose(found[0, 0].numpy(), mean / (mean + 3e-4), rtol=1e-6)


def test_warp_against_scipy():
    rng = np.random.default_rng(3)
    image = rng.standard_normal((2, 17, 23)).astype(np.float32)
    flow = rng.normal(0, 4, (2, 17, 23)).astype(np.float32)
    y, x = np.mgrid[0:17, 0:23]
    where = [y + flow[1], x + flow[0]]
    expected = np.stack([map_coordinates(one, where, order=1, mode="nearest") for one in image])
    found = warp(torch.from_numpy(image)[None], torch.from_numpy(flow)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_shift_moves_whole_pixels():
    image = torch.randn(1, 3, 16, 16)
    flow = torch.tensor([3.0, -2.0])[None, :, None, None].expand(1, 2, 16, 16)
    torch.testing.assert_close(warp(image, flow)[..., 2:, :13], image[..., :14, 3:], **TOL[torch.float32])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_coordinates_stay_exact_in_half_precision(kind):
    """A ramp under a flow of halves of pixels, as under autocast: off by the ramp's own rounding only."""
    ramp = (torch.arange(256.0) / 256).expand(1, 1, 256, 256)
    flow = torch.tensor([7.5, 0.0])[None, :, None, None].expand(1, 2, 256, 256)
    found = warp(ramp.to(kind), flow.to(kind))
    assert found.dtype == kind
    wanted = (torch.arange(248) + 7.5) / 256
    rounding = torch.finfo(kind).eps * 1.01
    assert (found.float()[0, 0, 100, :248] - wanted).abs().max() < rounding
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exact = warp(ramp, flow)[0, 0, 100, :248]
    torch.testing.assert_close(exact, wanted, atol=1e-5, rtol=0)


def test_matching_finds_a_shift_of_cells(aligner):
    """Features that are all different: shifted by a cell they are found a cell away from where they were."""
    torch.manual_seed(0)
    matching = FlowAligner(CHANNELS).matching
    source = torch.randn(1, 96, 8, 8) * 3
    with torch.no_grad():
        matching.gain.fill_(10.0)
        stays, _ = matching(source, source)
        moves, confidence = matching(source.roll(1, 3), source)
    inner = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    expected = torch.tensor([-1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    torch.testing.assert_close((moves - stays)[inner], expected, atol=0.05, rtol=0)
    assert confidence[inner].min() > 0.9


def test_every_input_and_every_weight_acts(aligner):
    values = [x.requires_grad_() for x in inputs(32)]
    aligner.zero_grad()
    aligner(*values).aligned.square().sum().backward()
    for k, value in enumerate(values):
        assert value.grad.abs().sum() > 0, k
    silent = [name for name, p in aligner.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not silent


def test_before_training_half_of_each_kind_is_carried():
    """The formula of the blend: equal parts of the input and of the residual, both moved by the flow."""
    torch.manual_seed(0)
    residual, naive, edited, state, other = inputs(32)
    found = FlowAligner(CHANNELS)(residual, naive, edited, state, state)
    e = np.e
    torch.testing.assert_close(
        found.weights[0, :, 0, 0], torch.tensor([e, e, 1.0]) / (2 * e + 1), atol=1e-6, rtol=1e-6
    )
    image, flow = residual + naive, found.flows[-1]
    moved, moved_naive = warp(image, flow), warp(naive, flow)
    carried = e / (2 * e + 1) * (2 * moved - edited - moved_naive)
    expected = (1 - found.gate) * residual + found.gate * carried
    torch.testing.assert_close(found.aligned, expected, atol=1e-5, rtol=1e-5)


def test_small_images_share_the_flow(aligner):
    """At half the size the same flow is enlarged by two and means as much of the picture."""
    residual, naive, edited, state, other = inputs(64)
    half = [torch.nn.functional.avg_pool2d(x, 2) for x in (residual + naive, naive, edited)]
    flows, hidden = aligner.flow(*half, state, other)
    small = aligner.blend(half[0] - half[1], half[1], half[2], flows, hidden)
    whole = aligner(residual, naive, edited, state, other)
    pooled = torch.nn.functional.avg_pool2d(whole.flows[-1], 2) / 2
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(small.flows[-1][inner], pooled[inner], atol=2e-2, rtol=2e-2)


def test_cost():
    """The multiplications that docs/alignment.md names: beside HFGI's ADA, and of the blend at full size."""
    at_r, state = torch.zeros(1, 3, 256, 256), torch.zeros(1, 128, 32, 32)

    def billions(run, *inputs):
        with FlopCounterMode(display=False) as counter:
            run(*inputs)
        return counter.get_total_flops() / 2e9

    flow = FlowAligner(128)
    assert billions(flow, at_r, at_r, at_r, state, state) == pytest.approx(1.12, abs=0.01)
    assert billions(flow.head, torch.zeros(1, 31, 256, 256)) == pytest.approx(0.5, abs=0.01)
    assert billions(DistortionAligner(), at_r, at_r) == pytest.approx(3.94, abs=0.01)
