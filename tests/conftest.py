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
