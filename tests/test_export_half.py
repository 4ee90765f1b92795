"""FP16 graphs: strongly typed, FP32 at the ends and where needed, close to FP32, finite for any style."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, shape_inference
from torch import nn

import export.bundle as bundle
import wagi_rt
from export.activations import MOST_FOR_HALF, _Largest
from export.folding import folded
from export.rows import table
from tests.export_models import randomised, small_model
from wagi.config import settings
from wagi.data import open_dataset
from wagi.model import WaGI
from wagi.networks.build import PARTS, build_part
from wagi.networks.irse import SqueezeExcite
from wagi.networks.small_encoder import SmallEncoder
from wagi.networks.swagan import State
from wagi_rt import manifest as manifests
from wagi_rt.errors import UserError
from wagi_rt.metrics import psnr

LIMIT_DB = 55
GRAPHS = ("encoder", "prefix", "naive", "align", "decode", "pipeline", "edit")


@pytest.fixture(scope="module")
def model() -> WaGI:
    return small_model()


@pytest.fixture(scope="module")
def exported(model: WaGI, tmp_path_factory) -> tuple[Path, bundle.Export]:
    out = tmp_path_factory.mktemp("half") / "half"
    return out, bundle.export_model(model, out, "half", precision="fp16")


def test_every_graph_is_within_the_limit(exported) -> None:
    out, found = exported
    printed = table(*found)
    print("\n" + printed)
    assert "max |act|" in printed and "PSNR" in printed and "FAIL" not in printed
    manifest = manifests.read(out)
    assert manifest.precision == "fp16"
    for name in GRAPHS:
        graph = manifest.graphs[name]
        assert graph.limit_psnr_db == LIMIT_DB < graph.parity["psnr_db"]
        # Half precision shows: these are not the FP32 graphs.
        assert graph.parity["max_abs"] > 1e-5
        assert graph.max_activation == found.largest[name] < MOST_FOR_HALF


@torch.no_grad()
def test_a_trunk_that_grew_beyond_half_precision_fits_again() -> None:
    """The codes of a small encoder do not depend on the size of what its norms divide by."""
    torch.manual_seed(0)
    encoder = SmallEncoder(6, 16, input_size=32, width=16).eval()
    for delta in encoder.deltas:
        nn.init.normal_(delta.weight, std=0.05)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    for factor in (1.0, 2.0**17):
        encoder.stem.weight *= factor
        with _Largest() as before:
            wanted = encoder(images)
        half = folded(encoder, torch.float16).float()
        with _Largest() as after:
            found = half(images)
        assert (before.value > 65504) == (factor > 1) and after.value < MOST_FOR_HALF
        assert psnr(found[None].numpy(), wanted[None].numpy()) > LIMIT_DB


def test_convolutions_are_half_and_the_sensitive_rest_is_not(exported) -> None:
    """Strong typing: every operand of a node has one type; inference in strict mode fails otherwise."""
    for name in GRAPHS:
        model = onnx.load(exported[0] / f"{name}.onnx")
        graph = shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
        types = {t.name: t.data_type for t in graph.initializer}
        values = (*graph.value_info, *graph.input, *graph.output)
        types |= {v.name: v.type.tensor_type.elem_type for v in values}
        assert {types[v.name] for v in (*graph.input, *graph.output)} == {TensorProto.FLOAT}
        for node in graph.node:
            kind = types[node.output[0]]
            if node.op_type in ("MatMul", "Gemm", "InstanceNormalization", "ReduceMean", "HaarIDWT"):
                assert kind == TensorProto.FLOAT, (name, node.op_type)
            if node.op_type == "Conv":
                assert kind == TensorProto.FLOAT16, (name, node.name)
            if node.op_type == "Cast" and node.input[0] in types:
                assert types[node.input[0]] != kind, f"{name}: {node.name} changes nothing"
    pipeline = onnx.load(exported[0] / "pipeline.onnx", load_external_data=False).graph
    casts = {node.output[0]: node.input[0] for node in pipeline.node if node.op_type == "Cast"}
    assert not any(source in casts for source in casts.values()), "to FP32 and straight back"


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e5])
def test_styles_of_any_size_stay_finite(exported, model: WaGI, scale: float) -> None:
    """Decision 47: FP16 everywhere gives infinities here."""
    rng = np.random.default_rng(0)
    generator = model.generator
    ws = torch.from_numpy(rng.normal(size=(2, generator.n_latent, generator.style_dim)).astype(np.float32))
    ws = ws * scale
    aligned = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32))
    with torch.no_grad():
        state = generator.prefix(ws, model.fusion_start)
        wanted = {
            "naive": generator.suffix(ws, State(*state), model.fusion_start),
            "decode": model.decode(ws, State(*state), aligned),
        }
    with wagi_rt.load(exported[0]) as session:
        below = session.engine.run("prefix", {"ws": ws.numpy()})
        for name, image in wanted.items():
            extra = {"aligned": aligned.numpy()} if name == "decode" else {}
            found = session.engine.run(name, {"ws": ws.numpy(), **below, **extra})["image"]
            assert np.isfinite(found).all()
            # An image has no fixed range here: decibels below its own.
            peak = float(image.abs().max()) or 1.0
            assert (psnr(found / peak, image.numpy() / peak) > LIMIT_DB).all()


def test_true_half_arithmetic(model: WaGI) -> None:
    """ONNX Runtime may compute in FP32 on a CPU; PyTorch rounds after every operation."""
    from export.graphs import build_graphs

    images = np.random.default_rng(1).uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        wanted = model.invert(torch.from_numpy(images)).image.numpy()
    found = build_graphs(model, "fp16")["pipeline"].run({"image": torch.from_numpy(images)})["result"].numpy()
    peak = np.abs(wanted).max()
    assert (psnr(found / peak, wanted / peak) > LIMIT_DB).all()


def test_overflow_is_refused_before_anything_is_written(tmp_path) -> None:
    model = small_model()
    with torch.no_grad():
        model.aligner.conv_layer1[0].weight.mul_(1e5)
    with pytest.raises(UserError, match="graph 'align': an activation of .* export without --fp16"):
        bundle.export_model(model, tmp_path / "out", "huge", precision="fp16", traced={})
    assert list(tmp_path.iterdir()) == []


def test_channel_attention_stays_in_single_precision() -> None:
    """The e4e encoder's; its weights must not pass through half on their way."""
    torch.manual_seed(0)
    attention = SqueezeExcite(32).eval()
    half = folded(nn.Sequential(attention), torch.float16)
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    x = torch.randn(2, 32, 8, 8)
    assert torch.allclose(half(x), attention(x), atol=1e-6)


@pytest.mark.slow
def test_embedded_architecture_on_held_out_portraits(tmp_path) -> None:
    """The limit of decision 48, with random weights."""
    config, _ = settings("portraits-128", "inversion")
    torch.manual_seed(0)
    model = randomised(WaGI(*(build_part(config, part) for part in PARTS)).eval())
    data = open_dataset("portraits:900:4", 128)
    images = np.stack([data.get(i, False)["image"].numpy() for i in range(4)])
    found = bundle.export_model(model, tmp_path / "p", "portraits", precision="fp16", images=images)
    print("\n" + table(*found))
    assert json.loads((tmp_path / "p" / "manifest.json").read_text())["precision"] == "fp16"
    assert all(row.psnr > LIMIT_DB for row in found.rows)
