"""Processes for `wagi-rt bulk`, by Ray: actors on this machine alone or on a cluster."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from wagi_rt.engines.host import limit
from wagi_rt.errors import UserError

LOCAL = "local"
_STORE = 80_000_000  # bytes of shared memory, the least that Ray takes: paths and rows need none
_TICK = 1.0  # seconds
_PATIENCE = 10.0  # seconds


class Died(Exception):
    """The process of a worker is gone."""


class Raised(Exception):
    """A call ended with an exception that was not meant for a user; the worker lives."""


class Cluster:
    """Workers, and calls to them that run meanwhile. cpus, gpus: of each worker; gpus may be a share."""

    def __init__(self, ray: ModuleType, cpus: int, gpus: float) -> None:
        self._ray, self.cpus, self.gpus = ray, cpus, gpus

    def room(self) -> int:
        """Workers that fit now. UserError when there is room for none."""
        found = self._ray.cluster_resources()
        fit = int(found.get("CPU", 0)) // self.cpus
        if self.gpus:
            fit = min(fit, int(found.get("GPU", 0) / self.gpus))
        if not fit:
            has = f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"
            raise UserError(f"--ray: a worker needs {self.asked}, there are {has}", status=2)
        return fit

    @property
    def asked(self) -> str:
        """The resources of a worker in words."""
        return f"{self.cpus} CPU{'s' * (self.cpus > 1)}" + (f" and {self.gpus:g} GPU" if self.gpus else "")

    def hire(self, kind: type) -> Any:
        """A worker, which starts as soon as there is room."""
        return self._ray.remote(kind).options(num_cpus=self.cpus, num_gpus=self.gpus).remote()

    def dismiss(self, worker: Any) -> None:
        """End a worker, which may be beyond reach and still writing."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)

    def call(self, worker: Any, method: str, *arguments: object) -> Any:
        """Start a method => what `wait` and `result` know it by."""
        return getattr(worker, method).remote(*arguments)

    def wait(self, calls: list[Any]) -> list[Any]:
        """Those that ended; none after a second."""
        return list(self._ray.wait(calls, num_returns=1, timeout=_TICK)[0])

    def result(self, call: Any) -> Any:
        """The value of a call that ended; or Died, Raised."""
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise Raised(f"{type(error.cause).__name__}: {error.cause}".splitlines()[0]) from None
        except self._ray.exceptions.RayError as error:
            full = isinstance(error, self._ray.exceptions.OutOfMemoryError)
            raise Died(f"worker {'out of memory' if full else 'killed or crashed'}") from None


@contextmanager
def started(address: str, cpus: int, gpus: float, actors: int | None) -> Iterator[Cluster]:
    """Ray on this machine, alone and for this process, or the cluster at `address`. UserError without it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to Ray's makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or a warning of what it will not do
    if address == LOCAL:
        # Otherwise its ports are open to the network, and whoever reaches them runs code as this user.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    elif ":" in address:
        _reach(address)
    try:
        import ray
    except ImportError:
        raise UserError("bulk needs Ray, which is not installed; run: pip install 'wagi[ray]'", 2) from None
    place = "/tmp" if os.path.isdir("/tmp") else None  # its sockets' paths may not be long
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="wagi-ray-", dir=place, ignore_cleanup_errors=True)
        folder = stack.enter_context(scratch)
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stdout(nowhere))  # Ray prints a page for each death
        stack.callback(ray.shutdown)
        _connect(ray, address, Path(folder), cpus * (actors or 0))
        yield Cluster(ray, cpus, gpus)


def _reach(address: str) -> None:
    """UserError where nobody listens: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--ray {address}: nobody answers there ({reason}); check the address") from None


def _connect(ray: ModuleType, address: str, folder: Path, cpus: int) -> None:
    """cpus: that are to be had at least; Ray only counts them."""
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _STORE, "_temp_dir": str(folder)}
        options["num_cpus"] = max(cpus, limit() or os.cpu_count() or 1)
    try:
        ray.init(**options)
    except Exception as error:  # whatever its many parts raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        advice = "look for what is left of an earlier one" if address == LOCAL else "check the address"
        raise UserError(f"--ray {address}: Ray does not start ({reason}); {advice}") from None
