"""The engine that runs is the one that was named; `auto` takes the fastest that works, and says so."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import error_line, run_cli, write_tiny_bundle

import wagi_rt
from wagi_rt import backends, tuning
from wagi_rt.engines import host
from wagi_rt.engines.base import Engine
from wagi_rt.errors import UserError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "teal").save(path)
    return path


def fake_engines(monkeypatch, **working: bool | str) -> list[tuple]:
    """FAKE engines: name -> works, or why it cannot open this bundle. Returns what was opened, in order."""
    opened: list[tuple] = []

    def engine_class(name):
        state = working.get(name, False)

        class Fake(Engine):
            version = "fake"
            default_device = backends.BACKENDS[name].devices[0]

            def __init__(self, manifest, choice, chain):
                super().__init__(manifest, choice)
                opened.append((name, choice))
                if isinstance(state, str):
                    raise UserError(state)

            @staticmethod
            def available():
                return bool(state), f"{name} is not installed"

            @staticmethod
            def devices():
                return ["fake"]

            def _run_chain(self, chain, inputs):
                raise NotImplementedError

            def _close(self):
                pass

        return Fake

    monkeypatch.setattr(backends, "engine_class", engine_class)
    return opened


@pytest.mark.parametrize(
    ("working", "device", "wanted", "runs_on"),
    [
        (("trt", "onnx", "openvino"), None, "trt", "cuda:0"),
        (("onnx", "openvino"), None, "onnx", "cuda:0"),
        (("openvino",), None, "openvino", "cpu"),
        (("trt", "onnx", "openvino"), "cpu", "openvino", "cpu"),
        (("onnx",), "cpu", "onnx", "cpu"),
        (("trt", "onnx"), "cuda:1", "trt", "cuda:1"),
    ],
)
def test_auto_follows_the_order_of_speed_on_the_devices_allowed(
    bundle, monkeypatch, working, device, wanted, runs_on
):
    opened = fake_engines(monkeypatch, **dict.fromkeys(working, True))
    with wagi_rt.load(bundle, backend="auto", device=device) as session:
        assert session.backend_name == wanted and session.engine.device == runs_on
    assert [name for name, *_ in opened] == [wanted]


def test_auto_passes_over_what_cannot_open_this_bundle_and_says_why(bundle, photo, monkeypatch, capsys):
    fake_engines(monkeypatch, trt="engine 'pipeline' is missing; build it")
    with pytest.raises(UserError, match="nothing here can run it") as caught:
        wagi_rt.load(bundle, backend="auto")
    for reason in ("trt on cuda: engine 'pipeline' is missing", "openvino on cpu: openvino is not installed"):
        assert reason in str(caught.value)
    monkeypatch.undo()
    monkeypatch.setattr(tuning, "afterwards", lambda manifest, choice: "")
    assert run_cli("invert", photo, "-m", bundle, "-o", photo.parent / "o.png", "--backend", "auto") == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("--backend auto: not trt on cuda: ") for line in lines)
    chosen = next(line for line in lines if line.startswith("tiny (64 px) with "))
    assert "OpenVINO" in chosen or "ONNX Runtime" in chosen


@pytest.mark.parametrize("name", ["onnx", "openvino", "trt"])
def test_a_named_backend_never_falls_back(bundle, monkeypatch, name):
    """The others would work; the one that was named does not, and nothing else is tried."""
    working = dict.fromkeys(("onnx", "openvino", "trt"), True) | {name: "broken"}
    opened = fake_engines(monkeypatch, **working)
    with pytest.raises(UserError, match="broken"):
        wagi_rt.load(bundle, backend=name)
    assert [found for found, *_ in opened] == [name]


def test_precision_goes_only_to_the_backend_that_has_one(bundle, monkeypatch):
    opened = fake_engines(monkeypatch, onnx=True, openvino=True, trt=True)
    wagi_rt.load(bundle, backend="openvino", precision="fp32").close()
    wagi_rt.load(bundle, backend="auto", precision="fp32").close()
    assert [(name, choice.precision) for name, choice in opened] == [("openvino", "fp32")] * 2
    with pytest.raises(UserError, match="use --backend openvino") as caught:
        wagi_rt.load(bundle, backend="trt", precision="bf16")
    assert caught.value.status == 2


def test_cuda_without_a_cuda_provider_is_one_line(bundle, photo, capsys):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    arguments = ("-m", bundle, "-o", photo.parent / "o.png", "--device", "cuda")
    assert run_cli("invert", photo, *arguments) == 2
    line = error_line(capsys.readouterr().err)
    assert "--device cuda:0: this ONNX Runtime has no CUDA" in line and "pip install 'wagi[gpu]'" in line
    assert not (photo.parent / "o.png").exists()


def test_tensorrt_without_a_gpu_is_one_line(bundle, photo, capsys):
    if backends.engine_class("trt").available()[0]:
        pytest.skip("TensorRT and a GPU are here")
    assert run_cli("invert", photo, "-m", bundle, "-o", photo.parent / "o.png", "--backend", "trt") in (1, 2)
    error_line(capsys.readouterr().err)
    assert not (photo.parent / "o.png").exists()


@pytest.mark.parametrize("backend", ["onnx", "openvino", "trt"])
def test_fp16_means_half_arithmetic(backend):
    """Half storage computes in FP32, whatever runs it."""
    from wagi_rt.commands.invert import require_precision

    def session(precision):
        manifest = SimpleNamespace(precision=precision, folder="b")
        return SimpleNamespace(backend_name=backend, manifest=manifest)

    require_precision(session("fp16"), True)
    require_precision(session("fp16-weights"), False)
    for precision, words in (
        ("fp16-weights", r"fp16-weights \(half weights, FP32 arithmetic\)"),
        ("fp32", "fp32;"),
    ):
        with pytest.raises(UserError, match=f"--fp16: b is {words}"):
            require_precision(session(precision), True)


def test_info_lists_every_backend_and_why_one_is_missing(bundle, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert run_cli("info", "-m", bundle, "--json") == 0
    engines = json.loads(capsys.readouterr().out)["engines"]
    assert list(engines) == ["onnx", "openvino", "trt"]
    assert engines["onnx"]["available"] and "cpu" in engines["onnx"]["devices"]
    assert not engines["openvino"]["available"] and "wagi[openvino]" in engines["openvino"]["detail"]
    assert run_cli("info", "-m", bundle) == 0
    text = capsys.readouterr().out
    assert "backend    onnx      ONNX Runtime" in text
    assert "backend    openvino  not available: OpenVINO is not installed" in text


# Threads


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "6400000 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_threads_stay_within_the_containers_quota(tmp_path, monkeypatch, files, wanted):
    """Documents of Linux: cpu.max of cgroup v2, cpu.cfs_quota_us of v1; here on a machine of 16 CPUs."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(host.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert host.limit(tmp_path) == wanted
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: {0, 5}, raising=False)
    assert host.limit(tmp_path) == min(2, wanted or 2)


