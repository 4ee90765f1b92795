"""A bundle computes what PyTorch computes, is whole or not there, and stores nothing twice."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
import torch

import export.bundle as bundle
import wagi_rt
from export.comparison import compare, compare_probes
from export.parity import reference
from export.rows import failure, table
from export.weights import survives_half
from tests.export_models import CONFIG, small_model, trace_graphs
from tests.tolerances import EXPORT_ATOL
from wagi.checkpoint import save, state_of
from wagi.model import WaGI
from wagi.networks.build import PARTS
from wagi_rt import manifest as manifests
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.errors import UserError
from wagi_rt.probes import images as seeded_images

GRAPHS = ("encoder", "prefix", "naive", "align", "decode")
FUSED = ("pipeline", "edit")
WHOLE = ("inversion", "editing", "no change", "batch 1 = 3")


@pytest.fixture(scope="module")
def model() -> WaGI:
    return small_model()


@pytest.fixture(scope="module")
def traced(model: WaGI) -> dict:
    return trace_graphs(model)


@pytest.fixture(scope="module")
def exported(model: WaGI, traced: dict, tmp_path_factory) -> tuple[Path, bundle.Export]:
    out = tmp_path_factory.mktemp("export") / "small"
    return out, bundle.export_model(model, out, "small", traced=traced)


@pytest.fixture
def checkpoint(model: WaGI, tmp_path) -> Path:
    path = tmp_path / "model.pt"
    save(path, "inversion", CONFIG, {part: state_of(getattr(model, part)) for part in PARTS})
    return path


@pytest.fixture
def quick(traced: dict, monkeypatch) -> None:
    """Tracing takes most of an export; commands in this file reuse it."""
    monkeypatch.setattr(bundle, "trace_one_by_one", lambda *_: iter(traced.items()))


def command(name: str, *words: object) -> int:
    return importlib.import_module(f"export.{name}").main([str(word) for word in words])


# ------------------------------------------------------------------------------------------- numbers


def test_parity_of_every_graph_and_the_pipeline(exported, model: WaGI) -> None:
    rows = exported[1].rows
    print("\n" + table(*exported[1]))
    assert [row.name for row in rows] == [*GRAPHS, *FUSED, *WHOLE]
    assert all(row.difference < EXPORT_ATOL for row in rows)
    assert all(row.scale > 0.1 and 80 < row.psnr <= 200 for row in rows)


def test_gates_take_part(model: WaGI) -> None:
    """With neutral gates a wrong decode graph would still equal the naive one."""
    with torch.no_grad():
        inversion = model.invert(torch.from_numpy(seeded_images(32, 3)))
    assert (inversion.image - inversion.naive).abs().max() > 0.1


def test_runtime_equals_invert_and_batches_agree(exported, model: WaGI) -> None:
    images = seeded_images(32, 9)
    with torch.no_grad():
        wanted = model.invert(torch.from_numpy(images))
    with wagi_rt.load(exported[0]) as session:
        found = session.run(images)
        for name in ("ws", "naive", "residual", "aligned", "image"):
            value = getattr(found, name)
            np.testing.assert_allclose(value, getattr(wanted, name).numpy(), atol=EXPORT_ATOL, err_msg=name)
        for i, image in enumerate(images):
            np.testing.assert_allclose(session.run(image[None]).image[0], found.image[i], atol=1e-5)


def test_inlined_graph_is_equal(exported) -> None:
    path = exported[0] / "decode.onnx"
    inlined = onnx.inliner.inline_local_functions(onnx.load(path))
    assert not inlined.functions
    providers = ["CPUExecutionProvider"]
    sessions = [
        onnxruntime.InferenceSession(m, providers=providers) for m in (str(path), inlined.SerializeToString())
    ]
    rng = np.random.default_rng(0)
    inputs = {
        tensor.name: rng.normal(size=(2, *tensor.shape[1:])).astype(np.float32)
        for tensor in sessions[0].get_inputs()
    }
    first, second = (session.run(None, inputs)[0] for session in sessions)
    np.testing.assert_allclose(second, first, atol=1e-5)


# --------------------------------------------------------------------------------------------- files


def test_checker_and_wavelet_nodes(exported) -> None:
    for name in (*GRAPHS, *FUSED):
        onnx.checker.check_model(str(exported[0] / f"{name}.onnx"), full_check=True)
        graph = onnx.load(exported[0] / f"{name}.onnx", load_external_data=False)
        nodes = [node for node in graph.graph.node if node.domain == "wagi"]
        assert len(nodes) == {"naive": 1, "decode": 1, "pipeline": 2, "edit": 2}.get(name, 0), "one per image"
        assert {node.op_type for node in nodes} == {function.name for function in graph.functions}
        for node in nodes:
            assert {a.name: a.s for a in node.attribute} == {
                "plugin_namespace": b"wagi",
                "plugin_version": b"1",
            }
        ops = {node.op_type for node in graph.graph.node}
        assert not ops & {"RandomNormalLike", "RandomNormal", "Loop", "If"}, "noise must be constant"
        assert not ops & {"Cast", "CastLike", "Identity", "Pad", "Expand", "Shape"}, "nothing superfluous"


def stored_places(folder: Path, name: str) -> set:
    graph = onnx.load(folder / f"{name}.onnx", load_external_data=False).graph
    stored = [{e.key: e.value for e in t.external_data} for t in graph.initializer if t.external_data]
    assert {place["location"] for place in stored} == {"weights.bin"}
    assert len({t.name for t in graph.initializer}) == len(graph.initializer)
    return {(place["offset"], place["length"]) for place in stored}


def test_no_tensor_is_stored_twice(exported) -> None:
    """Both generator passes, and the pipeline, point at the same places of the weights file."""
    places = {name: stored_places(exported[0], name) for name in (*GRAPHS, *FUSED)}
    assert len(places["naive"]) > 5
    assert places["naive"] <= places["decode"]
    assert places["pipeline"] == set().union(*(places[name] for name in GRAPHS))
    assert places["edit"] == set().union(*(places[name] for name in GRAPHS[1:]))


def test_pipeline_computes_shared_parts_once(exported) -> None:
    """The styles of both passes, and the layers up to the first gate."""
    products = {}
    for name in (*GRAPHS, *FUSED):
        nodes = onnx.load(exported[0] / f"{name}.onnx", load_external_data=False).graph.node
        products[name] = sum(node.op_type == "MatMul" for node in nodes)
    assert products["naive"] == products["decode"] > 0
    assert products["pipeline"] == sum(products[name] for name in GRAPHS) - products["naive"]
    assert products["edit"] == sum(products[name] for name in GRAPHS[1:]) - products["naive"]


def test_manifest_is_complete_and_private(exported, model: WaGI) -> None:
    manifest = manifests.read(exported[0])
    assert (manifest.size, manifest.resolution, manifest.n_latent) == (32, 32, model.generator.n_latent)
    assert manifest.precision == "fp32" and manifest.tolerance == 1e-3
    assert set(manifest.files) == {"weights.bin"} and manifest.default == "pipeline"
    assert set(manifest.graphs) == {*GRAPHS, *FUSED}
    for graph in manifest.graphs.values():
        assert graph.parity["max_abs"] < EXPORT_ATOL and graph.parity["psnr_db"] > graph.limit_psnr_db == 80
        assert graph.max_activation is not None and 0.1 < graph.max_activation < 1000
    home = str(Path(bundle.__file__).parent.parent)
    for path in exported[0].glob("*.*"):
        if path.suffix != ".bin":
            assert home.encode() not in path.read_bytes(), f"{path.name} names a folder of this machine"


def test_half_weights(exported, model: WaGI, traced: dict, tmp_path) -> None:
    out = tmp_path / "half"
    rows = bundle.export_model(model, out, "half", precision="fp16-weights", traced=traced).rows
    print("\n" + table(rows))
    assert manifests.read(out).precision == "fp16-weights"
    assert 1e-5 < max(row.difference for row in rows) < bundle.TOLERANCES["fp16-weights"]
    full, half = ((folder / "weights.bin").stat().st_size for folder in (exported[0], out))
    assert half < 0.6 * full
    with wagi_rt.load(out) as session:
        assert session.run(seeded_images(32, 1)).image.dtype == np.float32


def test_values_that_half_would_lose_stay_fp32() -> None:
    assert survives_half(np.linspace(-3, 3, 999, dtype=np.float32))
    assert survives_half(np.zeros(9, np.float32))
    assert not survives_half(np.full(9, 1e5, np.float32))
    assert not survives_half(np.full(9, 3e-8, np.float32))


# ------------------------------------------------------------------------------------------ commands


def test_commands_export_check_and_notice_damage(checkpoint, quick, tmp_path, capsys) -> None:
    out = tmp_path / "made"
    assert command("to_onnx", "--checkpoint", checkpoint, "-o", out, "--name", "portraits") == 0
    printed = capsys.readouterr().out
    assert all(f"{name} " in printed for name in (*GRAPHS, *FUSED)) and "FAIL" not in printed
    source = manifests.read(out).source
    assert source["config"]["size"] == 32 and len(source["checkpoint_sha256"]) == 64
    assert command("check_parity", out) == 0
    assert command("check_parity", out, "--checkpoint", checkpoint) == 0
    capsys.readouterr()

    # A bundle whose numbers are wrong although every hash fits.
    weights = np.fromfile(out / "weights.bin", np.float32)
    (weights * np.float32(1.01)).tofile(out / "weights.bin")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["files"]["weights.bin"] = manifests.file_sha256(out / "weights.bin")
    (out / "manifest.json").write_text(json.dumps(manifest))
    for words in ((), ("--checkpoint", checkpoint)):
        assert command("check_parity", out, *words) == 1
        printed = capsys.readouterr()
        assert "FAIL" in printed.out and printed.err.count("\n") == 1 and printed.err.startswith("error: ")


def test_options_of_the_export(checkpoint, quick, tmp_path, capsys) -> None:
    out = tmp_path / "made"
    words = ("to_onnx", "--checkpoint", checkpoint, "-o", out)
    assert command(*words, "--half-weights", "--calibrate", "portraits:7:2") == 0
    assert "max |act|" in capsys.readouterr().out
    manifest = manifests.read(out)
    assert manifest.precision == "fp16-weights"
    assert manifest.source["command"].endswith("--half-weights --calibrate portraits:7:2")
    with pytest.raises(SystemExit) as end:
        command(*words, "--half-weights", "--fp16")
    assert end.value.code == 2


def test_parity_past_the_tolerance_is_status_1_and_leaves_nothing(
    checkpoint, quick, tmp_path, capsys
) -> None:
    out = tmp_path / "folder" / "made"
    assert command("to_onnx", "--checkpoint", checkpoint, "-o", out, "--atol", "1e-12") == 1
    printed = capsys.readouterr()
    assert "FAIL" in printed.out
    assert printed.err.splitlines()[-1].startswith("error: ") and "differs by" in printed.err
    assert list(out.parent.iterdir()) == []


def test_existing_output(checkpoint, quick, tmp_path, capsys) -> None:
    out = tmp_path / "made"
    words = ("to_onnx", "--checkpoint", checkpoint, "-o", out)
    out.mkdir()
    (out / "holiday.jpg").write_text("mine")
    assert command(*words) == command(*words, "--overwrite") == 2
    assert [path.name for path in out.iterdir()] == ["holiday.jpg"]
    (out / "holiday.jpg").unlink()
    assert command(*words) == 0, "an empty folder is fine"

    (out / "MODEL_CARD.md").write_text("card")
    before = (out / "manifest.json").read_bytes()
    capsys.readouterr()
    assert command(*words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before
    assert command(*words, "--name", "second", "--overwrite") == 0
    assert manifests.read(out).name == "second"
    assert (out / "MODEL_CARD.md").read_text() == "card"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "model.pt"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--checkpoint", "missing.pt"], 1, "missing.pt"),
        (["--checkpoint", "text.pt"], 1, "text.pt"),
        (["--checkpoint", "stage.pt"], 1, "no aligner"),
        (["--checkpoint", "missing.pt", "--opset", "9"], 2, "--opset 9"),
        (["--checkpoint", "missing.pt", "--atol", "-1"], 2, "--atol -1"),
    ],
)
def test_bad_input_is_one_line(model, tmp_path, monkeypatch, capsys, words, status, says) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("not a checkpoint")
    save("stage.pt", "encoder", CONFIG, {part: state_of(getattr(model, part)) for part in PARTS[:2]})
    assert command("to_onnx", *words, "-o", "out") == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error
    assert not Path("out").exists()


def test_bundle_without_reference_values(exported, tmp_path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in exported[0].iterdir():
        os.link(path, copy / path.name)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["source"]["probes"]
    (copy / "manifest.json").unlink()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with OrtEngine(manifests.read(copy)) as engine:
        with pytest.raises(UserError, match="--checkpoint"):
            compare_probes(engine)
        assert failure(compare(engine, reference(small_model(), seeded_images(32, 2)))) == ""


@pytest.mark.parametrize("name", ["to_onnx", "check_parity"])
def test_scripts_run_from_anywhere(root: Path, tmp_path, name: str) -> None:
    script = root / "export" / f"{name}.py"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage" in done.stdout
    words = {"to_onnx": ["--checkpoint", "no.pt", "-o", "out"], "check_parity": ["no"]}[name]
    done = subprocess.run(
        [sys.executable, script, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
