"""A real Triton server with the embedded bundle gives what wagi-rt gives, and lives whatever it is sent.

Needs Triton in an environment of its own: `make triton-check` makes .venv-triton, WAGI_TRITON names another.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_to_triton import bundle_at
from tiny_bundle import run_cli
from trt_helpers import build

import wagi_rt
from benchmarks import serving
from benchmarks.triton_server import Client, Server, environment
from export.to_triton import main
from wagi_rt import manifest as manifests

HERE, SAMPLES = Path(__file__).parent, manifests.embedded() / "samples"
TRITON = environment()
NAMES = sorted(manifests.read().directions)
EDITS = [{}, {"pitch": -1.0, "smile": 1.0}, {"yaw": -1.0}]
STRENGTHS = [[edit.get(name, 0.0) for name in NAMES] for edit in EDITS]
TEXT, NEUTRAL, FAR = "a smiling man with a hat", "a man", 1.5

pytestmark = pytest.mark.skipif(
    TRITON is None, reason="no Triton: `make triton-check` installs it; WAGI_TRITON names another environment"
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    out = tmp_path_factory.mktemp("triton") / "repository"
    options = ["--max-batch", "4", "--threads", "1", "--queue-delay", "20000"]
    assert main([str(manifests.embedded()), "-o", str(out), *options]) == 0
    return out


@pytest.fixture(scope="module")
def server(repository):
    with Server(TRITON, repository) as server:
        yield server


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return [path.read_bytes() for path in sorted(SAMPLES.glob("*.png"))[:3]]


@pytest.fixture(scope="module")
def expected(photos) -> list[np.ndarray]:
    """What wagi_rt gives for each photo with its strengths, one by one."""
    with wagi_rt.load(threads=1) as session:
        return [
            session.open(photo).edit(edit).image.astype(int)
            for photo, edit in zip(photos, EDITS, strict=True)
        ]


@pytest.fixture(scope="module")
def by_text(photos, tmp_path_factory) -> np.ndarray:
    """What `wagi-rt edit` makes of the first photo with a text and a strength."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "in.png").write_bytes(photos[0])
    words = ["--text", TEXT, "--neutral", NEUTRAL, "--text-strength", FAR, "--set", "yaw=-0.5"]
    assert run_cli("edit", folder / "in.png", "-o", folder / "out.png", "-q", "--threads", 1, *words) == 0
    return np.asarray(Image.open(folder / "out.png")).astype(int)


