"""The benchmarks of int8 and of rounding measure what they say."""

import json

import numpy as np
import pytest
from tiny_bundle import error_line

from benchmarks import int8, rounding
from export.int8 import PARTS, inner, layers_of
from wagi_rt import manifest, pictures


def test_the_embedded_model_has_both_parts(tmp_path):
    """All layers of the encoder; of `decode` fewer than all, the first of which reads the residual and is
    spared, as are the six that write the gates of three levels."""
    bundle = manifest.read(None)
    found = {}
    for part, (name, *_) in PARTS.items():
        graph = int8.folded(bundle.folder / bundle.graphs[name].file, tmp_path)
        every = [n.name for n in graph.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
        found[part] = (layers_of(part, graph), every, graph)
    layers, every, _ = found["encoder"]
    assert layers == every and len(layers) > 20
    layers, every, graph = found["heads"]
    assert 5 < len(layers) < len(every)
    assert "aligned" in next(n.input for n in graph.graph.node if n.name == layers[0])
    assert layers[0] not in inner(graph, layers) and len(inner(graph, layers)) == len(layers) - 7


def test_every_form_of_rounding_gives_the_same_pixels(tmp_path):
    """In ONNX Runtime to the bit; OpenVINO multiplies and adds in one step."""
    out = tmp_path / "r.json"
    assert rounding.main(["--size", "32", "--rounds", "2", "--threads", "1", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 8
    for row in rows:
        assert row["form"] == "float" or row["different"] <= (0 if row["engine"] == "onnx" else 3)
    x = np.random.default_rng(2).uniform(-1.4, 1.4, (1, 12, 16, 16)).astype(np.float32)
    image = rounding.opened("onnx", "float", 32, 1)(x)
    assert np.abs(image).max() > 1, "nothing to clip"
    assert np.array_equal(rounding.opened("onnx", "graph", 32, 1)(x), pictures.to_uint8(image[None])[0])


@pytest.mark.parametrize("command, rounds", [(int8, "-1"), (rounding, "0")])
def test_wrong_usage_is_one_line(command, rounds, capsys):
    assert command.main(["--rounds", rounds]) == 2
    assert "--rounds" in error_line(capsys.readouterr().err)
