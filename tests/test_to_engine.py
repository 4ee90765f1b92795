"""export/to_engine.py around FAKES of CUDA and TensorRT (fake_gpu.py, fake_builder.py).

What it builds runs in the runtime, and an engine that computes something else is refused. That real engines
pass is shown on a GPU only.
"""

import json

import numpy as np
import onnx
import pytest
from fake_builder import fake_full_tensorrt
from fake_gpu import GPU, VERSION, FakeCuda, fake_tensorrt, install
from tiny_bundle import edit_manifest, error_line, write_tiny_bundle
from tolerances import TOL
from trt_helpers import RESOLUTION, SIZE, invert, pictures

import wagi_rt
from export.engine_build import Options, build
from export.rows import psnr_db
from export.to_engine import main
from wagi_rt import manifest as manifests
from wagi_rt.chain import inversion
from wagi_rt.engines import trt_plans
from wagi_rt.engines.trt import TrtEngine
from wagi_rt.engines.trt_program import logger


@pytest.fixture(autouse=True)
def gpu(tmp_path, monkeypatch):
    """(fake CUDA, fake builder, fake lean runtime), a plugin library that is a file, a cache of our own."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "libwagi_trt.so").touch()
    monkeypatch.setenv("WAGI_PLUGINS", str(tmp_path / "libwagi_trt.so"))
    monkeypatch.setattr(trt_plans, "_library_places", lambda: ())
    cuda = FakeCuda()
    full, lean = fake_full_tensorrt(cuda), fake_tensorrt(cuda)
    install(monkeypatch, cuda, full, lean)
    return cuda, full, lean


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(
        tmp_path_factory.mktemp("b"), SIZE, RESOLUTION, pipeline=True, default="pipeline"
    )


def run(bundle, *options) -> int:
    return main([str(bundle), *map(str, options)])


def refused(capsys, bundle, *options, status=1) -> str:
    """The one line with which a build ends; nothing of the engine is in the cache."""
    assert run(bundle, *options) == status
    assert not list(trt_plans.cache().glob("*/pipeline.*"))
    return error_line(capsys.readouterr().err)


# What it builds


@pytest.mark.parametrize(("which", "default"), [("all", "pipeline"), ("default", "graphs")])
def test_what_it_builds_the_runtime_runs(tmp_path, capsys, which, default):
    folder = write_tiny_bundle(
        tmp_path / "b", SIZE, RESOLUTION, pipeline=True, default=default, external=True
    )
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(folder, "--engines", which, "--max-batch", 3) == 0
    captured = capsys.readouterr()
    built = [line.split()[0] for line in captured.out.splitlines()[1:-2]]
    assert built == ["pipeline"] * (which == "all") + [step.name for step in inversion("ada").steps]
    assert f"building {built[-1]} ({len(built)} of {len(built)})" in captured.err
    images = pictures(3)
    with wagi_rt.load(folder, threads=1) as session, TrtEngine(session.manifest) as backend:
        wanted = session.engine.run("pipeline", {"image": images})
        for name, value in invert(backend, images).items():
            np.testing.assert_allclose(value, wanted[name], **TOL[np.float32])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "never into the bundle"


def test_the_record_says_what_was_built(bundle, gpu):
    assert run(bundle, "--min-batch", 1, "--opt-batch", 2, "--max-batch", 8) == 0
    (path,) = trt_plans.cache().glob("*/*.json")
    record = json.loads(path.read_text())
    assert record["gpu"] == GPU and record["precision"] == "fp32" and record["tensorrt"] == "11.4.0"
    assert record["versions"] == {"tensorrt": VERSION, "driver_cuda": "13.0"}
    assert record["batch"] == {"min": 1, "opt": 2, "max": 8}
    assert set(record["psnr_db"]) == {"ws", "naive_r", "result"}
    assert min(record["psnr_db"].values()) >= 55


def test_an_engine_in_the_cache_is_kept(bundle, gpu, capsys):
    _, full, _ = gpu
    run(bundle)
    run(bundle)
    assert len(full.configs) == 1 and "in the cache already" in capsys.readouterr().err
    run(bundle, "--max-batch", 2)
    run(bundle, "--max-batch", 2, "--overwrite")
    assert len(full.configs) == 3


def test_a_damaged_engine_is_built_again(bundle, gpu):
    run(bundle)
    (plan,) = trt_plans.cache().glob("*/*.plan")
    whole = plan.read_bytes()
    plan.write_bytes(whole[:100])
    assert run(bundle) == 0 and plan.read_bytes() == whole


@pytest.mark.parametrize(
    ("options", "precision", "flags"),
    [
        ([], "fp32", {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}),
        (["--exact-version"], "fp32", set()),
        ([], "fp16", {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "TF32"}),
    ],
)
def test_builder_flags(tmp_path, gpu, options, precision, flags):
    """TF32 has the mantissa of half, so only an FP32 bundle loses by it."""
    folder = write_tiny_bundle(tmp_path / "b", SIZE, RESOLUTION, precision, pipeline=True, default="pipeline")
    assert run(folder, "--level", 5, *options) == 0
    (config,) = gpu[1].configs
    assert config.flags == flags and config.builder_optimization_level == 5
    assert config.profiling_verbosity == "detailed"
    TrtEngine(manifests.read(folder)).close()


def test_the_timing_cache_grows(bundle, gpu):
    run(bundle)
    run(bundle, "--overwrite")
    (timings,) = trt_plans.cache().glob("*.timing")
    assert timings.read_bytes() == b"timed;timed;" and gpu[1].configs[1].timings == b"timed;"


@pytest.mark.parametrize("plugins", [True, False])
def test_plugin_layers_are_counted(gpu, tmp_path, plugins):
    """The embedded model's naive graph: one layer per wavelet node, none without the library."""
    manifest = manifests.read()
    path = manifest.folder / "naive.onnx"
    nodes = sum(node.domain == "wagi" for node in onnx.load(path, load_external_data=False).graph.node)
    _, full, _ = gpu
    full.registry.libraries = ["library"] * plugins
    built = build(full, logger(full), path, manifest.graphs["naive"].inputs, Options(), tmp_path / "t", print)
    assert nodes > 0 and built.plugin_layers == nodes * plugins


