"""A real Triton server on loopback addresses, for tests and serving.py, and a client of it without libraries.

The server is the one in the wheel nvidia-pytriton, in an environment of its own (`make triton-check`): Triton
2.51 with the Python backend only, on CPUs.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_START, _STOP = 120, 20  # seconds
_LENGTH = "Inference-Header-Content-Length"


def environment() -> Path | None:
    """The environment that has Triton: $WAGI_TRITON, else the checkout's .venv-triton; None without one."""
    found = Path(os.environ.get("WAGI_TRITON") or ROOT / ".venv-triton")
    return found if _package(found, "pytriton") else None


def _package(place: Path, name: str) -> Path | None:
    return next(place.glob(f"lib/python*/site-packages/{name}"), None)


class Reply(NamedTuple):
    """An answer over HTTP: the status, the one output (bytes of each picture), or the error."""

    status: int
    pictures: list[bytes]
    error: str = ""


class Server:
    """Triton with one repository, as a context manager: ready when it is entered, gone when it is left."""

    def __init__(self, place: Path, repository: Path, *options: str) -> None:
        self.place, self.repository, self.options = place, repository, options
        self.http, self.grpc, self.metrics_port = _free_ports(3)
        self._scratch = tempfile.TemporaryDirectory(prefix="wagi-triton-")
        self.log = Path(self._scratch.name) / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._group = 0  # of its processes, also of those that outlive it
        self._shared: set[str] = set()  # names of memory that they share

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._scratch.cleanup()

    def start(self) -> None:
        """Start it and wait until every model is ready. RuntimeError with the log's end if that fails."""
        triton = _package(self.place, "pytriton/tritonserver")
        assert triton is not None
        command = [str(triton / "bin" / "tritonserver"), f"--model-repository={self.repository}"]
        backends, python = _put_together(self.place, Path(self._scratch.name))
        command += [f"--backend-directory={backends}"]
        for name, port in (("http", self.http), ("grpc", self.grpc), ("metrics", self.metrics_port)):
            command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
        command += ["--allow-gpu-metrics=false", "--exit-timeout-secs=5", *self.options]
        env = {**os.environ, "PATH": os.pathsep.join((str(python), os.environ.get("PATH", "")))}
        env["LD_LIBRARY_PATH"] = str(_package(self.place, "nvidia_pytriton.libs"))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        self._group = self.process.pid
        until = time.monotonic() + _START
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"tritonserver did not start:\n{self.log.read_text()[-12000:]}")
            time.sleep(0.1)
        self._note_shared_memory()

    def _note_shared_memory(self) -> None:
        commands = " ".join(self.processes().values())
        self._shared |= set(re.findall(r"triton_python_backend_shm_region_[\w-]+", commands))

    def ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self._get(self.http, "/v2/health/ready")[0] == 200
        return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the server and the processes of its models; SIGKILL ends them at once."""
        if self.process is None:
            return
        self._note_shared_memory()
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group: a stub may outlive the server
        self.process.wait(_STOP)
        until = time.monotonic() + _STOP
        while self.processes() and time.monotonic() < until:
            time.sleep(0.05)
        while self._shared:  # which a killed server leaves behind
            Path("/dev/shm", self._shared.pop()).unlink(missing_ok=True)
        self.process = None

    def processes(self) -> dict[int, str]:
        """The server and the processes of its models: pid -> command, as long as they live."""
        found, group = {}, self._group
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                pid, command = int(path.parent.name), path.read_bytes().replace(b"\0", b" ").decode()
                if command and os.getpgid(pid) == group:
                    found[pid] = command
        return found

    def memory(self) -> float:
        """Megabytes that all of them hold in RAM together; what they share counts once for each."""
        total = 0
        for pid in self.processes():
            with suppress(OSError):
                found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                total += int(found[1]) if found else 0
        return total * 1024 / 1e6

    def metrics(self) -> dict[str, dict[str, float]]:
        """Model -> its counters by name without `nv_inference_`, from Triton's page for Prometheus."""
        page = self._get(self.metrics_port, "/metrics")[1].decode()
        found: dict[str, dict[str, float]] = {}
        for name, labels, value in re.findall(r"^nv_inference_(\w+)\{(.*)\} (\S+)$", page, re.M):
            model = re.search(r'model="(.*?)"', labels)
            if model:
                found.setdefault(model[1], {})[name] = float(value)
        return found

    def _get(self, port: int, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Client:
    """One connection; threads need one each."""

    def __init__(self, server: Server, model: str = "wagi", timeout: float = 60) -> None:
        self.path = f"/v2/models/{model}/infer"
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=timeout)

    def infer(
        self,
        photos: Sequence[bytes],
        strengths: Sequence[Sequence[float]] | None = None,
        suffix: str | None = None,
    ) -> Reply:
        """Send photos as one request, in Triton's binary form of its HTTP protocol."""
        sent = [("PHOTO", "BYTES", [len(photos), 1], _strings(photos))]
        if strengths is not None:
            values = [value for row in strengths for value in row]
            packed = struct.pack(f"<{len(values)}f", *values)
            sent.append(("STRENGTHS", "FP32", [len(strengths), len(strengths[0])], packed))
        if suffix is not None:
            sent.append(("FORMAT", "BYTES", [len(photos), 1], _strings([suffix.encode()] * len(photos))))
        inputs = [
            {"name": name, "datatype": kind, "shape": shape,
             "parameters": {"binary_data_size": len(content)}}
            for name, kind, shape, content in sent
        ]  # fmt: skip
        head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        body = head + b"".join(content for *_, content in sent)
        self.connection.request("POST", self.path, body, {_LENGTH: str(len(head))})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            return Reply(answer.status, [], json.loads(content)["error"])
        return Reply(200, _unpacked(content[int(answer.headers[_LENGTH]) :]))

    def close(self) -> None:
        self.connection.close()


def _strings(items: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def _unpacked(content: bytes) -> list[bytes]:
    found = []
    while content:
        end = 4 + struct.unpack("<I", content[:4])[0]
        found.append(content[4:end])
        content = content[end:]
    return found


def _put_together(place: Path, scratch: Path) -> tuple[Path, Path]:
    """The parts that the wheel keeps apart => (Triton's folder of backends, bin/ of the models' Python).

    The starter of models (the stub) belongs beside the Python backend. It ignores PYTHONPATH and runs in the
    environment of the first python3 on PATH: one with the packages of `place` and this checkout's runtime.
    """
    triton, packages = _package(place, "pytriton/tritonserver"), _package(place, "")
    assert triton is not None and packages is not None
    backend, python = scratch / "backends" / "python", scratch / "python"
    library = python / "lib" / packages.parent.name / "site-packages"
    if not backend.exists():
        for folder in (backend, library, python / "bin"):
            folder.mkdir(parents=True)
        version = packages.parent.name.removeprefix("python")
        stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
        for path in (*(triton / "backends" / "python").glob("*triton_python*.*"), stub):
            (backend / path.name).symlink_to(path)
        shutil.copy(place / "pyvenv.cfg", python)
        (python / "bin" / "python3").symlink_to((place / "bin" / "python3").resolve())
        (library / "wagi.pth").write_text(f"{ROOT / 'runtime'}\n{packages}\n")
    return backend.parent, python / "bin"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
