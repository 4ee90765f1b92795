"""ONNX Runtime Web's files for `wagi-rt page`: from a folder, a tarball, or a download that was asked for."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from pathlib import Path

from wagi_rt import files
from wagi_rt.errors import UserError

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
# Build -> (module, its WebAssembly), and the SHA-256 of each. The second build has WebGPU; it needs a browser
# that can suspend WebAssembly, as those with WebGPU can.
BUILDS = {
    "wasm": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.jspi.bundle.min.mjs", "ort-wasm-simd-threaded.jspi.wasm"),
}
HASHES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.jspi.bundle.min.mjs": "07ec090355e11b342c95436db54da2d0c2bd5b1d319745bfd3337e6bdcf170ac",
    "ort-wasm-simd-threaded.jspi.wasm": "a54c76f86b0f0d9572380cf1c6292a7b3903716ffcbcd6b0e5c7050bf430eb93",
}
_TARBALL_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_REGISTRY = "https://registry.npmjs.org"  # unless npm's own variable says otherwise
_LARGEST = 64 << 20
_GET = f"take what `npm pack {PACKAGE}` brings"


def load(place: str | None, fetch: bool) -> dict[str, bytes]:
    """The files by name, each exactly the known one. place: a folder or tarball; UserError otherwise.

    Without a place the tarball of an earlier download is used; `fetch` allows a download.
    """
    source = Path(place) if place else _kept()
    if place is None and not source.is_file():
        if not fetch:
            raise UserError(
                f"the page needs {PACKAGE}; add --fetch (33 MB from the npm registry, once) or "
                f"--assets FOLDER|TGZ ({_GET})",
                status=2,
            )
        _download(source)
    found = _of_folder(source) if source.is_dir() else _of_tarball(source)
    for name, content in found.items():
        if hashlib.sha256(content).hexdigest() != HASHES[name]:
            raise UserError(f"{source}: {name} is not the one of {PACKAGE}; {_GET}")
    return found


def _kept() -> Path:
    return files.root() / "npm" / f"onnxruntime-web-{VERSION}.tgz"


def _of_folder(folder: Path) -> dict[str, bytes]:
    """The files in it, or in the folders that npm makes."""
    inside = ("", "dist", "package/dist", "node_modules/onnxruntime-web/dist")
    place = next((folder / name for name in inside if (folder / name / BUILDS["wasm"][0]).is_file()), folder)
    try:
        return {name: (place / name).read_bytes() for name in HASHES}
    except FileNotFoundError as error:
        raise UserError(f"{folder}: has no {Path(error.filename).name}; {_GET}") from None


def _of_tarball(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = {Path(one.name).name: one for one in archive if one.isfile() and one.size <= _LARGEST}
            return {name: archive.extractfile(members[name]).read() for name in HASHES}  # type: ignore[union-attr]
    except FileNotFoundError:
        raise UserError(f"{path}: no such folder or file; {_GET}") from None
    except KeyError as error:
        raise UserError(f"{path}: has no {error.args[0]}; {_GET}") from None
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{path}: not a tarball that can be read ({error}); {_GET}") from None


def _download(path: Path) -> None:
    """The tarball into the cache, if it is exactly the known one."""
    from urllib.request import urlopen  # proxies as the environment names them

    base = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY") or _REGISTRY
    url = f"{base.rstrip('/')}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    try:
        with urlopen(url, timeout=120) as answer:
            content = answer.read(_LARGEST)
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise UserError(f"{url}: cannot be downloaded ({reason}); or use --assets and {_GET}") from None
    if hashlib.sha256(content).hexdigest() != _TARBALL_SHA256:
        raise UserError(f"{url}: gave something else than {PACKAGE}; use --assets and {_GET}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_beside(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); set WAGI_CACHE") from None
