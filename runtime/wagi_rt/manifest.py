"""A bundle is a folder with manifest.json and ONNX graphs. Read, check, verify.

Everything a bundle can have wrong is found here, before an engine sees it, and becomes one UserError line.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from wagi_rt import integrity
from wagi_rt.entries import Manifest as Manifest
from wagi_rt.errors import UserError
from wagi_rt.fields import parse
from wagi_rt.files import file_sha256 as file_sha256
from wagi_rt.integrity import REMEDY as REMEDY
from wagi_rt.schema import Checker


def embedded() -> Path:
    """The bundle that comes with the package."""
    return Path(__file__).resolve().parent / "demo"


def read(bundle: str | os.PathLike[str] | None = None, thorough: bool = False) -> Manifest:
    """Read and check a bundle folder (or its manifest.json), the hash of every file included."""
    folder = embedded() if bundle is None else Path(bundle)
    folder = folder.parent if folder.name == "manifest.json" else folder
    path = folder / "manifest.json"
    if bundle is None and not os.path.isfile(path):
        raise UserError("this installation holds no embedded model; name a bundle with -m BUNDLE", status=2)
    if not os.path.exists(folder):
        raise UserError(f"{folder}: bundle not found; name a folder written by export/to_onnx.py")
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: not a bundle, which is a folder with manifest.json and ONNX graphs")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{folder}: not a bundle, manifest.json is missing; {REMEDY}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    data = parse(raw, path)
    manifest = Checker(path).manifest(data, folder, hashlib.sha256(raw).hexdigest())
    graphs = [graph.file for graph in manifest.graphs.values()]
    integrity.check(folder, manifest.hashes | manifest.packed, graphs, thorough)
    return manifest
