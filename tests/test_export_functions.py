"""Wavelet nodes of exported graphs: bodies equal to PyWavelets in any engine, attributes for the plugin."""

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnxruntime
import pytest
import pywt
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.haar_functions import ATTRIBUTES, NAMES, add_functions, haar_function
from export.trace import trace, write_graph
from export.weights import WeightStore
from tests.tolerances import TOL
from wagi.haar import haar, inverse_haar
from wagi.networks.layers import ModulatedConv2d

CHANNELS = {"HaarDWT": 3, "HaarIDWT": 12}  # of nodes with one input; SkipUpsample: test_export_skip.py
DTYPES = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def one_node(name: str, dtype: type, opset: int = 20) -> onnx.ModelProto:
    node = helper.make_node(name, ["x"], ["y"], domain="wagi", plugin_namespace="wagi", plugin_version="1")
    ends = [
        helper.make_tensor_value_info(end, DTYPES[dtype], ["N", f"{end}c", f"{end}h", f"{end}w"])
        for end in "xy"
    ]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    add_functions(model)
    return model


def reference(name: str, x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    if name == "HaarDWT":
        ll, (lh, hl, hh) = pywt.dwt2(x, "haar")
        return np.concatenate([ll, lh, hl, hh], axis=1)
    ll, lh, hl, hh = np.split(x, 4, axis=1)
    return pywt.idwt2((ll, (lh, hl, hh)), "haar")


@pytest.mark.parametrize("opset", [18, 20, 23])
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("name", CHANNELS)
def test_body_equals_pywavelets(name: str, dtype: type, opset: int) -> None:
    """Three colours, not square: band-major order, signs and rows against columns all show."""
    model = one_node(name, dtype, opset)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(0).normal(size=(2, CHANNELS[name], 6, 10)).astype(dtype)
    np.testing.assert_allclose(run(model, x), reference(name, x), **TOL[dtype])


@pytest.mark.parametrize("name", CHANNELS)
def test_half_precision_sums_do_not_overflow(name: str) -> None:
    """Four values of 30000 have a coefficient of 60000, which half precision holds; their sum it does not."""
    x = np.full((1, CHANNELS[name], 2, 2), 30000, np.float16)
    assert np.isfinite(run(one_node(name, np.float16), x)).all()


@pytest.mark.parametrize("name", CHANNELS)
def test_inlined_variant_is_equal(name: str) -> None:
    model = one_node(name, np.float32)
    inlined = onnx.inliner.inline_local_functions(model)
    assert not inlined.functions and not any(node.domain == "wagi" for node in inlined.graph.node)
    x = np.random.default_rng(1).normal(size=(1, CHANNELS[name], 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(inlined, x), run(model, x))


@pytest.mark.parametrize("name", NAMES)
def test_body_follows_the_rules_of_old_parsers(name: str) -> None:
    """Prefixed names only, each written once; the plugin's attributes are declared; no such ONNX op."""
    function = haar_function(name, 20)
    written = [output for node in function.node for output in node.output]
    used = {tensor for node in function.node for tensor in node.input} | set(function.input)
    assert len(written) == len(set(written))
    assert all(tensor.startswith(f"wagi_{name}_") for tensor in used | set(written))
    assert tuple(function.attribute) == ATTRIBUTES == ("plugin_namespace", "plugin_version")
    with pytest.raises(onnx.defs.SchemaError):
        onnx.defs.get_schema(name)


def test_unknown_function_is_refused() -> None:
    with pytest.raises(ValueError, match="HaarDWT, HaarIDWT"):
        haar_function("HaarFWT", 20)


class _Both(nn.Module):
    """Both transforms, and a modulated convolution whose style may be zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(12, 12, 3, style_dim=8)
        nn.init.zeros_(self.conv.modulation.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return inverse_haar(self.conv(haar(x), w))


@pytest.fixture(scope="module")
def both() -> tuple[_Both, ir.Model]:
    torch.manual_seed(0)
    module = _Both().eval()
    return module, trace(module, {"x": torch.zeros(2, 3, 8, 8), "w": torch.zeros(2, 8)}, ["y"], 20)


def _write(both: tuple[_Both, ir.Model], folder) -> onnxruntime.InferenceSession:
    with WeightStore(folder) as store:
        write_graph(both[1], folder / "g.onnx", store, half_weights=False)
    return onnxruntime.InferenceSession(str(folder / "g.onnx"), providers=["CPUExecutionProvider"])


def test_torch_op_leaves_nodes_with_plugin_attributes(both: tuple[_Both, ir.Model], tmp_path) -> None:
    _write(both, tmp_path)
    model = onnx.load(tmp_path / "g.onnx", load_external_data=False)
    nodes = {node.op_type: node for node in model.graph.node if node.domain == "wagi"}
    assert set(nodes) == set(CHANNELS) == {function.name for function in model.functions}
    for node in nodes.values():
        found = {attribute.name: attribute.s.decode() for attribute in node.attribute}
        assert found == {"plugin_namespace": "wagi", "plugin_version": "1"}


@pytest.mark.parametrize("batch", [1, 3])
def test_traced_graph_equals_torch_for_any_batch(both: tuple[_Both, ir.Model], tmp_path, batch: int) -> None:
    session = _write(both, tmp_path)
    rng = torch.Generator().manual_seed(batch)
    x, w = torch.randn(batch, 3, 8, 8, generator=rng), torch.randn(batch, 8, generator=rng)
    found = session.run(None, {"x": x.numpy(), "w": w.numpy()})[0]
    np.testing.assert_allclose(found, both[0](x, w).detach().numpy(), **TOL[np.float32])


def test_demodulation_keeps_its_epsilon(both: tuple[_Both, ir.Model], tmp_path) -> None:
    """A zero style is 0 / sqrt(1e-8) = 0; an optimiser that drops the 1e-8 makes it NaN."""
    session = _write(both, tmp_path)
    found = session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32), "w": np.zeros((1, 8), np.float32)})[0]
    np.testing.assert_array_equal(found, 0)