# Arithmetic on the device


def test_the_separate_graphs_keep_their_tensors_on_the_device(bundle, monkeypatch):
    """FAKE CUDA: an ONNX Runtime whose bindings record where every tensor is bound.

    Only what the host computes with (images, residual) crosses; latents, features, skip and aligned residual
    go from graph to graph.
    """
    import onnxruntime

    CUDA = "CUDAExecutionProvider"
    traffic: list[tuple] = []

    class OnDevice:
        def __init__(self, shape):
            self.shape = shape

        def numpy(self):
            traffic.append(("fetch", self.shape))
            return np.zeros(self.shape, np.float32)

    class Binding:
        def __init__(self, outputs):
            self.outputs, self.places = outputs, {}

        def bind_cpu_input(self, name, value):
            assert value.flags.c_contiguous and value.dtype == np.float32
            traffic.append(("upload", name))

        def bind_ortvalue_input(self, name, value):
            assert isinstance(value, OnDevice)
            traffic.append(("resident", name))

        def bind_output(self, name, device, index):
            self.places[name] = (device, index)

        def get_outputs(self):
            traffic.extend(("output", name, *place) for name, place in self.places.items())
            return [OnDevice([1, *self.outputs[name]]) for name in self.places]

    class FakeSession:
        def __init__(self, path, options, providers, disabled_optimizers):
            assert providers == [(CUDA, {"device_id": "1"})]
            self.real = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            self.get_inputs, self.get_outputs = self.real.get_inputs, self.real.get_outputs

        def get_providers(self):
            return [CUDA]

        def io_binding(self):
            return Binding({out.name: out.shape[1:] for out in self.get_outputs()})

        def run_with_iobinding(self, binding):
            pass

    fake = SimpleNamespace(
        __version__="fake",
        SessionOptions=onnxruntime.SessionOptions,
        RunOptions=onnxruntime.RunOptions,
        InferenceSession=FakeSession,
        get_available_providers=lambda: [CUDA],
        set_default_logger_severity=lambda level: None,
        preload_dlls=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    with wagi_rt.load(bundle, device="cuda:1") as session:
        session.run(np.zeros((1, 3, 64, 64), np.float32))
    assert {name for kind, name, *_ in traffic if kind == "upload"} == {"image_r", "residual", "naive_r"}
    resident = [name for kind, name, *_ in traffic if kind == "resident"]
    assert sorted(resident) == sorted(["ws"] * 3 + ["feature", "skip"] * 2 + ["aligned"])
    places = {entry[1]: entry[2:] for entry in traffic if entry[0] == "output"}
    kept = dict.fromkeys(("ws", "feature", "skip", "aligned"), ("cuda", 1))
    assert places == {**kept, "image": ("cpu", 0)}


def test_binding_gives_what_a_plain_run_gives(bundle):
    """The same binding code for real, on the CPU."""
    x = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    with wagi_rt.load(bundle, threads=1) as session:
        bound = session.run(x)
        run = session.engine._run
        session.engine._run = lambda graph, inputs, keep: run(graph, inputs, frozenset())
        plain = session.run(x)
    for name, value in bound._asdict().items():
        np.testing.assert_array_equal(value, getattr(plain, name))
