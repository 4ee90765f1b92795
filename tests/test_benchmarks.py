"""The benchmarks measure what they say: the baseline is the same model, counts and tables are right."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from checkout import ROOT
from onnx import TensorProto, helper, numpy_helper, save
from tiny_bundle import error_line, write_tiny_bundle
from tolerances import NETWORK, TOL
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import wagi_rt
from benchmarks import floor, haar, latency, models, reference, report, serving
from benchmarks.candidates import SERIES, Key, Opener, Skip
from benchmarks.timing import interleave
from wagi.checkpoint import save as save_checkpoint
from wagi.checkpoint import state_of
from wagi.networks.build import PARTS
from wagi_rt import probes

SIZE = 32
RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"


@pytest.fixture(scope="module")
def model():
    return models.random_model(models.config(SIZE))


@pytest.fixture(scope="module")
def images():
    return probes.images(SIZE, 3, 2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A whole run of latency.py on a tiny bundle: (JSON, stdout)."""
    folder = tmp_path_factory.mktemp("latency")
    bundle = write_tiny_bundle(folder / "tiny", pipeline=True, default="pipeline")
    out = folder / "report.json"
    printed = io.StringIO()
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(printed):
        status = latency.main(
            ["--bundle", str(bundle), "--backends", "onnx,onnx-graphs,eager", "--batch", "1,2",
             "--rounds", "2", "--threads", "1", "--out", str(out)]
        )  # fmt: skip
    torch.set_num_threads(threads)
    assert status == 0
    return json.loads(out.read_text()), printed.getvalue()


def test_the_reference_is_the_model(model, images):
    """Every intermediate of the public formulation equals the model's, with gates and noise that matter."""
    x = torch.from_numpy(images)
    with torch.no_grad():
        wanted = model.invert(x)
    found = reference.invert(model, x)
    for name, value, expected in zip(wanted._fields, found, wanted, strict=True):
        torch.testing.assert_close(value, expected, **NETWORK, msg=lambda text, name=name: f"{name}: {text}")
    assert (wanted.image - wanted.naive).std() > 0.01, "the gates do nothing, nothing was compared"


def test_upfirdn_is_a_convolution_of_the_spread_image():
    """Against scipy, odd sizes, an asymmetric kernel."""
    from scipy.signal import upfirdn

    rng = np.random.default_rng(0)
    x, taps = rng.standard_normal((2, 3, 7, 5)), rng.standard_normal(4)
    wanted = upfirdn(taps, upfirdn(taps, x, up=2, axis=2), up=2, axis=3)
    kernel = torch.from_numpy(np.outer(taps, taps))
    found = reference.upfirdn(torch.from_numpy(x), kernel, up=2, pad=(3, 2))
    # The library leaves out the zeros behind the last sample.
    torch.testing.assert_close(found, torch.from_numpy(wanted), **TOL[torch.float64])


@pytest.mark.parametrize("precision", SERIES)
def test_the_machine_has_rates_for_every_precision(monkeypatch, precision):
    """The embedded model stores half weights and computes in FP32: its floor needs that rate."""
    monkeypatch.setitem(floor._SIDES, "cpu", (8, 16))
    monkeypatch.setattr(floor, "_CHANNELS", 4)
    for work, amount in floor.rate_works(precision).values():
        work()
        assert amount > 0


def test_random_weights_are_scaled_like_trained_ones(model, images):
    with torch.no_grad():
        inversion = model.invert(torch.from_numpy(images))
    assert 0.5 < inversion.ws.std() < 2 and 0.2 < inversion.naive.std() < 1
    assert all(torch.isfinite(part).all() for part in inversion)


def test_torch_candidates_compute_the_inversion(model, images, tmp_path):
    checkpoint = tmp_path / "model.pt"
    weights = {part: state_of(getattr(model, part)) for part in PARTS}
    save_checkpoint(checkpoint, "inversion", models.config(SIZE), weights)
    opener = Opener(checkpoint, {}, 1, "cpu")
    with torch.no_grad():
        wanted = model.invert(torch.from_numpy(images)).image.numpy()
    for backend in ("reference", "eager"):
        found = opener.open(Key(backend, "fp32", 2))(images)
        np.testing.assert_allclose(found, wanted, **NETWORK)
    with pytest.raises(Skip, match="GPU"):
        opener.open(Key("graph", "fp32", 1))


