"""`wagi-rt page` writes one file with everything in it, or one line; the file names no other place."""

import base64
import gzip
import hashlib
import html
import io
import json
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from tiny_bundle import GENERATOR, STYLE_DIM, error_line, run_cli, write_tiny_bundle

from wagi_rt import chain
from wagi_rt import manifest as manifests
from wagi_rt.commands import assets, page
from wagi_rt.directions import Direction

VECTOR = np.full(STYLE_DIM, 0.01, np.float32)
RED = Direction("red", VECTOR, unit="<b>", range=(-1.0, 2.0), generator=GENERATOR)
RUNTIME = {name: f"stands for {name}".encode() for name in assets.HASHES}


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose name and unit would be markup if they were not escaped."""
    folder = tmp_path / "bundle"
    return write_tiny_bundle(folder, schema=3, external=True, directions=(RED,), name="<script>&")


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A folder of files that take the place of ONNX Runtime Web's, hashes included."""
    folder = tmp_path / "runtime" / "dist"
    folder.mkdir(parents=True)
    for name, content in RUNTIME.items():
        (folder / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in RUNTIME.items()}
    monkeypatch.setattr(assets, "HASHES", hashes)
    return folder.parent


@pytest.fixture
def text(bundle, runtime, tmp_path):
    out = tmp_path / "made.html"
    assert run_cli("page", "-m", bundle, "--assets", runtime, "-o", out) == 0
    return out.read_text()


def packed(text: str, kind: str) -> dict[str, bytes]:
    element = rf'<script type="application/octet-stream" data-{kind}="([^"]+)">([^<]*)</script>'
    return {html.unescape(name): base64.b64decode(content) for name, content in re.findall(element, text)}


def test_every_file_is_in_the_page(text, bundle):
    files = {name: gzip.decompress(content) for name, content in packed(text, "file").items()}
    model = json.loads(re.search(r'id="model">(.*?)</script>', text, re.S)[1])
    for name, content in RUNTIME.items():
        assert files[name] == content
    for graph in model["graphs"].values():
        assert files[graph["file"]] == (bundle / graph["file"]).read_bytes()
        assert set(graph["external"]) <= set(files)
    assert "weights.bin" in model["graphs"]["align"]["external"]
    assert files["weights.bin"] == (bundle / "weights.bin").read_bytes()
    (direction,) = model["directions"]
    assert np.array_equal(np.frombuffer(files[direction["file"]], "<f4"), RED.vector)
    assert direction["range"] == [-1, 2] and direction["unit"] == "<b>" and model["name"] == "<script>&"


@pytest.mark.parametrize(("aligner", "full_detail"), [("ada", False), ("flow", False), ("flow", True)])
def test_the_order_of_the_graphs_is_the_chains(bundle, aligner, full_detail):
    """Steps run after what they read, and make all that is shown and all that an edit starts from."""
    manifest = manifests.read(bundle)
    graphs = dict.fromkeys(chain.STEPS, manifest.graphs["encoder"])  # whatever the aligner needs
    manifest = manifest._replace(aligner=aligner, full_detail=full_detail, graphs=graphs)
    model, opened = page.describe(manifest), {"image"}
    for name, shown in (("inversion", {"result", "naive"}), ("edit", {"result", "edit_naive"})):
        assert set(model[name]["inputs"]) <= opened | {"edit_ws"}
        known = set(model[name]["inputs"])
        for step, wanted in zip(model[name]["steps"], getattr(manifest, name).steps, strict=True):
            assert step["name"] == wanted.name and set(step["reads"].values()) <= known
            known |= set(step["makes"].values())
        assert shown <= set(model[name]["outputs"]) <= known
        opened |= set(model[name]["outputs"])


def test_the_page_names_no_other_place(text):
    """Nothing to load, and a policy under which nothing could be."""
    assert not re.findall(r'(?:src|href|action)\s*=\s*"(?!#|data:,)', text)
    assert not re.search(r"https?:|//\w+\.\w|sourceMappingURL|url\(|@import", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and "connect-src" not in rules
    allowed = {"'none'", "blob:", "data:", "'wasm-unsafe-eval'"}
    loose = [word for words in rules.values() for word in words.split() if not word.startswith("'sha256-")]
    assert set(loose) <= allowed, policy


def test_the_policy_knows_our_scripts_and_no_other(text):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    scripts = re.findall(r"<script type=\"module\">(.*?)</script>", text, re.S)
    styles = re.findall(r"<style>(.*?)</style>", text, re.S)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts + styles]
    assert len(scripts) == len(styles) == 1
    assert re.findall(r"sha256-([^']+)'", policy) == hashes
    assert "<script>&" not in text and "<title>WaGI: &lt;script&gt;&amp;</title>" in text


