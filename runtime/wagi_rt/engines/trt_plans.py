"""The engine cache: which plan belongs to this model, GPU, TensorRT and precision, and is it whole?

`$WAGI_CACHE` (default ~/.cache/wagi)/engines/KEY/NAME.plan, each with a NAME.json beside it that is checked
before TensorRT sees a byte of the plan. export/to_engine.py writes both; the bundle itself holds no engine,
because a plan runs only where it was built.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from wagi_rt import files as caches
from wagi_rt.chain import PIPELINE
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest

SCHEMA = 1
PLUGINS = ("HaarDWT", "HaarIDWT", "SkipUpsample")
PLUGIN_VERSION, PLUGIN_NAMESPACE = "1", "wagi"
PLUGIN_LIBRARY = "libwagi_trt.so"
BUILD = "build it: python export/to_engine.py"
_loaded: dict[tuple[str, Path], Any] = {}  # (TensorRT module, library) -> handle


@dataclass(frozen=True)
class Target:
    """The model and the machine that an engine belongs to."""

    model: str  # hash of all graphs and weights of the bundle
    gpu: str
    tensorrt: str  # major.minor.patch
    precision: str

    @property
    def key(self) -> str:
        """The cache folder's name."""
        return caches.key(self.model, self.gpu, self.tensorrt, self.precision)

    @property
    def folder(self) -> Path:
        return cache() / self.key


@dataclass(frozen=True)
class Record:
    """The JSON beside a plan."""

    schema: int
    engine: str
    key: str
    model: str
    gpu: str
    tensorrt: str
    precision: str
    versions: dict[str, str]  # complete versions of the builder and what it ran on
    batch: dict[str, int]  # the profile: min, opt, max
    version_compatible: bool  # False: only the full TensorRT of exactly this version runs it
    plugin_layers: int
    bytes: int
    sha256: str
    psnr_db: dict[str, float]  # output -> what the check against ONNX Runtime found when it was built


def cache() -> Path:
    """The folder of all engines."""
    return caches.root() / "engines"


def target(manifest: Manifest, gpu: str, version: str) -> Target:
    """`version`: TensorRT's; what follows major.minor.patch is a build number, kept in the record only."""
    return Target(model_hash(manifest), gpu, short(version), manifest.precision)


def short(version: str) -> str:
    return ".".join(version.split(".")[:3])


def model_hash(manifest: Manifest) -> str:
    """Of the graphs and their external data; the bundle's name and date change no engine."""
    return hashlib.sha256(json.dumps(sorted(manifest.hashes.items())).encode()).hexdigest()


def read_plan(wanted: Target, name: str) -> tuple[bytes, Record]:
    """The plan `name` and its record, or a UserError that says why it cannot run here."""
    path = wanted.folder / f"{name}.plan"
    record = _record(path.with_suffix(".json"))
    if record is None:
        raise UserError(_missing(wanted, name))
    if difference := _difference(record, wanted):
        raise UserError(f"{path}: {difference}; {BUILD}")
    if record.engine != name or record.key != wanted.key:
        raise UserError(f"{path}: its record is another engine's ('{record.engine}'); {BUILD} --overwrite")
    try:
        plan = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: the engine is missing, its record is there; {BUILD} --overwrite") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if len(plan) < record.bytes:
        sizes = f"{len(plan)} of {record.bytes} bytes"
        raise UserError(f"{path}: the engine is truncated ({sizes}); {BUILD} --overwrite")
    if hashlib.sha256(plan).hexdigest() != record.sha256:
        raise UserError(f"{path}: the engine was changed or damaged (sha256); {BUILD} --overwrite")
    return plan, record


