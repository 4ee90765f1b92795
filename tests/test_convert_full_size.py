"""SWAGAN-1024 at full width: memory, and a model that exports with parity. Time is reported, not asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from public_files import tf_variables, write_tf

from tests.tolerances import EXPORT_ATOL
from wagi import checkpoint

# VmHWM and not ru_maxrss, which a child process inherits from its parent.
MEASURE = """
import json, sys, time
start = time.monotonic()
from wagi import convert
status = convert.main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([status, time.monotonic() - start, time.process_time(), int(peak.split()[1])]))
"""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """(path of the converted generator, bytes of the pickle, [status, wall s, CPU s, KiB])."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    folder = tmp_path_factory.mktemp("full")
    wide = dict(style_dim=512, n_mlp=8, channel_multiplier=2, max_channels=512)
    source = write_tf(folder / "swagan.pkl", tf_variables(1024, 3, 0, **wide))
    command = [sys.executable, "-c", MEASURE, str(source), "-o", str(folder / "swagan.pt")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    return folder / "swagan.pt", source.stat().st_size, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory(converted):
    path, size, (status, wall, cpu, kib) = converted
    print(
        f"{size / 1e6:.0f} MB pickle: {wall:.0f} s wall, {cpu:.0f} s CPU, {kib * 1024 / 1e9:.2f} GB at most"
    )
    assert status == 0 and kib * 1024 - size < 2e9
    assert checkpoint.load_generator(path).n_latent == 16


@pytest.mark.slow
def test_export_parity(converted, tmp_path):
    """The generator at full width in a whole model; encoder and heads are small, they are not converted."""
    from export.bundle import export_model
    from wagi.model import WaGI
    from wagi.networks.alignment import DistortionAligner
    from wagi.networks.fusion import ConsultationEncoder
    from wagi.networks.small_encoder import SmallEncoder

    torch.manual_seed(0)
    generator = checkpoint.load_generator(converted[0])
    fusion = ConsultationEncoder(256, {64: 512, 128: 256}, (128,), (8, 12, 16), 16, zero_init=False)
    encoder = SmallEncoder(generator.n_latent, 512, input_size=64, width=8)
    model = WaGI(generator, encoder, DistortionAligner(), fusion).eval()
    rows = export_model(model, tmp_path / "bundle", "swagan-1024").rows
    print([(row.name, row.difference) for row in rows])
    assert all(row.difference < EXPORT_ATOL for row in rows)
