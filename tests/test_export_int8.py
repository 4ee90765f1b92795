"""`--int8` puts the layers it names into int8, in every graph that holds them, and only behind its gate."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_models import CONFIG, small_model, trace_graphs
from onnx import numpy_helper
from tiny_bundle import edit_manifest, error_line, run_cli, write_tiny_bundle
from torch import nn

import export.bundle as bundle
import export.int8
from export import compare, comparison, to_engine, to_onnx
from export.int8 import LIMIT_DB, Int8
from export.parity import reference
from wagi.checkpoint import save, state_of
from wagi.data import open_dataset
from wagi.model import WaGI
from wagi.networks.build import PARTS
from wagi.networks.layers import EqualConv2d
from wagi_rt import manifest as manifests
from wagi_rt.engines.base import EngineChoice
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError
from wagi_rt.metrics import psnr_of_all
from wagi_rt.probes import edited
from wagi_rt.session import Session

GRAPHS = ("encoder", "prefix", "naive", "align", "decode", "pipeline", "edit")
PRECISION = {("encoder",): "fp32", ("encoder", "heads"): "fp16-weights"}
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def portraits(seed: int, count: int) -> np.ndarray:
    found = open_dataset(f"portraits:{seed}:{count}", CONFIG.size)
    return np.stack([found.get(k, False)["image"].numpy() for k in range(count)])


@pytest.fixture(scope="module")
def model() -> WaGI:
    """Random, but with latents that hardly move its pictures: a trained residual takes up what they miss."""
    model = small_model()
    with torch.no_grad():
        for layer in (model.encoder.first, *model.encoder.deltas):
            layer.weight *= 0.03
    return model


@pytest.fixture(scope="module")
def traced(model: WaGI) -> dict:
    return trace_graphs(model)


@pytest.fixture(scope="module")
def plain(model: WaGI, traced: dict, tmp_path_factory) -> Path:
    bundle.export_model(model, out := tmp_path_factory.mktemp("plain") / "fp32", "fp32", traced=traced)
    return out


@pytest.fixture(scope="module", params=["encoder", "encoder,heads"])
def exported(request, model: WaGI, traced: dict, tmp_path_factory) -> tuple[Path, tuple[str, ...]]:
    """The second one with half weights."""
    out, parts = tmp_path_factory.mktemp("int8") / "int8", tuple(request.param.split(","))
    wanted, precision = Int8(parts, portraits(1, 12), portraits(2, 5)), PRECISION[parts]
    bundle.export_model(model, out, "int8", precision=precision, int8=wanted, traced=traced)
    return out, parts


@pytest.fixture
def checkpoint(model: WaGI, tmp_path) -> Path:
    path = tmp_path / "model.pt"
    save(path, "inversion", CONFIG, {part: state_of(getattr(model, part)) for part in PARTS})
    return path


def stored(path: Path) -> dict[str, np.ndarray]:
    return {
        one.name: numpy_helper.to_array(one, str(path.parent)) for one in onnx.load(path).graph.initializer
    }


def layers(path: Path) -> tuple[int, int]:
    """How many layers of a graph have int8 weights, and how many do not."""
    weights, graph = stored(path), onnx.load(path, load_external_data=False).graph
    made = {name: node for node in graph.node for name in node.output}
    kinds = []
    for node in graph.node:
        if node.op_type in LAYERS:
            origin = made.get(node.input[1])
            scaled = origin is not None and origin.op_type == "DequantizeLinear"
            kinds.append(scaled and weights[origin.input[0]].dtype == np.int8)
    tensors = sum(value.dtype == np.int8 and value.ndim > 1 for value in weights.values())
    assert tensors == sum(kinds), "int8 weights of something else"
    return sum(kinds), len(kinds) - sum(kinds)


def modules(network: nn.Module) -> int:
    return sum(isinstance(one, (nn.Conv2d, nn.Linear, EqualConv2d)) for one in network.modules())


def test_the_named_layers_are_int8_wherever_they_stand_and_no_others(exported, plain, model: WaGI) -> None:
    """Counted in PyTorch: every layer of the encoder; of the heads all but the first and the last of each."""
    out, parts = exported
    fusion = model.fusion
    ends = 2 * (len(fusion.feature_channels) + len(fusion.wavelet_levels))
    encoder, heads = modules(model.encoder), (modules(fusion) - 1 - ends) * ("heads" in parts)
    wanted = {"encoder": encoder, "decode": heads, "pipeline": encoder + heads, "edit": heads}
    assert heads > 3 or parts == ("encoder",)
    for name in GRAPHS:
        found, rest = layers(out / f"{name}.onnx")
        assert found == wanted.get(name, 0), name
        assert found + rest == sum(layers(plain / f"{name}.onnx"))


def test_weights_take_a_quarter(exported, plain) -> None:
    out, _ = exported
    saved = sum(value.size * 3 for value in stored(out / "pipeline.onnx").values() if value.dtype == np.int8)
    before, after = ((folder / "weights.bin").stat().st_size for folder in (plain, out))
    assert saved > 1000 and before - after > 0.9 * saved


def test_weights_leave_room_for_two_products(exported) -> None:
    """Without VNNI a CPU adds two products of a weight and an unsigned byte in 16 bits and saturates."""
    weights = [value for value in stored(exported[0] / "pipeline.onnx").values() if value.dtype == np.int8]
    largest = max(int(np.abs(value.astype(int)).max()) for value in weights)
    assert 32 < largest and 2 * 255 * largest <= np.iinfo(np.int16).max


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_engines_are_within_the_gate(exported, model: WaGI, backend: str) -> None:
    """Pictures that neither ranges nor the gate saw, against PyTorch; and it is int8 that runs."""
    pictures = portraits(3, 4)
    with torch.no_grad():
        inversion = model.invert(torch.from_numpy(pictures))
        edit = model.edit(inversion, torch.from_numpy(edited(inversion.ws.numpy()))).image.numpy()
    with Session(exported[0], EngineChoice(backend, threads=1)) as session:
        assert session.description.endswith(f"{PRECISION[exported[1]]} with int8 {' and '.join(exported[1])}")
        found = session.restore(pictures)
        kept = session.encode(pictures)
        edits = session.edit(kept, edited(kept["ws"])).image
    for image, wanted in ((found.image, inversion.image.numpy()), (edits, edit)):
        assert LIMIT_DB < psnr_of_all(image, wanted) < 80


def test_the_manifest_says_it(exported, capsys) -> None:
    out, parts = exported
    assert run_cli("info", "-m", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)["int8"]
    assert tuple(found["parts"]) == parts and found["limit_psnr_db"] == LIMIT_DB
    assert min(found["psnr_db"].values()) > LIMIT_DB and set(found["psnr_db"]) == {"inversions", "edits"}
    assert run_cli("info", "-m", out) == 0
    said = capsys.readouterr().out
    assert f"{PRECISION[parts]} with int8 {' and '.join(parts)}, " in said
    assert f"int8       inversions {found['psnr_db']['inversions']:.1f} dB, edits " in said


@pytest.mark.parametrize("change", [{"parts": ["generator"]}, {"parts": []}, {"limit_psnr_db": "45"}])
def test_a_damaged_entry_is_refused(change, tmp_path) -> None:
    edit_manifest(write_tiny_bundle(tmp_path), int8={"parts": ["encoder"], "limit_psnr_db": 45.0, **change})
    with pytest.raises(UserError, match=f"int8.{next(iter(change))}"):
        manifests.read(tmp_path)


def test_scales_are_constants(exported) -> None:
    """With half weights, too: engines fuse a layer with its scales only then."""
    out, parts = exported
    for name in ("encoder", "pipeline"):
        weights, nodes = stored(out / f"{name}.onnx"), onnx.load(out / f"{name}.onnx").graph.node
        scaled = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert scaled and all(weights[node.input[1]].dtype == np.float32 for node in scaled)
    halves = [name for name, one in stored(out / "prefix.onnx").items() if one.dtype == np.float16]
    assert bool(halves) == ("heads" in parts)


def test_a_model_below_the_gate_is_refused(model: WaGI, traced: dict, tmp_path) -> None:
    """Ranges of pictures almost without contrast cut off what others have."""
    wrong = Int8(("encoder", "heads"), portraits(1, 8) / 50, portraits(2, 3))
    with pytest.raises(UserError) as caught:
        bundle.export_model(model, tmp_path / "out", "wrong", int8=wrong, traced=traced)
    said = re.fullmatch(
        r"--int8 encoder,heads: inversions (.*) dB and edits (.*) dB against PyTorch on 3 held-out pictures, "
        "the limit is 45; calibrate on .*, or export without --int8",
        str(caught.value),
    )
    assert said and min(map(float, said.groups())) < LIMIT_DB and caught.value.status == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command(checkpoint, traced, tmp_path, capsys, monkeypatch) -> None:
    """Status 1 below the limit, one line, nothing written; without --held-out it is judged by the probes."""
    monkeypatch.setattr(bundle, "trace_one_by_one", lambda *_: iter(traced.items()))
    monkeypatch.setattr(export.int8, "LIMIT_DB", 150.0)
    words = ["--checkpoint", str(checkpoint), "-o", str(tmp_path / "out"), "--int8", "encoder"]
    words += ["--calibrate", "portraits:1:12"]
    command = to_onnx._command(to_onnx.parser().parse_args(words))
    assert " --int8 encoder --calibrate portraits:1:12" in command
    assert to_onnx.main(words) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: --int8 encoder: inversions ")
    assert "on 3 seeded patterns (no --held-out), the limit" in line
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


@pytest.mark.parametrize(
    "words, named",
    [
        (["--int8", "encoder", "--calibrate", "portraits:1:4", "--fp16"], "--fp16"),
        (["--int8", "encoder"], "add --calibrate DATA"),
        (["--int8", "generator", "--calibrate", "portraits:1:4"], "must be encoder, heads or encoder,heads"),
    ],
)
def test_wrong_usage_is_one_line(words, named, checkpoint, tmp_path, capsys) -> None:
    assert to_onnx.main(["--checkpoint", str(checkpoint), "-o", str(tmp_path / "out"), *words]) == 2
    line = error_line(capsys.readouterr().err)
    assert line.startswith("error: --int8") and named in line
    assert not (tmp_path / "out").exists()


def test_comparison_judges_pictures_by_the_gate(exported, model: WaGI) -> None:
    """Graphs without int8 keep the limits of FP32; latents have none; a wrong picture fails."""
    out, parts = exported
    wanted = reference(model, portraits(4, 3))
    with OrtEngine(manifests.read(out)) as engine:
        rows = {row.name: row for row in comparison.compare(engine, wanted)}
        probes = {row.name: row for row in comparison.compare_probes(engine)}
        wanted["pipeline"][1]["result"] = wanted["pipeline"][1]["result"] + 0.1
        wrong = {row.name for row in comparison.compare(engine, wanted) if not row.passed}
    assert all(row.passed for row in (*rows.values(), *probes.values()))
    limits = {name: (row.tolerance, row.limit) for name, row in rows.items()}
    gate = np.inf, LIMIT_DB
    exact = bundle.TOLERANCES[PRECISION[parts]], bundle.LIMITS_DB[PRECISION[parts]]
    of_heads = gate if "heads" in parts else exact
    assert limits["encoder"] == (np.inf, -np.inf) and limits["pipeline"] == limits["inversion"] == gate
    assert limits["decode"] == limits["edit"] == limits["editing"] == of_heads
    assert limits["prefix"] == limits["naive"] == limits["align"] == exact
    assert probes["naive"].limit == -np.inf and probes["decode"].limit == probes["edit"].limit == LIMIT_DB
    assert 20 < rows["encoder"].psnr < 80
    assert wrong == {"pipeline", "inversion"}


def test_compare_prints_it(exported, capsys) -> None:
    assert compare.main([str(exported[0]), "--backends", "onnx,openvino", "--batches", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["limit"] for row in rows} == {None, LIMIT_DB} and {row["tolerance"] for row in rows} == {None}
    assert compare.main([str(exported[0]), "--backends", "onnx", "--batches", "3"]) == 0
    assert "    -    " in next(line for line in capsys.readouterr().out.splitlines() if "encoder" in line)


def test_tensorrt_engines_are_refused(exported, capsys) -> None:
    assert to_engine.main([str(exported[0])]) == 2
    assert "has int8 layers, which are for CPUs" in error_line(capsys.readouterr().err)