def write_plan(wanted: Target, record: Record, plan: bytes) -> Path:
    """Plan first, record last, each beside its place and then renamed: a record always has its plan."""
    folder = wanted.folder
    path = folder / f"{record.engine}.plan"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(record), indent=1) + "\n"
        for place, content in ((path, plan), (path.with_suffix(".json"), text.encode())):
            caches.write_beside(place, content, lasting=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written ({reason}); free space or set WAGI_CACHE") from None
    return path


def _record(path: Path) -> Record | None:
    """None where there is none; UserError when it is damaged."""
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: the engine's record cannot be read ({error}); {BUILD} --overwrite"
        ) from None
    types = {"bytes": int, "plugin_layers": int, "version_compatible": bool, "batch": dict, "versions": dict}
    names = {field.name for field in fields(Record)}
    whole = isinstance(data, dict) and set(data) == names and data["schema"] == SCHEMA
    whole = whole and all(isinstance(data[name], kind) for name, kind in types.items())
    if not whole or "tensorrt" not in data["versions"]:
        raise UserError(f"{path}: not an engine's record of this version; {BUILD} --overwrite")
    return Record(**data)


def _difference(record: Record | Target, wanted: Target) -> str:
    """Why an engine of `record` is not one for `wanted`; empty when it is."""
    if record.gpu != wanted.gpu:
        return f"the engine was built for another GPU ({record.gpu}), this is {wanted.gpu}"
    if record.tensorrt != wanted.tensorrt:
        versions = f"TensorRT {record.tensorrt}, this is {wanted.tensorrt}"
        return f"the engine was built by another version ({versions})"
    if record.precision != wanted.precision:
        return f"the engine has another precision ({record.precision}), the bundle is {wanted.precision}"
    return "" if record.model == wanted.model else "the engine belongs to another model"


def _missing(wanted: Target, name: str) -> str:
    """No plan under this key: say so, and what the cache holds for the same model instead."""
    line = f"no engine '{name}' of this model for {wanted.gpu} and TensorRT {wanted.tensorrt}"
    for record in records(wanted.model, name):
        folder = cache() / record.key
        return f"{line}: {_difference(record, wanted)} ({folder}); {BUILD} BUNDLE"
    graphs = "" if name == PIPELINE else " --engines graphs"
    return f"{line} in {cache()}; {BUILD} BUNDLE{graphs}"


def records(model: str, name: str) -> Iterator[Record]:
    """The records of this model's engines `name`, for any machine; damaged ones are passed over."""
    for path in sorted(cache().glob(f"*/{name}.json")):
        with suppress(UserError):
            record = _record(path)
            if record and record.model == model:
                yield record


# ---------------------------------------------------------------------------------------------- plugins


def find_plugins() -> Path | None:
    """The plugin library: $WAGI_PLUGINS, else beside this package, else in the checkout's build/."""
    named = os.environ.get("WAGI_PLUGINS")
    if named:
        if not Path(named).is_file():
            raise UserError(f"WAGI_PLUGINS={named}: no such file; build it with CMake or unset WAGI_PLUGINS")
        return Path(named).resolve()
    return next((place for place in _library_places() if place.is_file()), None)


def _library_places() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parent
    build = package.parent.parent / "build"
    return package / PLUGIN_LIBRARY, build / PLUGIN_LIBRARY, build / "lib" / PLUGIN_LIBRARY


def load_plugins(trt: Any, path: Path) -> None:
    """Register the wavelet plugins with TensorRT, once per process; never given back (that would crash)."""
    place = (trt.__name__, path)
    if place in _loaded:
        return
    registry = trt.get_plugin_registry()
    try:
        handle = registry.load_library(str(path))
    except Exception as error:  # the bindings raise what the system's loader says
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: the plugin library does not load ({reason}); build it again") from None
    if handle is None:
        raise UserError(
            f"{path}: TensorRT {trt.__version__} does not load it as a plugin library; build it again"
        )
    for name in PLUGINS:
        if registry.get_creator(name, PLUGIN_VERSION, PLUGIN_NAMESPACE) is None:
            what = f"TensorRT {trt.__version__} finds no plugin {PLUGIN_NAMESPACE}::{name} in it"
            raise UserError(f"{path}: {what}; build it again for this TensorRT")
    _loaded[place] = handle
