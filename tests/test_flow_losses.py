"""Promise: the flow aligner is trained by the losses that its settings name, each with its weight.

The phase that trains the flow alone, on edits as they are (nothing recoloured, warped or replaced).
"""

import json

import numpy as np
import pytest
import torch
from paper_stages import numpy_wavelet_loss, parameters, trained_by
from test_flow_alignment import warp
from training_helpers import save_tiny_model, write_portraits

from wagi import checkpoint
from wagi.config import settings
from wagi.features import FeatureFiles
from wagi.loader import batch_of
from wagi.training.detail import energy_loss
from wagi.training.flow import FlowStage, change_loss
from wagi.training.scenes import ScenePairs

REGIONS = (1.0, 1.0, 2.0, 3.0, 3.0, 1.0, 1.0, 3.0, 2.0)
WEIGHTS = {"photometric": 0.1, "smooth": 0.02, "change": 0.3, "flow": 0.03, "energy": 0.1, "align": 1.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("flow")
    data = write_portraits(root / "scenes", 125, params=133)
    rng = np.random.default_rng(1)
    np.save(data / "flows.npy", rng.normal(0, 2, (125, 2, 16, 16)).astype(np.float16))
    np.save(data / "seen.npy", rng.random((125, 16, 16)) < 0.8)
    meta = json.loads((data / "meta.json").read_text())
    (data / "meta.json").write_text(json.dumps({**meta, "settings": {"scenes": True}}))
    return ScenePairs(data, 32), save_tiny_model(root / "model.pt")


def make(world) -> FlowStage:
    pairs, path = world
    as_they_are = dict.fromkeys(("recolour", "synthetic", "perspective", "textures"), "0")
    chosen = {**as_they_are, "aligner": "flow", "flow_steps": "9", "param_dim": "133"}
    chosen["region_weights"] = ",".join(map(str, REGIONS))
    model, train = settings("smoke", "inversion", chosen)
    content = checkpoint.read(path)
    parts = {part: checkpoint.build_loaded(content, part, path) for part in ("generator", "encoder")}
    torch.manual_seed(2)
    stage = FlowStage(model, train, parts, FeatureFiles(), pairs)
    with torch.no_grad():
        for parameter in stage.models["aligner"].parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    stage.train_mode()
    return stage


def numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def pooled(x: np.ndarray, size: int) -> np.ndarray:
    n, c, height, _ = x.shape
    k = height // size
    return x.reshape(n, c, size, k, size, k).mean((3, 5))


@pytest.fixture(scope="module")
def seen(world):
    """One step: (stage, batch, the aligner's inputs, its answer, loss, scalars)."""
    stage, batch = make(world), batch_of(world[0], (0, 40, 300, 450))
    calls = []
    handle = stage.models["aligner"].register_forward_hook(lambda _, args, out: calls.append((args, out)))
    loss, scalars = stage.phases(0)[0].loss(batch, torch.Generator().manual_seed(0))
    handle.remove()
    ((given, found),) = calls
    return stage, batch, given, found, loss, scalars


def test_the_aligner_is_given_the_sources_residual_and_both_naive_images(seen):
    stage, batch, (residual, naive, edited_naive, state, edited_state), *_ = seen
    with torch.no_grad():
        for name, picture, at in (("image", naive, state), ("edited", edited_naive, edited_state)):
            ws = stage.frozen["encoder"](batch[name]) + stage.frozen["generator"].latent_avg
            made = stage.frozen["generator"](ws).clamp(-1, 1)
            torch.testing.assert_close(picture, made, atol=2e-3, rtol=2e-3)  # kept in half precision
            behind = stage.frozen["generator"].prefix(ws, stage.model.fusion_start).x
            torch.testing.assert_close(at, behind, atol=1e-2, rtol=2e-3)
    torch.testing.assert_close(residual, batch["image"] - naive, atol=1e-5, rtol=0)


def test_terms_by_value(seen):
    _, batch, (_, _, edited_naive, *_), found, _, scalars = seen
    target = batch["edited"] - edited_naive
    weights = np.array(REGIONS)[batch["edited_mask"].numpy()][:, None]
    error = np.abs(numpy(found.aligned - target)) * weights / weights.mean()
    expected = {"align": error.mean() + 0.1 * numpy_wavelet_loss(found.aligned, target)}
    expected |= {"photometric": 0.0, "flow": 0.0}
    sizes = [flow.shape[-1] for flow in found.flows[:-1]]
    assert sizes == [2, 4, 8]
    truth, visible = numpy(batch["flow"]), numpy(batch["seen"])
    for flow, size in zip(found.flows, sizes, strict=False):
        base = torch.from_numpy(pooled(numpy(batch["base"]), size))
        moved = numpy(warp(base, flow.double()))
        share = pooled(visible, size)
        expected["photometric"] += (np.abs(moved - pooled(numpy(batch["edited_base"]), size)) * share).mean()
        here = pooled(truth * visible, size) / np.maximum(share, 1e-3) * (size / 16)
        distance = np.abs(numpy(flow) - here).sum(1, keepdims=True) * share
        expected["flow"] += 32 / size * distance.mean()
    finest, image = numpy(found.flows[-2]), pooled(numpy(edited_naive), 8)
    expected["smooth"] = 0.0
    for axis in (2, 3):
        edge = np.abs(np.diff(image, axis=axis)).mean(1, keepdims=True)
        expected["smooth"] += (np.abs(np.diff(finest, axis=axis)) * np.exp(-10 * edge)).mean()
    # These two have tests of their own; here it counts what they are given.
    expected["change"] = change_loss(found.aligned, target, batch["image"], batch["edited"]).item()
    expected["energy"] = energy_loss(edited_naive + found.aligned, batch["edited"]).item()
    for name, value in expected.items():
        assert scalars[name].item() == pytest.approx(float(value), rel=1e-4), name


def test_the_total_and_what_it_trains(seen):
    stage, _, _, _, loss, scalars = seen
    terms = {name: weight * scalars[name].item() for name, weight in WEIGHTS.items()}
    assert loss.item() == pytest.approx(sum(terms.values()), rel=1e-5)
    assert min(terms.values()) > 1e-4 * sum(terms.values()), terms
    assert trained_by(stage, loss) == {"aligner"}
    own = [(k, p.grad) for k, p in parameters(stage) if k.startswith("aligner")]
    assert not [k for k, gradient in own if gradient is None or not gradient.any()]