# What it refuses


def test_nan_is_refused(bundle, gpu, capsys):
    gpu[2].spoil = lambda array: array * np.float32("nan")
    line = refused(capsys, bundle)
    assert "engine 'pipeline', output 'ws', batch 1, a plain launch: values that are not finite" in line


def test_one_infinite_value_is_refused(bundle, gpu, capsys):
    def spoil(array):
        if array.ndim == 4:
            array[-1, -1, -1, -1] = np.inf
        return array

    gpu[2].spoil = spoil
    assert "output 'naive_r', batch 1, a plain launch: values that are not finite" in refused(capsys, bundle)


@pytest.mark.parametrize(("decibel", "passes"), [(50, False), (60, True)])
def test_the_limit_of_the_manifest_decides(bundle, gpu, capsys, decibel, passes):
    """Noise of a known PSNR around the tiny bundle's limit of 55 dB."""
    rng = np.random.default_rng(0)

    def spoil(array):
        peak = float(np.ptp(array))
        return array + rng.normal(0, peak * 10 ** (-decibel / 20), array.shape).astype(np.float32)

    gpu[2].spoil = spoil
    if passes:
        assert run(bundle) == 0
    else:
        assert "dB against ONNX Runtime, the limit is 55; refused" in refused(capsys, bundle)


def test_images_mixed_up_in_a_batch_are_refused(bundle, gpu, capsys):
    gpu[2].spoil = lambda array: array[::-1]
    assert "output 'ws', batch 3, a plain launch: PSNR" in refused(capsys, bundle)


def test_a_wrong_cuda_graph_is_refused(bundle, gpu, capsys, monkeypatch):
    """The plain launch is right, the replay writes nothing: stale results must not pass."""
    monkeypatch.setattr(gpu[0], "cudaGraphLaunch", lambda graph, stream: (0,))
    line = refused(capsys, bundle)
    assert "a CUDA graph" in line


