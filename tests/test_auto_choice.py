"""`auto` opens what was measured to be the fastest on this machine; the times are kept in the cache.

Engines and times are FAKES, so that nothing here depends on how fast anything runs.
"""

import json
import sys
import threading

import pytest
from tiny_bundle import edit_manifest, write_tiny_bundle

import wagi_rt
from wagi_rt import backends, files, manifest, measured
from wagi_rt.engines.base import Engine, EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.measured import Row
from wagi_rt.session import Session

ROWS = [
    Row("trt", "cuda", None, None, "no NVIDIA driver on this machine"),
    Row("onnx", "cuda", None, None, "this ONNX Runtime has no CUDA"),
    Row("openvino", "cpu", None, 14.25),
    Row("onnx", "cpu", None, 19.8),
    Row("openvino", "cpu", "bf16", 8.5),
]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tmp_path):
    return manifest.read(write_tiny_bundle(tmp_path / "bundle"))


def chosen(rows, precision: str | None = backends.AUTO, **rest) -> str | None:
    found = backends.fastest(EngineChoice(**{"backend": "auto", "precision": precision, **rest}), rows)
    return found and found.title("fp32")


# Choosing


def fake_engines(monkeypatch, broken: dict[str, str] | None = None, limit: float | None = None) -> list[str]:
    """FAKE engines that all are installed; broken: why one cannot open. Returns what was opened, in order."""
    opened: list[str] = []

    def engine_class(name):
        class Fake(Engine):
            version = "fake"

            def __init__(self, manifest, choice, chain):
                super().__init__(manifest, choice)
                opened.append(f"{name} {choice.precision or 'fp32'} on {choice.device}")
                if choice.precision == "bf16":
                    self.precision, self.limit_psnr_db = "bf16", limit
                if broken and name in broken:
                    raise UserError(broken[name])

            available = staticmethod(lambda: (True, "fake"))
            devices = staticmethod(lambda: ["fake"])

            def _run_chain(self, chain, inputs): ...

            def _close(self): ...

        return Fake

    monkeypatch.setattr(backends, "engine_class", engine_class)
    return opened


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"backend": "auto"}, "openvino fp32 on cpu"),
        ({"backend": "auto", "precision": "auto"}, "openvino bf16 on cpu"),
        ({"backend": "auto", "precision": "fp32"}, "openvino fp32 on cpu"),
        ({"backend": "openvino", "precision": "auto"}, "openvino bf16 on cpu"),
        ({"backend": "onnx", "precision": "auto"}, "onnx fp32 on cpu"),
        ({"backend": "auto", "device": "cuda:1"}, "trt fp32 on cuda:1"),  # none is timed: the known order
        ({"backend": "openvino"}, "openvino fp32 on None"),
    ],
)
def test_what_is_asked_for_is_chosen_among(bundle, monkeypatch, choice, wanted):
    measured.write(bundle, 2, ROWS)
    opened = fake_engines(monkeypatch)
    wagi_rt.load(bundle.folder, threads=2, **choice).close()
    assert opened == [wanted]


def test_the_measured_order_counts_and_a_lower_precision_has_to_be_worth_it():
    faster = [row._replace(ms=12.0) if row[:3] == ("onnx", "cpu", None) else row for row in ROWS]
    assert chosen(faster, precision=None) == "onnx fp32"
    for ms, wanted in ((13.9, "openvino fp32"), (13.0, "openvino bf16")):
        rows = [row._replace(ms=ms) if row.precision else row for row in ROWS]
        assert chosen(rows) == wanted
    assert chosen([]) is None and chosen(ROWS[:2]) is None


def test_without_times_auto_is_as_it_was_and_never_bf16(bundle, monkeypatch):
    opened = fake_engines(monkeypatch, {"trt": "no engine", "onnx": "no CUDA"})
    with wagi_rt.load(bundle.folder, "auto", precision="auto") as session:
        assert session.passed_over == ["trt on cuda: no engine", "onnx on cuda: no CUDA"]
        assert not session.reason
    assert opened[-1] == "openvino fp32 on cpu"
    opened = fake_engines(monkeypatch, {"openvino": "broken", "onnx": "broken"})
    with pytest.raises(UserError, match="nothing here can run it"):
        wagi_rt.load(bundle.folder, "auto", "cpu", precision="auto")
    assert opened == ["openvino fp32 on cpu", "onnx fp32 on cpu"]


def test_what_cannot_open_any_more_gives_way_to_the_next(bundle, monkeypatch):
    measured.write(bundle, None, ROWS)
    fake_engines(monkeypatch, {"openvino": "broken"})
    with wagi_rt.load(bundle.folder, "auto", device="cpu") as session:
        assert (session.backend_name, session.passed_over) == ("onnx", ["openvino on cpu: broken"])
        assert session.reason == "auto chose onnx fp32 (19.8 ms; openvino bf16 8.5, openvino fp32 14.2)"


def test_the_parity_gate_holds_whatever_the_cache_says(bundle, monkeypatch):
    """A bundle without probes has nothing to judge bf16 by."""
    measured.write(bundle, None, ROWS)
    opened = fake_engines(monkeypatch, limit=45.0)
    with wagi_rt.load(bundle.folder, "auto", precision="auto", device="cpu") as session:
        assert session.precision == "fp32" and "no values to judge it by" in session.passed_over[0]
    assert opened == ["openvino bf16 on cpu", "openvino fp32 on cpu"]


