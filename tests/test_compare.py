"""export/compare.py holds every backend against PyTorch: each graph, an inversion and an edit, by batch size.

TensorRT's part runs on FAKES of CUDA and TensorRT (fake_gpu.py): what real engines compute only a GPU shows.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from export_models import CONFIG
from fake_gpu import FakeCuda, fake_tensorrt, install
from tiny_bundle import edit_manifest, error_line
from trt_helpers import build

from export import compare
from export.bundle import export_model
from export.rows import row
from wagi.checkpoint import save, state_of
from wagi.networks.build import PARTS

GRAPHS = {"encoder", "prefix", "naive", "decode", "move", "pipeline", "edit"}
WHOLE = {"inversion", "editing", "no change", "batch 1 = 3"}


@pytest.fixture(scope="module")
def made(flow_model, tmp_path_factory):
    """(bundle, checkpoint) of one small model with a flow aligner."""
    folder = tmp_path_factory.mktemp("compare")
    (model, traced), config = flow_model, dataclasses.replace(CONFIG, aligner="flow")
    save(folder / "model.pt", "inversion", config, {part: state_of(getattr(model, part)) for part in PARTS})
    export_model(model, folder / "bundle", "small", traced=traced)
    return folder / "bundle", folder / "model.pt"


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """The fake TensorRT, with a cache of its own."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "plans").mkdir()
    cuda = FakeCuda()
    lean = fake_tensorrt(cuda)
    install(monkeypatch, cuda, lean)
    return lean


def run(bundle, *words) -> int:
    return compare.main([str(word) for word in (bundle, "--threads", 1, *words)])


def found(capsys) -> dict:
    content = json.loads(capsys.readouterr().out)
    for one in content["rows"]:
        assert one["passed"] == (one["difference"] <= one["tolerance"] and one["psnr"] >= one["limit"])
    return content


def test_every_backend_every_graph_every_batch(made, gpu, tmp_path, capsys):
    pytest.importorskip("openvino")
    bundle, checkpoint = made
    build(bundle, tmp_path / "plans")
    rows, backends = {}, {"torch": (1, 2), "onnx": (1, 2), "openvino": (2,), "trt": (1, 2)}
    for names, batches in (("torch,onnx,trt", "1,2"), ("openvino", "2")):
        words = ("--checkpoint", checkpoint, "--backends", names, "--batches", batches)
        assert run(bundle, *words, "--json") == 0
        content = found(capsys)
        rows |= {(one["name"], one["backend"], one["batch"]): one for one in content["rows"]}
    wanted = {
        (name, key, batch) for key, sizes in backends.items() for batch in sizes for name in GRAPHS | WHOLE
    }
    mixed = {("batch 1 = 3", key) for key in backends}
    assert set(rows) == {one for one in wanted if one[:2] not in mixed} | {(*one, 1) for one in mixed}
    assert content["not_compared"] == {} and content["images"] == {"seed": 1}
    for key in backends:
        assert rows["no change", key, 2]["difference"] < 1e-6
        assert rows["editing", key, 2]["values"] == 2 * 3 * 3 * 32 * 32  # edit_naive_r and result
    # Engines add something of their own, so the reference is not one of them.
    assert all(0 < rows["pipeline", key, 2]["mean"] < 1e-5 for key in backends)


def test_a_wrong_engine_is_told_from_the_others(made, gpu, tmp_path, capsys):
    bundle, checkpoint = made
    build(bundle, tmp_path / "plans", names=["pipeline"])
    gpu.spoil = lambda array: array + np.float32(0.01)
    assert run(bundle, "--checkpoint", checkpoint, "--backends", "onnx,trt") == 1
    printed = capsys.readouterr()
    failed = [line.split()[:3] for line in printed.out.splitlines() if line.endswith("FAIL")]
    assert failed == [["pipeline", "trt", "1"], ["pipeline", "trt", "3"]], "the only plan that is there"
    assert "pipeline in trt differs by 1.00e-02" in error_line(printed.err)


def test_what_cannot_run_here_is_said(made, capsys, monkeypatch):
    install(monkeypatch, FakeCuda(status=35), fake_tensorrt(FakeCuda()))
    assert run(made[0], "--backends", "torch,onnx,trt", "--json") == 0
    content = found(capsys)
    assert (
        set(content["not_compared"]) == {"torch", "trt"}
        and "--checkpoint" in content["not_compared"]["torch"]
    )
    assert {one["name"] for one in content["rows"]} == {*GRAPHS, "batch 1 = 3"}
    assert content["reference"] == "PyTorch, the values that are stored" and content["images"] == {"seed": 20}
    assert run(made[0], "--backends", "trt") == 1
    assert "nothing was compared" in error_line(capsys.readouterr().err.split("\n", 1)[1])