def test_modules_are_joined_whole():
    for entry in ("main", "worker"):
        script = page.joined(entry)
        assert not re.search(r"^(import|export) ", script, re.M) and "</script" not in script
    parts = [path.stem for path in page.SOURCES.glob("*.js")]
    used = page.joined("main") + page.joined("worker")
    assert not [name for name in parts if f"const from_{name} = " not in used]


def test_the_same_page_twice(text, bundle):
    assert page.assemble(manifests.read(bundle), RUNTIME) == text


def test_a_tarball_will_do(bundle, runtime, tmp_path):
    tarball = tmp_path / "onnxruntime-web.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(runtime / "dist", "package/dist")
    assert assets.load(str(tarball), False) == assets.load(str(runtime), False) == RUNTIME


def broken(kind: str, runtime, tmp_path):
    """What --assets is given, and a word of the answer."""
    target = runtime / "dist" / "ort.wasm.bundle.min.mjs"
    if kind == "changed":
        target.write_bytes(b"changed")
        return runtime, "is not the one of onnxruntime-web@"
    if kind == "missing":
        (runtime / "dist" / assets.BUILDS["webgpu"][1]).unlink()
        return runtime, f"has no {assets.BUILDS['webgpu'][1]}"
    if kind == "nothing":
        return tmp_path / "nowhere", "no such folder or file"
    tarball = tmp_path / "some.tgz"
    tarball.write_bytes(b"no tarball")
    return tarball, "not a tarball"


@pytest.mark.parametrize("kind", ["changed", "missing", "nothing", "tarball"])
def test_wrong_assets_cost_one_line(kind, bundle, runtime, tmp_path, capsys):
    place, said = broken(kind, runtime, tmp_path)
    out = tmp_path / "made.html"
    assert run_cli("page", "-m", bundle, "--assets", place, "-o", out) == 1
    assert said in error_line(capsys.readouterr().err) and not out.exists()


def test_without_assets_nothing_is_contacted(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("contacts somebody"))
    assert run_cli("page", "-m", bundle, "-o", tmp_path / "made.html") == 2
    line = error_line(capsys.readouterr().err)
    assert "--fetch" in line and "--assets" in line


def test_a_page_is_not_replaced_unasked(bundle, runtime, tmp_path, capsys):
    out = tmp_path / "made.html"
    out.write_text("mine")
    assert run_cli("page", "-m", bundle, "--assets", runtime, "-o", out) == 2
    assert "--overwrite" in error_line(capsys.readouterr().err) and out.read_text() == "mine"
    assert run_cli("page", "-m", bundle, "--assets", runtime, "-o", out, "--overwrite") == 0
    assert out.read_text().startswith("<!doctype html>")


def test_a_bundle_that_browsers_would_not_open(bundle, runtime, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "LIMIT", 10_000)
    assert run_cli("page", "-m", bundle, "--assets", runtime, "-o", tmp_path / "made.html") == 1
    assert "--half-weights" in error_line(capsys.readouterr().err)


@pytest.fixture
def registry(runtime, tmp_path, monkeypatch):
    """A package registry on this machine; `content` is what it gives, `asked` what it was asked for."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(runtime / "dist", "package/dist")

    class Registry(BaseHTTPRequestHandler):
        content, asked = packed.getvalue(), []

        def do_GET(self):
            self.asked.append(self.path)
            self.send_response(200 if self.content else 404)
            self.end_headers()
            self.wfile.write(self.content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(assets, "_TARBALL_SHA256", hashlib.sha256(Registry.content).hexdigest())
    yield Registry
    server.shutdown()
    server.server_close()


def test_fetch_asks_once(registry, bundle, tmp_path):
    for _ in range(2):
        assert run_cli("page", "-m", bundle, "--fetch", "--overwrite", "-o", tmp_path / "made.html") == 0
    assert registry.asked == [f"/onnxruntime-web/-/onnxruntime-web-{assets.VERSION}.tgz"]
    assert run_cli("page", "-m", bundle, "--overwrite", "-o", tmp_path / "made.html") == 0


@pytest.mark.parametrize(("content", "said"), [(b"other", "something else"), (b"", "Not Found")])
def test_a_wrong_download_is_not_kept(content, said, registry, bundle, tmp_path, capsys):
    registry.content = content
    assert run_cli("page", "-m", bundle, "--fetch", "-o", tmp_path / "made.html") == 1
    assert said in error_line(capsys.readouterr().err)
    assert not list((tmp_path / "cache").rglob("*.tgz"))
