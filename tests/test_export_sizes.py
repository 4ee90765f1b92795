"""Parity at 256 and 1024 px in a narrow network: the gated generator as ONNX Runtime runs it, against WaGI.

What does not depend on the size (encoder, aligner) is left to the tests at 32 px; whole bundles at full width
are in the slow ones.
"""

import numpy as np
import onnxruntime
import pytest
from export_models import small_model

from export.graphs import build_graphs
from export.parity import reference
from export.rows import row
from export.trace import trace, write_graph
from export.weights import WeightStore
from wagi_rt import probes


@pytest.mark.parametrize("size", [256, 1024])
def test_the_decoder(tmp_path, size):
    narrow = dict(channel_multiplier=1 / 16, max_channels=4, style_dim=16, fusion_widths=(4, 4, 4))
    model = small_model(size=size, residual_resolution=32, **narrow)
    inputs, wanted = reference(model, probes.images(size, 3, batch=2))["decode"]
    graph = build_graphs(model)["decode"]
    with WeightStore(tmp_path) as store:
        traced = trace(graph.module, graph.inputs, list(graph.outputs), 20)
        write_graph(traced, tmp_path / "decode.onnx", store, half_weights=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "decode.onnx"), options, ["CPUExecutionProvider"])
    found = dict(zip(wanted, session.run(list(wanted), inputs), strict=True))
    (image,) = wanted.values()
    assert image.shape == (2, 3, size, size) and np.ptp(image) > 0.1
    assert row("decode", found.values(), wanted.values(), (1e-3, 80.0)).passed
