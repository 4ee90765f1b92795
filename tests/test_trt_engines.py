"""The engine cache: a plan runs only where it was built, and one that is damaged is never given to TensorRT.

With FAKES of CUDA and TensorRT (fake_gpu.py).
"""

import dataclasses
import json

import pytest
from fake_gpu import GPU, VERSION, FakeCuda, fake_tensorrt, install
from tiny_bundle import edit_manifest, write_tiny_bundle
from trt_helpers import RESOLUTION, SIZE, build, failure, record

from wagi_rt import manifest as manifests
from wagi_rt.engines import trt_plans
from wagi_rt.engines.trt import TrtEngine
from wagi_rt.errors import UserError


@pytest.fixture(autouse=True)
def gpu(tmp_path, monkeypatch):
    """(fake CUDA, fake TensorRT) in place of the real modules, and a cache of this test's own."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WAGI_PLUGINS", raising=False)
    monkeypatch.setattr(trt_plans, "_library_places", lambda: ())
    cuda = FakeCuda()
    tensorrt = fake_tensorrt(cuda)
    install(monkeypatch, cuda, tensorrt)
    return cuda, tensorrt


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(
        tmp_path_factory.mktemp("b"), SIZE, RESOLUTION, pipeline=True, default="pipeline"
    )


def key(bundle, gpu=GPU, version=VERSION):
    return trt_plans.target(manifests.read(bundle), gpu, version).key


# Keys


def test_the_key_depends_on_all_that_a_plan_depends_on(tmp_path):
    make = {"size": SIZE, "resolution": RESOLUTION, "external": True}
    first = write_tiny_bundle(tmp_path / "1", **make)
    keys = {
        "same": key(write_tiny_bundle(tmp_path / "2", name="another name", **make)),
        "gpu": key(first, gpu="FAKE GPU 9001"),
        "version": key(first, version="11.5.0.1"),
        "precision": key(write_tiny_bundle(tmp_path / "3", precision="fp16", **make)),
        "graph": key(write_tiny_bundle(tmp_path / "4", keep=0.5, **make)),
    }
    assert keys.pop("same") == key(first), "the bundle's name changes no engine"
    assert key(first, version="11.4.0.200") == key(first), "nor does the build number of a TensorRT"
    assert len({key(first), *keys.values()}) == 5


def test_the_key_depends_on_the_external_weights(tmp_path):
    """The graph file is the same, only weights.bin differs."""
    folder = write_tiny_bundle(tmp_path, SIZE, RESOLUTION, external=True)
    before = key(folder)
    weights = folder / "weights.bin"
    weights.write_bytes(bytes(reversed(weights.read_bytes())) + b"\0")
    edit_manifest(folder, files={"weights.bin": manifests.file_sha256(weights)})
    assert key(folder) != before


def test_the_cache_is_where_the_user_says(bundle, tmp_path, monkeypatch):
    folder = build(bundle, tmp_path)
    assert folder == tmp_path / "cache" / "engines" / key(bundle)
    monkeypatch.delenv("WAGI_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert trt_plans.cache() == tmp_path / "home" / ".cache" / "wagi" / "engines"


# Foreign engines


def test_no_engine(bundle):
    line = str(failure(bundle))
    assert f"no engine 'pipeline' of this model for {GPU} and TensorRT 11.4.0" in line
    assert "build it: python export/to_engine.py BUNDLE" in line


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"gpu": "OTHER GPU"}, f"was built for another GPU (OTHER GPU), this is {GPU}"),
        ({"version": "11.3.0.9"}, "was built by another version (TensorRT 11.3.0, this is 11.4.0)"),
    ],
)
def test_engines_of_another_machine_are_named(bundle, tmp_path, other, line):
    build(bundle, tmp_path, **other)
    assert line in str(failure(bundle))


def test_an_engine_of_another_precision(tmp_path):
    """The same graphs, declared otherwise."""
    half = write_tiny_bundle(tmp_path / "half", SIZE, RESOLUTION, precision="fp16")
    build(half, tmp_path)
    full = write_tiny_bundle(tmp_path / "full", SIZE, RESOLUTION)
    assert "has another precision (fp16), the bundle is fp32" in str(failure(full))


def test_an_engine_of_another_model_is_not_mentioned(bundle, tmp_path):
    build(write_tiny_bundle(tmp_path / "other", SIZE, RESOLUTION, keep=0.1, pipeline=True), tmp_path)
    assert f"{GPU} and TensorRT 11.4.0 in {tmp_path}" in str(failure(bundle))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"gpu": "OTHER GPU"}, "another GPU"),
        ({"tensorrt": "10.9.0"}, "another version"),
        ({"precision": "fp16"}, "another precision"),
        ({"model": "0" * 64}, "belongs to another model"),
        ({"engine": "encoder"}, "its record is another engine's"),
        ({"key": "0" * 24}, "its record is another engine's"),
    ],
)
def test_a_cache_folder_that_was_copied_or_renamed(bundle, tmp_path, change, line):
    """The folder says one thing, the record in it another: the record counts."""
    path = build(bundle, tmp_path) / "pipeline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert line in str(failure(bundle))


# Damaged engines: found before TensorRT sees a byte


@pytest.fixture
def untouched(gpu, monkeypatch):
    """A TensorRT that fails the test when it is given a plan."""
    monkeypatch.setattr(gpu[1], "Runtime", lambda log: pytest.fail("TensorRT was given a damaged plan"))


@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_truncated(bundle, tmp_path, untouched, left):
    path = build(bundle, tmp_path) / "pipeline.plan"
    path.write_bytes(path.read_bytes()[:left])
    assert "is truncated (" in str(failure(bundle))


def test_changed(bundle, tmp_path, untouched):
    path = build(bundle, tmp_path) / "pipeline.plan"
    plan = bytearray(path.read_bytes())
    plan[len(plan) // 2] ^= 1
    path.write_bytes(plan)
    assert "was changed or damaged (sha256)" in str(failure(bundle))


def test_missing_plan(bundle, tmp_path, untouched):
    (build(bundle, tmp_path) / "pipeline.plan").unlink()
    assert "the engine is missing, its record is there" in str(failure(bundle))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"schema": 1}', "\xff"])
def test_damaged_record(bundle, tmp_path, untouched, text):
    (build(bundle, tmp_path) / "pipeline.json").write_text(text, encoding="latin-1")
    assert "record" in str(failure(bundle)) and "pipeline.json" in str(failure(bundle))


# psnr_db is kept for people; nothing is decided by it.
@pytest.mark.parametrize(
    "name", sorted({f.name for f in dataclasses.fields(trt_plans.Record)} - {"psnr_db"})
)
@pytest.mark.parametrize("value", [None, "x"])
def test_a_record_with_a_wrong_value(bundle, tmp_path, name, value):
    path = build(bundle, tmp_path, names=["pipeline"]) / "pipeline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    failure(bundle)


def test_a_plan_that_tensorrt_refuses(bundle, tmp_path):
    """Whole by its hash, and still not an engine: TensorRT's own first complaint is shown."""
    manifest = manifests.read(bundle)
    target = trt_plans.target(manifest, GPU, VERSION)
    trt_plans.write_plan(target, record(target, "pipeline", b"not a plan"), b"not a plan")
    assert "pipeline.plan: TensorRT refuses the engine (Serialization assertion" in str(failure(bundle))


