"""A cache of fake engines (fake_gpu.py) for tests of the TensorRT backend."""

import hashlib

import numpy as np
import pytest
from fake_gpu import GPU, VERSION, make_plan
from onnx import load

from export.glue import write_glue
from wagi_rt import manifest as manifests
from wagi_rt.engines import trt_plans
from wagi_rt.engines.base import EngineChoice
from wagi_rt.engines.trt import TrtEngine
from wagi_rt.errors import UserError

SIZE, RESOLUTION, MOST = 64, 32, 3


def record(target, name, plan, **changes):
    known = {
        "schema": 1, "engine": name, "key": target.key, "model": target.model, "gpu": target.gpu,
        "tensorrt": target.tensorrt, "precision": target.precision, "versions": {"tensorrt": VERSION},
        "batch": {"min": 1, "opt": 1, "max": MOST}, "version_compatible": True, "plugin_layers": 0,
        "bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest(), "psnr_db": {},
    }  # fmt: skip
    return trt_plans.Record(**(known | changes))


def build(bundle, folder, gpu=GPU, version=VERSION, names=None, **changes):
    """Fake plans of every engine in the cache; returns the cache folder. `changes` are the records'."""
    manifest = manifests.read(bundle)
    target = trt_plans.target(manifest, gpu, version)
    steps = (*manifest.inversion.steps, *manifest.edit.steps)
    for name in names or [*manifest.graphs, *dict.fromkeys(step.name for step in steps if step.is_glue)]:
        graph = manifest.graphs.get(name)
        path = manifest.folder / graph.file if graph else write_glue(manifest, name, folder)
        plan = make_plan(load(path), (1, 1, MOST))
        trt_plans.write_plan(target, record(target, name, plan, **changes), plan)
    return target.folder


def pictures(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, SIZE, SIZE)).astype(np.float32)


def invert(engine: TrtEngine, images: np.ndarray) -> dict[str, np.ndarray]:
    """The bundle's default chain on the engine."""
    return engine.run_chain(engine.manifest.chain, {"image": images})


def failure(bundle, **options) -> UserError:
    """The one line with which opening the backend ends."""
    with pytest.raises(UserError) as caught:
        TrtEngine(manifests.read(bundle), EngineChoice(**options))
    assert len(str(caught.value).splitlines()) == 1
    return caught.value