def official(*arguments: object, sent: str = "") -> str:
    """stdout of triton_client.py in Triton's environment."""
    done = subprocess.run(
        [TRITON / "bin" / "python", HERE / "triton_client.py", *map(str, arguments)],
        input=sent, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def difference(file: bytes, image: np.ndarray) -> int:
    """The largest, in levels of 255."""
    return int(np.abs(np.asarray(Image.open(io.BytesIO(file))).astype(int) - image).max())


def test_four_clients_at_once_get_what_wagi_rt_gives(server, photos, expected, by_text):
    """NVIDIA's own client, over HTTP and gRPC, mixed edits, texts and inversions; some ran in one batch."""
    before = server.metrics()["wagi_model"]
    requests = [
        {"PHOTO": [photo.hex()], "STRENGTHS": row} for photo, row in zip(photos, STRENGTHS, strict=True)
    ]
    turned = [-0.5 * (name == "yaw") for name in NAMES]
    worded = {"TEXT": [TEXT], "NEUTRAL": [NEUTRAL], "TEXT_STRENGTH": [FAR], "STRENGTHS": turned}
    requests.append({"PHOTO": [photos[0].hex()], **worded})
    answers = json.loads(official("infer", server.http, server.grpc, sent=json.dumps(requests)))
    assert [len(answer) for answer in answers] == [4] * 4
    for answer in answers:
        for file, image in zip(answer, [*expected, by_text], strict=True):
            assert difference(bytes.fromhex(file), image) <= 1
    assert difference(bytes.fromhex(answers[0][3]), expected[0]) > 20, "a text is seen"
    found = {name: value - before[name] for name, value in server.metrics()["wagi_model"].items()}
    assert found["count"] == 16 and found["exec_count"] < 16 and found["queue_duration_us"] > 0


def test_garbage_is_the_clients_mistake_and_the_server_lives(server, photos, expected):
    client = Client(server)
    for sent, strengths, line in (
        ([b"garbage"], None, "photo: not an image of a format that is read; convert it to PNG or JPEG"),
        ([b""], None, "photo: the file is empty; replace it"),
        ([photos[0], photos[0][:500]], None, "photo 2: damaged or truncated image"),
        (photos[:1], [[float("nan")] * len(NAMES)], "must be finite numbers"),
        (photos[:1], [(0, 0, 0)], "STRENGTHS"),
    ):
        reply = client.infer(sent, strengths)
        assert reply.status == 400 and line in reply.error and len(reply.error.splitlines()) == 1
    garbage = [{"PHOTO": [b"garbage".hex()]}, {"PHOTO": [photos[0].hex()], "TEXT": ["a man with spectacles"]}]
    answers = json.loads(official("infer", server.http, server.grpc, sent=json.dumps(garbage)))
    for answer, code in zip(answers, 2 * ("400", "StatusCode.INVALID_ARGUMENT"), strict=True):
        for line, said in zip(answer, ("photo: not an image", "TEXT: 'spectacles' is no word"), strict=True):
            assert line.startswith(f"{code}: ") and said in line and len(line.splitlines()) == 1
    assert client.infer(photos, STRENGTHS, "jpg").pictures[0].startswith(b"\xff\xd8\xff")
    reply = client.infer(photos, STRENGTHS)
    assert reply.status == 200
    for file, image in zip(reply.pictures, expected, strict=True):
        assert difference(file, image) <= 1


def test_garbage_does_not_disturb_others(server, photos, expected):
    """Eight clients, every second one sends garbage."""
    replies = {}

    def ask(number: int) -> None:
        client = Client(server)
        sent = [photos[1], b"garbage"][number % 2]
        replies[number] = [client.infer([sent], STRENGTHS[1:2]) for _ in range(2)]
        client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(replies) == 8
    for number, two in replies.items():
        for reply in two:
            if number % 2:
                assert reply.status == 400 and "not an image" in reply.error
            else:
                assert difference(reply.pictures[0], expected[1]) <= 1


def is_healthy(server) -> bool:
    command = [sys.executable, HERE.parent / "runtime" / "docker" / "healthy.py", "wagi", str(server.http)]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_a_killed_server_starts_again(server, photos, expected):
    """First a process of a model dies, which Triton does not notice and the health check does."""
    assert is_healthy(server)
    for pid, command in server.processes().items():
        if "/wagi_model/" in command:
            os.kill(pid, signal.SIGKILL)
    assert server.ready() and not is_healthy(server)
    assert Client(server).infer(photos[:1]).status == 500
    pids = server.processes()
    server.stop(signal.SIGKILL)
    assert not server.ready() and pids and not set(pids) & set(server.processes())
    server.start()
    assert is_healthy(server)
    reply = Client(server).infer(photos[1:2], STRENGTHS[1:2])
    assert reply.status == 200 and difference(reply.pictures[0], expected[1]) <= 1


@pytest.mark.slow
def test_the_load_test_counts_what_it_sends(tmp_path, capsys):
    bundle, out, page = bundle_at(tmp_path / "b"), tmp_path / "load.json", tmp_path / "page.md"
    page.write_text("<!-- serving -->\nold\n<!-- /serving -->\n")
    arguments = ["--bundle", bundle, "--clients", "1,3", "--requests", "9", "--flat", "8", "--out", out]
    assert serving.main([*map(str, arguments), "--threads", "1", "--page", str(page)]) == 0
    report = json.loads(out.read_text())
    assert [(run["kind"], run["clients"]) for run in report["runs"]] == [
        ("inversion", 1), ("inversion", 3), ("edit", 1), ("edit", 3)
    ]  # fmt: skip
    for run in report["runs"]:
        assert set(run["parts"]) == {"wagi", "wagi_photo", "wagi_model", "wagi_picture"}
        assert 1 <= run["parts"]["wagi_model"]["batch"] <= run["clients"]
        assert run["latency_ms"]["p50"] <= run["latency_ms"]["p99"] and run["per_second"] > 0
    assert [done for done, _ in report["memory"]["mb"]] == list(range(9))
    assert all(100 < size < 10_000 for _, size in report["memory"]["mb"])
    assert serving.text(report) in capsys.readouterr().out and "old" not in page.read_text()


@pytest.mark.slow
def test_versions_come_and_go_while_requests_run(tmp_path, photos):
    bundles = [bundle_at(tmp_path / name, keep=keep) for name, keep in (("a", 0.75), ("b", 0.2))]
    out, seen = tmp_path / "r", []
    assert main([str(bundles[0]), "-o", str(out)]) == 0
    with Server(TRITON, out, "--model-control-mode=poll", "--repository-poll-secs=1") as server:
        client = Client(server)

        def until_it_changes() -> None:
            last, end = client.infer(photos[:1]), time.monotonic() + 120
            while client.infer(photos[:1]) == last and time.monotonic() < end:
                time.sleep(0.05)
            seen.append(client.infer(photos[:1]))

        seen.append(client.infer(photos[:1]))
        assert main([str(bundles[1]), "-o", str(out), "--version", "2"]) == 0
        until_it_changes()
        for path in out.glob("*/2"):
            path.rename(tmp_path / path.parent.name)
        until_it_changes()
    assert [reply.status for reply in seen] == [200] * 3
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize("platform", ["python", "onnxruntime", "tensorrt"])
def test_configurations_are_tritons(tmp_path, monkeypatch, platform):
    """Every field is known to Triton's published ModelConfig, and the ensemble's tensors fit together."""
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    if platform == "tensorrt":
        build(manifests.embedded(), tmp_path)
    assert main([str(manifests.embedded()), "-o", str(tmp_path / "r"), "--platform", platform]) == 0
    paths = sorted(tmp_path.glob("r/*/config.pbtxt"))
    configs = {one["name"]: one for one in map(json.loads, official("parse", *paths).splitlines())}
    assert sorted(configs) == [path.parent.name for path in paths]
    described = {}
    for step in configs["wagi"]["ensemble_scheduling"]["step"]:
        model = configs[step["model_name"]]
        for side, tensors in (("input_map", model["input"]), ("output_map", model["output"])):
            own = {one["name"]: (one["data_type"], one["dims"]) for one in tensors}
            assert set(step[side]) == set(own)
            for name, known in step[side].items():
                assert side == "output_map" or known in described or known in own
                assert described.setdefault(known, own[name]) == own[name]
    for one in configs["wagi"]["input"] + configs["wagi"]["output"]:
        assert described[one["name"]] == (one["data_type"], one["dims"])
    backends = {one.get("backend", "ensemble") for one in configs.values()}
    assert backends == {"ensemble", "python", platform}
    assert os.path.isdir(tmp_path / "r" / "wagi" / "1")
