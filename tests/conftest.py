"""Shared fixtures: where the published listings lie, and one thread per test process."""

import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Sessions leave optimised graphs in the cache: the tests' go with them, in this process and its children.
os.environ["WAGI_CACHE"] = tempfile.mkdtemp(prefix="wagi-cache-")

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
LISTINGS = Path(os.environ.get("WAGI_STATE_DICTS", ROOT.parent / "shared" / "reference" / "state_dicts"))

torch.set_num_threads(1)


def pytest_unconfigure(config):
    shutil.rmtree(os.environ["WAGI_CACHE"], ignore_errors=True)


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def state_dicts():
    """Read a published listing by name: {parameter: {shape, dtype, kind}}."""
    if not LISTINGS.is_dir():
        pytest.skip(f"published listings not found at {LISTINGS} (set WAGI_STATE_DICTS)")
    return lambda name: json.loads((LISTINGS / f"{name}.json").read_text())["state_dict"]
