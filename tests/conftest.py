"""Shared fixtures, a cache of the tests' own, and one thread per test process."""

import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import ONNX Runtime before wagi_rt
# Sessions leave optimised graphs in the cache: the tests' go with them, in this process and its children.
os.environ["WAGI_CACHE"] = tempfile.mkdtemp(prefix="wagi-cache-")

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)


def pytest_unconfigure(config):
    shutil.rmtree(os.environ["WAGI_CACHE"], ignore_errors=True)


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def flow_model():
    """The small random model with a flow aligner, and its traced graphs: tracing takes most of an export."""
    from export_models import small_model, trace_graphs

    model = small_model("flow")
    return model, trace_graphs(model)


@pytest.fixture(scope="session")
def styled(tmp_path_factory):
    """A bundle with style offsets and portraits-CLIP: (folder, model, directions, text model)."""
    import numpy as np
    from export_models import small_model

    from export.bundle import export_model
    from wagi.checkpoint import weights_hash
    from wagi.editing.styleclip import portraits_clip
    from wagi_rt.directions import STYLE, Direction

    model, rng = small_model("flow"), np.random.default_rng(3)
    style = rng.normal(size=model.generator.space.channels).astype(np.float32)
    plain = rng.normal(size=model.generator.style_dim).astype(np.float32) / 4
    name = weights_hash(model.generator)
    directions = {
        "plaid": Direction("plaid", style, generator=name, space=STYLE),
        "smile": Direction("smile", plain),
    }
    text = portraits_clip(model.generator, images=2, seed=0)
    folder = tmp_path_factory.mktemp("styled") / "styled"
    export_model(model, folder, "styled", directions=directions, text=text)
    return folder, model, directions, text
