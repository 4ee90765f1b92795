"""The order of an inversion and an edit is written once, as data; what lies between has one ONNX twin."""

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_bundle import write_tiny_bundle
from tolerances import TOL

import wagi_rt
from export.glue import write_glue
from wagi_rt import chain, manifest
from wagi_rt.chain import EDIT, FUSED, GLUE, at_latents, edit, fused, inversion, opening, walk
from wagi_rt.errors import UserError

SIZE, RESOLUTION = 256, 64
INVERSION = inversion("ada")


@pytest.fixture(scope="module", params=[SIZE, RESOLUTION], ids=["reduced", "same size"])
def bundle(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    return write_tiny_bundle(folder, request.param, RESOLUTION, pipeline=True, default="pipeline")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape).astype(np.float32)


@pytest.mark.parametrize("name", sorted(GLUE))
def test_every_function_equals_its_onnx_twin(bundle, tmp_path, name):
    """In ONNX Runtime, at two batch sizes, under the names that the chain gives."""
    described = manifest.read(bundle)
    shapes, (output,) = described.tensors(chain.STEPS[name])[0], chain.STEPS[name].outputs
    path = write_glue(described, name, tmp_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == set(shapes)
    for batch in (1, 3):
        inputs = {key: random(batch, *shape, seed=i) for i, (key, shape) in enumerate(shapes.items())}
        (found,) = session.run([output], inputs)
        wanted = GLUE[name](*inputs.values(), RESOLUTION)
        np.testing.assert_allclose(found, wanted, **TOL[np.float32])


def test_fading_is_the_models():
    """wagi.model.fade in PyTorch is the authority; equal naive images fade nothing."""
    from wagi.model import fade

    residual, before, after = (random(2, 3, 64, 64, seed=seed) for seed in range(3))
    wanted = fade(*map(torch.from_numpy, (residual, before, after))).numpy()
    np.testing.assert_allclose(chain.fade(residual, before, after, 64), wanted, **TOL[np.float32])
    np.testing.assert_array_equal(chain.fade(residual, before, before, 64), residual)


def test_low_fidelity_is_a_valid_image():
    naive = random(1, 3, 64, 64) * 3
    assert np.abs(chain.low_fidelity(naive, 32)).max() <= 1
    np.testing.assert_array_equal(chain.subtract(naive, naive / 2, 64), naive / 2)


KINDS = [("ada", False), ("flow", False), ("flow", True)]  # aligner, full detail
KINDS += [("ada", False, True), ("flow", True, True)]  # and early naive images
KINDS += [("ada", False, False, True, True), ("flow", True, True, False, True)]  # sampled ones; Pillow's
CHAINS = [FUSED, *(make(*kind) for make in (inversion, edit, at_latents, opening) for kind in KINDS)]


@pytest.mark.parametrize("steps", [*CHAINS, *(fused(edit(*kind), EDIT) for kind in KINDS)])
def test_every_step_finds_what_it_reads(steps):
    known = set(steps.inputs)
    for step in steps.steps:
        assert set(step.reads.values()) <= known, step.name
        assert not set(step.makes.values()) & known, f"{step.name} hides a tensor"
        known |= set(step.makes.values())
    assert set(steps.outputs) <= known


def test_only_what_glue_needs_leaves_the_device():
    kept = {name: INVERSION.resident(step) for name, step in INVERSION.graphs.items()}
    assert {name for names in kept.values() for name in names} == {"ws", "feature", "skip", "aligned"}
    assert not kept["naive"] and not kept["decode"]


def test_only_ada_is_run_where_nothing_moves():
    """A flow aligner leaves an inversion's residual as it is, so an inversion holds none."""
    assert [name for name in inversion("flow").graphs] == ["encoder", "prefix", "naive", "decode"]
    assert inversion("flow").steps[-1].reads["aligned"] == "residual"


def test_inputs_that_do_not_fit_are_named(bundle):
    with wagi_rt.load(bundle, threads=1) as session:
        with pytest.raises(UserError, match="takes image, not nothing"):
            session.engine.run_chain(INVERSION, {})
        with pytest.raises(UserError, match=r"input 'image' must be \[1, 3, .*\], this is \[1, 3, 16, 16\]"):
            session.engine.run_chain(INVERSION, {"image": random(1, 3, 16, 16)})


def test_walking_shows_every_step(bundle):
    with wagi_rt.load(bundle, threads=1) as session:
        tensors = {"image": random(1, 3, session.size, session.size)}
        steps = walk(INVERSION, tensors, lambda step, given: session.engine.run(step.name, given), RESOLUTION)
        seen = {step.name: (set(inputs), set(outputs)) for step, inputs, outputs in steps}
    assert seen["naive"] == ({"ws", "feature", "skip"}, {"image"})
    assert list(seen) == [step.name for step in INVERSION.steps]
    assert {"naive", "result", "residual", "aligned"} <= set(tensors)