def test_a_plan_of_another_graph(bundle, tmp_path):
    folder = build(bundle, tmp_path)
    manifest = manifests.read(bundle)
    target = trt_plans.target(manifest, GPU, VERSION)
    plan = (folder / "encoder.plan").read_bytes()
    trt_plans.write_plan(target, record(target, "pipeline", plan), plan)
    assert "its tensors are not those of the bundle's graph" in str(failure(bundle))


def test_a_plan_for_the_full_tensorrt_only(bundle, tmp_path, gpu, monkeypatch):
    build(bundle, tmp_path, version_compatible=False)
    assert "built for the full tensorrt, which is not installed" in str(failure(bundle))
    install(monkeypatch, gpu[0], gpu[1], fake_tensorrt(gpu[0], "tensorrt", "11.4.0.107"))
    assert f"runs on the full tensorrt {VERSION} only, this is 11.4.0.107" in str(failure(bundle))
    install(monkeypatch, gpu[0], gpu[1], fake_tensorrt(gpu[0], "tensorrt", VERSION))
    TrtEngine(manifests.read(bundle)).close()


def test_writing_needs_a_folder(bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written .*; free space or set WAGI_CACHE"):
        build(bundle, tmp_path)


# The plugin library


def test_a_missing_plugin_library(bundle, tmp_path, untouched):
    build(bundle, tmp_path, plugin_layers=2)
    assert "engine 'pipeline' needs the plugin library libwagi_trt.so, which is not here" in str(
        failure(bundle)
    )


def test_a_plugin_library_that_is_named_must_exist(bundle, tmp_path, monkeypatch):
    build(bundle, tmp_path, plugin_layers=2)
    monkeypatch.setenv("WAGI_PLUGINS", str(tmp_path / "nowhere.so"))
    assert "nowhere.so: no such file" in str(failure(bundle))


def test_the_plugin_library_is_loaded_once(bundle, tmp_path, monkeypatch, gpu):
    library = tmp_path / "libwagi_trt.so"
    library.touch()
    monkeypatch.setenv("WAGI_PLUGINS", str(library))
    build(bundle, tmp_path, plugin_layers=2)
    for _ in range(2):
        TrtEngine(manifests.read(bundle)).close()
    assert gpu[1].registry.libraries == [str(library)]


def test_a_library_without_our_plugins(bundle, tmp_path, monkeypatch, gpu):
    """Registered under another namespace, as REGISTER_TENSORRT_PLUGIN does."""
    library = tmp_path / "libwagi_trt.so"
    library.touch()
    monkeypatch.setenv("WAGI_PLUGINS", str(library))
    build(bundle, tmp_path, plugin_layers=2)
    gpu[1].registry.creators = {("HaarDWT", "1", ""), ("HaarIDWT", "1", "")}
    assert "finds no plugin wagi::HaarDWT in it; build it again" in str(failure(bundle))


def test_a_library_that_does_not_load(bundle, tmp_path, monkeypatch, gpu):
    (tmp_path / "libwagi_trt.so").write_text("no library")
    monkeypatch.setenv("WAGI_PLUGINS", str(tmp_path / "libwagi_trt.so"))
    build(bundle, tmp_path, plugin_layers=2)

    def refuse(path):
        raise RuntimeError(f"{path}: file too short\nat loader")

    monkeypatch.setattr(gpu[1].registry, "load_library", refuse)
    assert "does not load (" in str(failure(bundle))


def test_plugins_are_found_beside_the_package_or_in_the_build_folder(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.delenv("WAGI_PLUGINS", raising=False)
    beside, built = tmp_path / "wagi_rt" / "libwagi_trt.so", tmp_path / "build" / "libwagi_trt.so"
    monkeypatch.setattr(trt_plans, "_library_places", lambda: (beside, built))
    assert trt_plans.find_plugins() is None
    for path in (built, beside):
        path.parent.mkdir()
        path.touch()
        assert trt_plans.find_plugins() == path