@pytest.mark.parametrize(
    ("graph", "output"),
    [("pipeline", "naive_r"), ("edit", "edit_naive_r"), ("edit", "result"), ("move", "aligned")],
)
def test_the_stored_values_hold_the_pipeline_and_the_edit(made, tmp_path, capsys, graph, output):
    """A wrong value of any of them shows in its graph's row, and only there."""
    shutil.copytree(made[0], tmp_path / "b")
    source = json.loads((tmp_path / "b" / "manifest.json").read_text())["source"]
    values = source["probes"]["values"][graph][output]
    assert len(values) == 64
    values[7] += 0.1
    edit_manifest(tmp_path / "b", source=source)
    assert run(tmp_path / "b", "--backends", "onnx", "--json") == 1
    assert {one["name"] for one in found(capsys)["rows"] if not one["passed"]} == {graph}


def test_a_bundle_of_before_the_pipelines_values(made, tmp_path, capsys):
    shutil.copytree(made[0], tmp_path / "b")
    source = json.loads((tmp_path / "b" / "manifest.json").read_text())["source"]
    del source["probes"]["values"]["pipeline"]
    edit_manifest(tmp_path / "b", source=source)
    assert run(tmp_path / "b", "--backends", "onnx", "--json") == 0
    assert {one["name"] for one in found(capsys)["rows"]} == {*GRAPHS, "batch 1 = 3"}


def test_bf16_has_rows_of_every_graph_and_of_edits(made, monkeypatch, capsys):
    """With a flow aligner; the capability is a FAKE, the arithmetic FP32."""
    pytest.importorskip("openvino")
    from wagi_rt.engines import ov

    monkeypatch.setattr(ov, "_capabilities", lambda core: ["FP32", "BF16"])
    monkeypatch.setitem(ov._HINTS, "bf16", "f32")
    assert run(made[0], "--checkpoint", made[1], "--backends", "openvino:bf16", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {one["name"] for one in rows} == GRAPHS | WHOLE
    assert {(one["tolerance"], one["limit"]) for one in rows} == {(None, ov.LIMIT_PSNR_DB["bf16"])}


def test_the_layers_of_every_graph(made, tmp_path, capsys):
    """An FP32 bundle that is called FP16: each layer equals itself, of the edit's graphs too."""
    assert run(made[0], "--bisect", "--backends", "onnx,trt") == 0
    printed = capsys.readouterr()
    assert printed.out == "" and [line.split(":")[0] for line in printed.err.splitlines()] == ["onnx", "trt"]
    shutil.copytree(made[0], tmp_path / "b")
    edit_manifest(tmp_path / "b", precision="fp16")
    assert run(tmp_path / "b", "--bisect", "--backends", "onnx") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == GRAPHS
    assert all("layers within 80 dB; the lowest is" in line and line.endswith(": 200.0 dB") for line in lines)


@pytest.mark.parametrize(
    "words",
    [("--batches", "0"), ("--batches", "1,x"), ("--backends", "onnx,tensorrt"), ("--images", "a.png")],
)
def test_usage(made, capsys, words):
    assert run(made[0], *words) == 2
    assert words[0] in error_line(capsys.readouterr().err)


def test_the_measures_are_those_of_others():
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(0)
    wanted = [rng.uniform(-1, 1, (3, 4)).astype(np.float32), rng.normal(size=(3, 2, 5)).astype(np.float32)]
    near = [wanted[0] + np.float32(1e-3), wanted[1] + rng.normal(0, 0.01, wanted[1].shape).astype(np.float32)]
    one = row("g", near, wanted, (1.0, 10.0))
    together = np.concatenate([np.abs(n - w).ravel() for n, w in zip(near, wanted, strict=True)])
    assert (one.batch, one.values) == (3, 12 + 30)
    assert one.difference == pytest.approx(together.max()) and one.mean == pytest.approx(together.mean())
    ranges = [float(np.ptp(w)) for w in wanted]
    levels = [
        peak_signal_noise_ratio(w, n, data_range=r) for w, n, r in zip(wanted, near, ranges, strict=True)
    ]
    assert one.psnr == pytest.approx(min(levels), abs=1e-3)
    spoilt = row("g", [near[0], near[1] * np.float32("nan")], wanted, (1.0, 10.0))
    assert not spoilt.passed and spoilt.as_json()["difference"] is None
