"""The three forms of the exported skip path give the training module's numbers in every engine."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import pywt
import torch
from export_models import CONFIG, small_model
from onnx import helper
from scipy.signal import upfirdn
from tolerances import TOL

from export.graphs import build_graphs
from export.haar_functions import add_functions
from export.skip import SKIP_FORMS, SkipPath
from export.to_onnx import main
from export.trace import trace, write_graph
from export.weights import WeightStore
from wagi.checkpoint import save, state_of
from wagi.networks.build import PARTS
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator
from wagi_rt.haar import skip_kernel, skip_upsample, upsample

NODES = {"folded": [], "wavelet": ["HaarIDWT", "HaarDWT"], "plugin": ["SkipUpsample"]}


def inputs(n=2, h=3, w=5):
    """Not square, borders near everywhere."""
    rng = np.random.default_rng(0)
    shapes = {"skip": (n, 12, h, w), "coefficients": (n, 12, 2 * h, 2 * w)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def reference(skip, coefficients):
    """PyWavelets' inverse transform, SciPy's upsampling by the published FIR, PyWavelets' transform."""
    ll, lh, hl, hh = np.split(skip.astype(np.float64), 4, axis=1)
    image = pywt.idwt2((ll, (lh, hl, hh)), "haar")
    for axis in (2, 3):
        image = upfirdn([0.25, 0.75, 0.75, 0.25], image, up=2, axis=axis)
        image = image.take(range(1, 1 + 2 * (image.shape[axis] // 2 - 1)), axis=axis)
    ll, details = pywt.dwt2(image, "haar")
    return coefficients + np.concatenate([ll, *details], axis=1)


def test_the_definition_is_that_of_others():
    given = inputs()
    np.testing.assert_allclose(skip_upsample(**given), reference(**given), **TOL[np.float32])
    x = given["skip"][:, :3]
    layer = Generator(32, style_dim=8, max_channels=4).to_rgbs[0]
    np.testing.assert_allclose(upsample(x), layer.upsample(torch.from_numpy(x)), **TOL[np.float32])
    as_convolution = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(given["skip"]), torch.from_numpy(skip_kernel()), stride=2, padding=1
    )
    np.testing.assert_allclose(
        as_convolution.numpy() + given["coefficients"], reference(**given), **TOL[np.float32]
    )


@pytest.fixture(scope="module", params=SKIP_FORMS)
def written(request, tmp_path_factory):
    """(form, file) of the skip path alone."""
    folder = tmp_path_factory.mktemp(request.param)
    module = SkipPath(Generator(32, style_dim=8, max_channels=4), request.param).eval()
    given = {name: torch.from_numpy(value) for name, value in inputs().items()}
    with WeightStore(folder) as store:
        write_graph(trace(module, given, ["y"], 20), folder / "g.onnx", store, half_weights=False)
    return request.param, folder / "g.onnx"


def test_the_nodes_of_a_form(written):
    form, path = written
    model = onnx.load(path)
    assert [node.op_type for node in model.graph.node if node.domain == "wagi"] == NODES[form]
    assert {function.name for function in model.functions} == set(NODES[form])
    for node in model.graph.node:
        if node.domain == "wagi":
            found = {attribute.name: attribute.s.decode() for attribute in node.attribute}
            assert found == {"plugin_namespace": "wagi", "plugin_version": "1"}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_form_in_an_engine(written, engine, batch):
    given = inputs(batch)
    if engine == "onnx":
        session = onnxruntime.InferenceSession(str(written[1]), providers=["CPUExecutionProvider"])
        found = session.run(None, given)[0]
    else:
        openvino = pytest.importorskip("openvino")
        from wagi_rt.engines.ov_graph import add_wavelets

        core = openvino.Core()
        add_wavelets(core)
        exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        found = core.compile_model(str(written[1]), "CPU", exact)(given)[0]
    np.testing.assert_allclose(found, reference(**given), **TOL[np.float32])


def test_the_body_in_half_precision():
    """Its one function serves both precisions, by the type of the node's input."""
    ends = [("skip", "h", "w"), ("coefficients", "h2", "w2"), ("y", "h2", "w2")]
    kind, attributes = onnx.TensorProto.FLOAT16, {"plugin_namespace": "wagi", "plugin_version": "1"}
    values = [helper.make_tensor_value_info(name, kind, ["N", 12, *sides]) for name, *sides in ends]
    node = helper.make_node("SkipUpsample", ["skip", "coefficients"], ["y"], domain="wagi", **attributes)
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    add_functions(model)
    onnx.checker.check_model(model, full_check=True)
    given = {name: value.astype(np.float16) for name, value in inputs().items()}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, given)[0], reference(**given), **TOL[np.float16])


def test_the_whole_generator_is_the_same_in_every_form():
    model = small_model()
    for form in SKIP_FORMS[1:]:
        graphs = build_graphs(model, skip=form)
        given = {name: torch.randn_like(value) for name, value in graphs["naive"].inputs.items()}
        folded = build_graphs(model)["naive"].run(given)["image"]
        torch.testing.assert_close(graphs["naive"].run(given)["image"], folded, **TOL[torch.float32])


def test_forms_without_sense_are_refused(tmp_path, capsys):
    pixels = StyleGAN2Generator(32, style_dim=8, n_mlp=1, max_channels=4)
    with pytest.raises(ValueError, match="no wavelets"):
        SkipPath(pixels, "plugin")
    with pytest.raises(ValueError, match="folded, wavelet, plugin"):
        SkipPath(pixels, "unfolded")
    model = small_model(generator="stylegan2", wavelet_levels=())
    config = dataclasses.replace(CONFIG, generator="stylegan2", wavelet_levels=())
    weights = {part: state_of(getattr(model, part)) for part in PARTS}
    save(tmp_path / "m.pt", "inversion", config, weights)
    words = ["--checkpoint", str(tmp_path / "m.pt"), "-o", str(tmp_path / "b"), "--skip", "wavelet"]
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --skip wavelet: this generator has no wavelets; use folded"
    )
    assert not (tmp_path / "b").exists()