def test_auto_judges_edits_where_pictures_will_be_edited_or_may_be(bundle, monkeypatch):
    """What edits in bf16 must pass: FAKE inversions that pass, edits that do not."""
    measured.write(bundle, None, ROWS)
    fake_engines(monkeypatch, limit=45.0)

    def require(engine, chain):
        if "edit_ws" in chain.inputs:
            raise UserError("edits are too far")

    monkeypatch.setattr("wagi_rt.probes.require", require)
    for editing, wanted in ((None, "fp32"), (True, "fp32"), (False, "bf16")):
        with Session(bundle.folder, EngineChoice("auto", "cpu", None, "auto"), editing=editing) as session:
            assert session.precision == wanted
            assert [line for line in session.passed_over if "too far" in line] == (
                ["openvino bf16 on cpu: edits are too far"] if wanted == "fp32" else []
            )


def test_words_that_mean_nothing_are_refused():
    for choice, words in (
        (EngineChoice("auto", precision="fp8"), "must be one of fp32, bf16, auto"),
        (EngineChoice("onnx", precision="bf16"), "use --backend openvino"),
        (EngineChoice("openvino", "cuda", None, "auto"), "runs on cpu only"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            backends.check(choice)
        assert caught.value.status == 2


# Keeping


def test_times_belong_to_versions_threads_machine_and_bundle(bundle, tmp_path, monkeypatch):
    measured.write(bundle, 2, ROWS)
    assert measured.read(bundle, 2).rows == tuple(ROWS)
    assert measured.read(bundle, 3) is None
    edit_manifest(bundle.folder, created="another day")
    assert measured.read(manifest.read(bundle.folder), 2) is None
    (tmp_path / "site" / "onnxruntime_gpu-9.9.dist-info").mkdir(parents=True)
    for where, name, value in (
        (sys, "path", [*sys.path, str(tmp_path / "site")]),
        (measured, "__version__", "9.9"),
        (files, "processor", lambda: "another"),
        (measured.os, "cpu_count", lambda: 999),
        (measured, "_machine", lambda: ["another"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, value)
            assert measured.read(bundle, 2) is None, name
    assert measured.read(bundle, 2)


def test_no_number_of_threads_means_those_allowed(bundle, monkeypatch):
    monkeypatch.setattr(measured.host, "limit", lambda: 3)
    measured.write(bundle, None, ROWS)
    assert measured.read(bundle, 3) and measured.read(bundle, None)
    monkeypatch.setattr(measured.host, "limit", lambda: None)
    assert measured.read(bundle, None) is None
    measured.write(bundle, None, ROWS)
    assert [one.threads for one in measured.read_all(bundle)] == ["3", "all"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\x00", b"[]", b"null", b'{"rows": []', b'{"rows": 3, "created": ""}', b"[" * 100_000,
        json.dumps({"created": "", "rows": [[1, 2]]}).encode(),
        json.dumps({"created": "", "rows": [{"backend": "onnx"}]}).encode(),
        *(
            json.dumps({"created": "", "rows": [ROWS[2]._asdict() | wrong]}).encode()
            for wrong in ({"ms": "fast"}, {"ms": -1.0}, {"ms": float("nan")}, {"ms": True}, {"device": 3},
                          {"error": None}, {"precision": []}, {"more": 1})
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_none(bundle, monkeypatch, content):
    path = measured.write(bundle, None, ROWS)
    path.write_bytes(content)
    assert measured.read(bundle, None) is None and measured.read_all(bundle) == []
    fake_engines(monkeypatch)
    with wagi_rt.load(bundle.folder, "auto", "cpu") as session:
        assert session.backend_name == "openvino" and not session.reason


def test_unknown_engines_in_the_file_are_passed_by(bundle, monkeypatch):
    """Such as those of a later version."""
    measured.write(bundle, None, [Row("npu", "npu", "fp4", 0.1), *ROWS])
    opened = fake_engines(monkeypatch)
    wagi_rt.load(bundle.folder, "auto", precision="auto").close()
    assert opened == ["openvino bf16 on cpu"]


def test_one_process_measures_at_a_time(bundle):
    with measured.turn(bundle, 2, wait=False) as first, measured.turn(bundle, 2, wait=False) as second:
        assert (first, second) == (True, False)
        with measured.turn(bundle, 3, wait=False) as other:
            assert other
    with measured.turn(bundle, 2, wait=False) as again:
        assert again


def test_who_reads_while_another_writes_sees_a_whole_file(bundle):
    rows = {ms: [ROWS[2]._replace(ms=ms)] * 50 for ms in (1.0, 2.0)}
    stop, seen = threading.Event(), []

    def write(ms: float) -> None:
        while not stop.is_set():
            measured.write(bundle, 2, rows[ms])

    path = measured.write(bundle, 2, rows[1.0])
    writer = threading.Thread(target=write, args=(2.0,))
    writer.start()
    for _ in range(30):
        seen.append(measured.read(bundle, 2))
    stop.set()
    writer.join()
    assert all(one and len({row.ms for row in one.rows}) == 1 for one in seen)
    assert [one.name for one in path.parent.iterdir()] == ["2.json"]