def test_what_follows_an_inversion_is_what_the_session_does(tmp_path):
    """A frame at its own latents is the inversion; an edit is another picture; PyTorch has neither."""
    bundle = write_tiny_bundle(tmp_path / "tiny")
    opener, key = Opener(None, {"fp32": bundle}, 1, "cpu"), Key("onnx", "fp32", 1)
    with wagi_rt.load(bundle) as session:
        images = probes.images(session.size, 3, 1)
        wanted = session.restore(images).image
    np.testing.assert_allclose(opener.after(key, "frame", images)(), wanted, **NETWORK)
    assert np.abs(opener.after(key, "edit", images)() - wanted).max() > 0.01
    with pytest.raises(Skip, match="runtime's backends only"):
        opener.after(key._replace(backend="eager"), "edit", images)


def test_layers_are_counted_like_torch_counts(tmp_path):
    """Multiplications of all four kinds of layers against torch's own counter."""
    def tensor(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    rng = np.random.default_rng(0)
    shapes = {"conv": (8, 2, 3, 3), "up": (8, 6, 4, 4), "product": (8, 5), "linear": (7, 4 * 8 * 8)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2], group=2),
        helper.make_node("ConvTranspose", ["a", "up"], ["b"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("MatMul", ["b", "product"], ["c"]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "linear"], ["d"], transB=1),
    ]
    outputs = [tensor("c", ["N", 6, 8, 5]), tensor("d", ["N", 7])]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "layers", [tensor("x", ["N", 4, 8, 8])], outputs, stored)
    path = tmp_path / "layers.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    torch_weights = {k: torch.from_numpy(v) for k, v in weights.items()}
    x = torch.zeros(3, 4, 8, 8)
    with FlopCounterMode(display=False) as counter:
        a = F.conv2d(x, torch_weights["conv"], padding=1, stride=2, groups=2)
        b = F.conv_transpose2d(a, torch_weights["up"], stride=2, padding=1)
        b @ torch_weights["product"]
        F.linear(x.flatten(1), torch_weights["linear"])
    found = floor.layers(path, 3)
    assert 2 * sum(layer.macs for layer in found) == counter.get_total_flops()
    assert sum(layer.weights for layer in found) == sum(v.size for v in weights.values())
    assert found[0].activations == x.numel() + a.numel()


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    layers = [floor.Layer(10**9, 0, 10), floor.Layer(1, 10**6, 10**6)]
    assert floor.floor_ms(layers, floor.Rates(100, 10)) == pytest.approx(20 + 0.8)
    assert floor.floor_ms(layers, floor.Rates(100, 10), "fp16") == pytest.approx(20 + 0.4)


def test_candidates_take_turns():
    calls: list[str] = []
    samples = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1)
    assert "".join(calls) == "abbaab" and all(len(times.wall) == 2 for times in samples.values())


def test_a_run_reports_everything(measured):
    found, printed = measured
    assert {"schema", "command", "machine", "threads", "versions", "timestamp", "cold_start"} <= set(found)
    assert {"invert_ratio", "help_ratio"} <= set(found["cold_start"])
    (entry,) = found["models"]
    assert list(entry["floor"]["fp32"]) == ["1", "2"] and "pipeline" in entry["floor"]["fp32"]["1"]
    assert set(entry["stage_ms"]) == {"decode", "pre", "post", "encode"}
    names = [(run["backend"], run["batch"]) for run in entry["runs"]]
    assert names == [("onnx", 1), ("onnx", 2), ("onnx-graphs", 1), ("onnx-graphs", 2)]
    for run in entry["runs"]:
        assert set(run["latency_ms"]) == {"mean", "std", "min", "p50", "p90", "p95", "p99", "max"}
        assert run["psnr_db"] > 100 and run["throughput_ips"] > 0
        assert run["ratio"] is None, "there was no reference to compare with"
    assert 20 < entry["runs"][0]["peak_rss_mb"] < 2000 and entry["runs"][0]["cold_start_ms"] > 0
    assert entry["runs"][0]["first_use_ms"] > 0 and entry["runs"][0]["first_use_rss_mb"] > 20
    tasks = [(run["backend"], run["batch"], run["task"]) for run in entry["after"]]
    assert tasks == [(*name, task) for name in names if name[1] == 1 for task in ("edit", "frame")]
    assert all(0 < run["of_inversion"] and run["ms_per_image"] > 0 for run in entry["after"])
    assert entry["after"][0]["cold_start_ms"] > 0 and "edit after inversion" in printed
    assert set(entry["runs"][2]["graph_ms"]) == {"encoder", "prefix", "naive", "align", "decode"}
    assert "checkpoint" in entry["skipped"]["eager fp32 batch 1"]
    assert report.latency_table(found) in printed


