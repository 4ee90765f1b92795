"""Full detail: above R, results have the input's Haar bands, moved by the flow where an edit moved them.

The authority is PyWavelets on whole pictures, with scipy's sampling under a known flow.
"""

import dataclasses

import numpy as np
import pytest
import pywt
import torch
from export_models import CONFIG, small_model
from scipy.ndimage import map_coordinates, zoom
from tolerances import TOL

from wagi import checkpoint, config
from wagi.errors import UserError
from wagi.haar import decompose
from wagi.model import WaGI, area_resize
from wagi.networks.build import PARTS
from wagi.networks.flow_alignment import Alignment, FlowAligner
from wagi.networks.full_detail import join, split

SIZE, R = 128, 32  # two levels
CHANGES = {"size": SIZE, "residual_resolution": R, "full_detail": True, "encoder_input": 32}


def build(aligner="flow"):
    return small_model(aligner, **CHANGES)


@pytest.fixture(scope="module")
def model():
    return build()


def images(n=2, seed=0):
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def without(model):
    return WaGI(model.generator, model.encoder, model.aligner, model.fusion).eval()


class Known(FlowAligner):
    """An aligner that finds what it was told."""

    def __init__(self, state_channels, flow, weights, gate):
        super().__init__(state_channels)
        self.known = flow, weights, gate

    def forward(self, residual, naive, edited, state, edited_state):
        flow, weights, gate = self.known
        return Alignment(residual, (flow,), weights, gate)


def test_split_and_join_are_pywavelets_and_its_inverse():
    x = images().double()
    low, bands = split(x, R)
    expected = pywt.wavedec2(x.numpy(), "haar", level=2, axes=(2, 3))
    np.testing.assert_allclose(low, expected[0], atol=1e-12)
    for ours, theirs in zip(bands, expected[:0:-1], strict=True):
        np.testing.assert_allclose(ours, np.concatenate(theirs, axis=1), atol=1e-12)
    torch.testing.assert_close(join(low, bands), x, atol=1e-12, rtol=0)
    assert split(x, SIZE)[1] == [] and join(*split(x, SIZE)) is x


@torch.no_grad()
def test_an_inversion_has_the_inputs_bands_above_r(model):
    """They are the input's to the bit where the picture is put together; below, nothing changes."""
    x = images()
    found, plain = model.invert(x), without(model).invert(x)
    for ours, theirs in zip(decompose(found.image, 2), decompose(x, 2), strict=True):
        torch.testing.assert_close(ours[:, 3:], theirs[:, 3:], **TOL[torch.float32])
    torch.testing.assert_close(area_resize(found.image, R), area_resize(plain.image, R), **TOL[torch.float32])
    assert (found.image - plain.image).abs().max() > 0.1
    low = split(plain.image, R)[0]
    assert torch.equal(found.image, join(low, split(x, R)[1]))
    for name in ("ws", "naive", "residual", "aligned", "input"):
        assert torch.equal(getattr(found, name), getattr(plain, name))


@torch.no_grad()
def test_an_edit_of_nothing_is_the_inversion(model):
    found = model.invert(images())
    assert torch.equal(model.edit(found, found.ws).image, found.image)
    assert torch.equal(model.edit(images(), found.ws).image, found.image)


@torch.no_grad()
def test_an_edit_against_numpy(model):
    """A known flow and known weights; each band under the weights at its own resolution."""
    rng = np.random.default_rng(1)
    n, x = 2, images(seed=2)
    flow = zoom(rng.normal(0, 2, (n, 2, 4, 4)), (1, 1, 8, 8), order=1).astype(np.float32)
    drawn = rng.normal(0, 1, (n, 3, R, R)).astype(np.float32)
    weights = np.exp(drawn) / np.exp(drawn).sum(1, keepdims=True)
    gate = rng.uniform(0, 1, (n, 1, R, R)).astype(np.float32)
    gate[..., : R // 2] = 0
    edited = build()
    edited.aligner = Known(8, *map(torch.from_numpy, (flow, weights, gate)))
    ws = model.encode(x) + 0.3
    found = edited.edit(x, ws)
    own = without(edited).edit(x, ws)

    y0, x0 = np.mgrid[0:SIZE, 0:SIZE]
    moved = np.empty((n, 3, SIZE, SIZE))
    for k in range(n):
        large = [SIZE / R * enlarged(one, SIZE // R) for one in flow[k]]
        for c in range(3):
            moved[k, c] = map_coordinates(
                x[k, c].numpy(), [y0 + large[1], x0 + large[0]], order=1, mode="nearest"
            )
    share = np.concatenate(
        [1 - gate, gate * weights[:, :2].sum(1, keepdims=True), gate * weights[:, 2:]], axis=1
    )
    pictures = [pywt.wavedec2(p, "haar", level=2, axes=(2, 3)) for p in (x.numpy(), moved, own.image.numpy())]
    bands = [pictures[2][0]]
    for level in (1, 2):
        factor = level  # R, then 2 R
        there = np.stack([[enlarged(one, factor) for one in three] for three in share])[:, :, None]
        bands.append(tuple(sum(there[:, k] * pictures[k][level][b] for k in range(3)) for b in range(3)))
    expected = pywt.waverec2(bands, "haar", axes=(2, 3))
    np.testing.assert_allclose(found.image, expected, atol=2e-5)
    assert np.abs(expected - own.image.numpy()).mean() > 0.1

    still = slice(0, SIZE // 2 - SIZE // R)
    kept = join(split(own.image, R)[0], split(x, R)[1])
    assert torch.equal(found.image[..., still], kept[..., still]), "where nothing changes: the input's bands"


def enlarged(values, factor):
    """Bilinear enlargement with samples at the pixels' middles."""
    size = len(values)
    where = ((np.arange(size * factor) + 0.5) / factor - 0.5).clip(0, size - 1)
    return map_coordinates(values, np.meshgrid(where, where, indexing="ij"), order=1, mode="nearest")


@torch.no_grad()
def test_nothing_happens_at_the_size_of_r():
    whole = small_model("flow", full_detail=True)
    assert not whole.full_detail
    x = images(1)[..., :32, :32]
    assert torch.equal(whole.invert(x).image, without(whole).invert(x).image)


def test_the_setting_is_kept_and_needs_the_flow_aligner(model, tmp_path):
    path, x = tmp_path / "model.pt", images(1)
    weights = {part: checkpoint.state_of(getattr(model, part)) for part in PARTS}
    settings = dataclasses.replace(CONFIG, aligner="flow", **CHANGES)
    checkpoint.save(path, "inversion", settings, weights)
    with torch.no_grad():
        assert torch.equal(checkpoint.load_model(path).invert(x).image, model.invert(x).image)
    older = {k: v for k, v in config.to_dict(settings).items() if k != "full_detail"}
    assert not config.model_from_dict(older, "older").full_detail
    with pytest.raises(UserError, match="full_detail=True: needs aligner=flow"):
        config.settings("smoke", "inversion", {"full_detail": "true"})
    with pytest.raises(ValueError, match="full_detail needs a flow aligner"):
        build("ada")
