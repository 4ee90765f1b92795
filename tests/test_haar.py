"""The torch Haar transform: PyWavelets' values, exact inverse, energy, gradients, one ONNX node per call."""

import numpy as np
import pytest
import pywt
import torch
from tolerances import TOL

from wagi.haar import decompose, haar, inverse_haar

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def images(*shape, dtype=torch.float64, seed=0):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * values - 1).to(dtype)


def pywavelets(x):
    """[N, C, H, W] array -> [N, 4C, H/2, W/2], band-major."""
    approximation, details = pywt.dwt2(x, "haar")
    return np.concatenate([approximation, *details], axis=1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (1, 1, 2, 2), (3, 5, 6, 10)], ids=str)
def test_equals_pywavelets(shape, dtype):
    x = images(*shape, dtype=dtype)
    result = haar(x)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.double().numpy(), pywavelets(x.double().numpy()), **TOL[dtype])


def test_signs_of_one_block():
    block = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).view(1, 1, 2, 2)
    assert haar(block).flatten().tolist() == [7.5, -4.5, -2.5, 1.5]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_round_trip(dtype):
    x = images(2, 3, 16, 8, dtype=dtype)
    torch.testing.assert_close(inverse_haar(haar(x)), x, **TOL[dtype])
    y = images(2, 12, 5, 7, dtype=dtype, seed=1)
    torch.testing.assert_close(haar(inverse_haar(y)), y, **TOL[dtype])


def test_inverse_equals_pywavelets():
    y = images(2, 12, 5, 7)
    ll, *details = np.split(y.numpy(), 4, axis=1)
    np.testing.assert_allclose(inverse_haar(y).numpy(), pywt.idwt2((ll, details), "haar"), **TOL[np.float64])


def test_energy_is_preserved():
    x = images(2, 3, 32, 32)
    assert haar(x).square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-12)
    levels = decompose(x, 4)
    details = sum(level[:, 3:].square().sum() for level in levels)
    total = details + levels[-1][:, :3].square().sum()
    assert total.item() == pytest.approx(x.square().sum().item(), rel=1e-12)


def test_memory_layout_does_not_matter():
    x = images(2, 3, 8, 8)
    wide = torch.zeros(2, 3, 8, 16, dtype=x.dtype)
    wide[..., ::2] = x
    for other in (x.to(memory_format=torch.channels_last), wide[..., ::2]):
        assert torch.equal(haar(other), haar(x))
    y = images(2, 12, 4, 4)
    assert torch.equal(inverse_haar(y.to(memory_format=torch.channels_last)), inverse_haar(y))


def test_decompose_equals_wavedec():
    x = images(2, 3, 32, 16)
    levels = decompose(x, 3)
    assert [tuple(level.shape) for level in levels] == [(2, 12, 16, 8), (2, 12, 8, 4), (2, 12, 4, 2)]
    approximation, *details = pywt.wavedec2(x.numpy(), "haar", level=3)
    np.testing.assert_allclose(levels[-1][:, :3].numpy(), approximation, **TOL[np.float64])
    for level, bands in zip(levels, reversed(details), strict=True):
        np.testing.assert_allclose(level[:, 3:].numpy(), np.concatenate(bands, axis=1), **TOL[np.float64])


def test_gradients():
    x = images(2, 2, 4, 6).requires_grad_()
    y = images(2, 8, 3, 2).requires_grad_()
    for function, value in ((haar, x), (inverse_haar, y)):
        assert torch.autograd.gradcheck(function, value)
        assert torch.autograd.gradgradcheck(function, value)
    assert torch.autograd.gradcheck(lambda v: tuple(decompose(v, 2)), images(1, 1, 4, 8).requires_grad_())


@pytest.mark.parametrize("height, width", [(7, 8), (8, 7), (1, 1)])
def test_odd_sizes_are_named(height, width):
    with pytest.raises(ValueError, match=f"even.*{height}x{width}"):
        haar(torch.zeros(1, 3, height, width))


def test_sizes_of_a_decomposition_are_named():
    with pytest.raises(ValueError, match="divisible by 8, got 12x16"):
        decompose(torch.zeros(1, 3, 12, 16), 3)
    with pytest.raises(ValueError, match="multiple of 4 channels, got 6"):
        inverse_haar(torch.zeros(1, 6, 4, 4))


class Both(torch.nn.Module):
    def forward(self, x):
        return inverse_haar(2 * haar(x))


@pytest.mark.filterwarnings("ignore")
def test_onnx_export_leaves_plugin_nodes_with_a_dynamic_batch():
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(
        Both().eval(),
        (torch.zeros(2, 3, 8, 8),),
        dynamo=True,
        dynamic_shapes={"x": {0: torch.export.Dim("N")}},
        verbose=False,
    )
    graph = program.model_proto.graph
    nodes = [node for node in graph.node if node.domain == "wagi"]
    assert [node.op_type for node in nodes] == ["HaarDWT", "HaarIDWT"]
    for node in nodes:
        attributes = {a.name: a.s.decode() for a in node.attribute}
        assert attributes == {"plugin_namespace": "wagi", "plugin_version": "1"}
    dims = graph.output[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, [d.dim_value for d in dims[1:]]) == ("N", [3, 8, 8])
    assert {o.domain: o.version for o in program.model_proto.opset_import}["wagi"] == 1