def test_ratios_are_per_image():
    runs = [
        {"backend": "reference", "batch": 1, "ms_per_image": 8.0, "cpu_ms": 16.0},
        {"backend": "onnx", "batch": 4, "ms_per_image": 2.0, "cpu_ms": 16.0},
    ]
    from benchmarks.measure import _compare

    _compare(runs)
    assert [run["ratio"] for run in runs] == [1.0, 0.25] and runs[1]["cpu_ratio"] == 0.25


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_gpu_without_a_gpu_is_one_line(capsys):
    assert latency.main(["--gpu", "--size", "32"]) == 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "skipped" in said.err and not said.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--size", "100"], "--size 100"),
        (["--backends", "tvm"], "--backends tvm"),
        (["--batch", "0"], "--batch 0"),
        (["--rounds", "0"], "--rounds"),
        (["--bundle", "x", "--size", "32"], "--bundle"),
        (["--set", "aligner=flow"], "--set"),
        (["--size", "64", "--set", "full_detail=true"], "full_detail=True: needs aligner=flow"),
    ],
)
def test_wrong_usage_is_one_line(arguments, named, capsys):
    assert latency.main(arguments) == 2
    assert named in error_line(capsys.readouterr().err)


def test_the_haar_benchmark(tmp_path, capsys):
    out = tmp_path / "haar.json"
    assert haar.main(["--size", "64", "--rounds", "2", "--threads", "1", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["latency_ms"]
    assert len(rows) == 8 and all(row["p50"] > 0 for row in rows.values())
    assert "times a copy" in capsys.readouterr().out
    works = haar.works(18, 2, 1)
    for name in ("DWT", "IDWT"):
        wanted = works[f"{name}, numpy"]()
        for other in ("torch", "ONNX Runtime"):
            np.testing.assert_allclose(np.asarray(works[f"{name}, {other}"]()), wanted, **TOL[np.float32])


def test_the_plot_and_the_page(measured, tmp_path):
    """report.py draws a PNG and replaces what stood between the markers, and nothing else."""
    results, page, picture = tmp_path / "r.json", tmp_path / "PAGE.md", tmp_path / "plot.png"
    results.write_text(json.dumps(measured[0]))
    page.write_text("before\n<!-- latency -->\nold\n<!-- /latency -->\nafter\n")
    assert report.main([str(results), "--plot", str(picture), "--readme", str(page)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert report.marked(text) == report.latency_table(measured[0])
    page.write_text("no markers")
    assert report.main([str(results), "--readme", str(page)]) == 1


def test_the_readme_shows_the_committed_measurement():
    shown = report.marked((ROOT / "README.md").read_text())
    if shown is None or not RESULTS.is_file():
        pytest.skip("README.md has no latency table, or benchmarks/results/cpu.json is not there")
    assert shown == report.latency_table(json.loads(RESULTS.read_text())), (
        "run: python benchmarks/report.py benchmarks/results/cpu.json --readme README.md"
    )


def test_the_page_of_scale_shows_the_committed_load():
    results = ROOT / "benchmarks" / "results" / "serving.json"
    shown = report.marked((ROOT / "docs" / "scale.md").read_text(), "serving")
    if shown is None or not results.is_file():
        pytest.skip("docs/scale.md has no such table, or benchmarks/results/serving.json is not there")
    assert shown == serving.text(json.loads(results.read_text())), "run benchmarks/serving.py --out --page"


DETAILED = ["--size", "64", *(f"--set={text}" for text in (
    "aligner=flow", "residual_resolution=32", "encoder_input=32", "full_detail=true"))]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", [["--size", "32"], DETAILED], ids=["published", "full detail"])
def test_a_random_model_from_weights_to_table(model, tmp_path):
    """Checkpoint, export and all backends of a tiny random model; a second run uses them again."""
    arguments = [*model, "--backends", "reference,eager,onnx,onnx-graphs", "--rounds", "1",
                 "--threads", "1", "--without", "memory,cold-start", "--work",
                 str(tmp_path / "w")]  # fmt: skip
    out = tmp_path / "out.json"
    assert latency.main([*arguments, "--out", str(out)]) == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*")}
    (entry,) = json.loads(out.read_text())["models"]
    assert len(entry["runs"]) == 4 and all(run["psnr_db"] > 80 for run in entry["runs"])
    assert entry["runs"][0]["ratio"] == 1.0
    assert latency.main([*arguments, "--out", str(out)]) == 0
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*")}