def test_what_passed_before_a_failure_is_kept(tmp_path, gpu, capsys):
    folder = write_tiny_bundle(tmp_path / "b", SIZE, RESOLUTION, pipeline=True)
    edit = json.loads((folder / "manifest.json").read_text())["graphs"]
    edit["prefix"]["limit_psnr_db"] = 500.0
    edit_manifest(folder, graphs=edit)
    assert run(folder) == 1
    assert "engine 'prefix'" in error_line(capsys.readouterr().err)
    assert {path.stem for path in trt_plans.cache().glob("*/*.plan")} == {"shrink", "encoder"}


def test_psnr():
    """Against scikit-image; NaN stays NaN."""
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(0)
    wanted = rng.uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32)
    found = wanted + rng.normal(0, 0.01, wanted.shape).astype(np.float32)
    expected = peak_signal_noise_ratio(wanted, found, data_range=float(np.ptp(wanted)))
    assert psnr_db(found, wanted) == pytest.approx(expected, abs=1e-3)
    assert np.isnan(psnr_db(found * np.float32("nan"), wanted)) and psnr_db(wanted, wanted) == 200


# What is missing


def test_no_driver(bundle, gpu, capsys):
    gpu[0].status, gpu[0].driver = 35, 0
    assert "no NVIDIA driver on this machine" in refused(capsys, bundle)


def test_no_full_tensorrt(bundle, gpu, capsys, monkeypatch):
    install(monkeypatch, gpu[0], gpu[2])
    line = refused(capsys, bundle, status=2)
    assert "building engines needs the full tensorrt package, which is not installed" in line


def test_the_stub_without_its_libraries(bundle, gpu, capsys, monkeypatch):
    """NVIDIA's package on PyPI imports and has nothing in it when its libraries were not fetched."""
    install(monkeypatch, gpu[0], fake_tensorrt(gpu[0], "tensorrt"), gpu[2])
    assert "cannot build these engines" in refused(capsys, bundle)


@pytest.mark.parametrize(("version", "line"), [("10.9.0", "11 or newer can"), ("11.3.0.1", "same version")])
def test_another_version(bundle, gpu, capsys, monkeypatch, version, line):
    install(monkeypatch, gpu[0], fake_full_tensorrt(gpu[0], version), gpu[2])
    assert run(bundle) != 0
    assert line in error_line(capsys.readouterr().err)


def test_no_plugin_library(bundle, gpu, capsys, monkeypatch):
    monkeypatch.delenv("WAGI_PLUGINS")
    assert "libwagi_trt.so is not here: build it with CMake" in refused(capsys, bundle)
    assert run(bundle, "--no-plugins") == 0 and not gpu[1].registry.libraries


def test_both_modules_get_the_plugins(bundle, gpu):
    """The builder and the runtime have registries of their own."""
    run(bundle)
    assert len(gpu[1].registry.libraries) == len(gpu[2].registry.libraries) == 1


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("unparsable", "TensorRT cannot parse it (In node 7 (importFake): UNSUPPORTED_NODE: fake)"),
        ("unbuildable", "TensorRT cannot build it (Could not find any implementation for node fake.)"),
    ],
)
def test_tensorrt_says_no(bundle, gpu, capsys, fault, line):
    setattr(gpu[1], fault, True)
    assert line in refused(capsys, bundle)


def test_out_of_gpu_memory(bundle, gpu, capsys):
    gpu[0].memory = 1000
    assert "not enough GPU memory" in refused(capsys, bundle)
    assert not gpu[0].blocks


def test_an_interrupted_build(bundle, gpu, capsys, monkeypatch):
    """Ctrl-C arrives inside TensorRT's progress callback, where an exception would end the process."""

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("export.engine_build._SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr("export.engine_build.progress_line", interrupt)
    assert "interrupted" in refused(capsys, bundle)


@pytest.mark.parametrize(
    "options", ["--max-batch 0", "--min-batch 3 --max-batch 2", "--opt-batch 9", "--level 6", "--device cpu"]
)
def test_usage(bundle, capsys, options):
    assert options.split()[0] in refused(capsys, bundle, *options.split(), status=2)


def test_the_pipeline_must_be_in_the_bundle(tmp_path, capsys):
    folder = write_tiny_bundle(tmp_path / "b", SIZE, RESOLUTION)
    assert "--engines pipeline" in refused(capsys, folder, "--engines", "pipeline", status=2)
