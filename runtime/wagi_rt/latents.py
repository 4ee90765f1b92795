"""Opened pictures on disk: what later edits need, so that they run without the encoder.

A file is one picture, an .npz of `ws` [n_latent, D], `naive_r` [3, R, R] and `image_r` [3, R, R] (of a model
with full detail `image` [3, S, S]), all float32, and `about`, JSON: {"schema", "latent_space", "notes",
"placement"}. What can be computed again is not kept.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any

import numpy as np

from wagi_rt.chain import Tensors, reduced
from wagi_rt.errors import UserError
from wagi_rt.manifest import Manifest
from wagi_rt.pictures import Placement, Prepared

SUFFIX, SCHEMA = ".npz", 1
_HEADER, _MOST_WORDS = 4096, 64_000  # bytes that an array has beside its values; of `about`
_REMEDY = "make it again with `wagi-rt invert --latents`"


def content(manifest: Manifest, kept: Tensors, prepared: Prepared) -> bytes:
    """A picture as the bytes of its file; of `kept`, a batch of one, ws and naive_r (see Session.encode)."""
    about = {
        "schema": SCHEMA,
        "latent_space": manifest.latent_space,
        "notes": prepared.notes,
        "placement": prepared.placement._asdict() if prepared.placement else None,
    }
    words = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    arrays = {name: kept[name][0] for name in ("ws", "naive_r")}
    side = _shapes(manifest)[_picture(manifest)][-1]
    arrays[_picture(manifest)] = reduced(prepared.image, side, manifest.pil)
    np.savez(buffer, about=words, **arrays)
    return buffer.getvalue()


def read(path: str | os.PathLike[str], manifest: Manifest) -> tuple[Tensors, Prepared]:
    """The start of edits, as `content` kept it => (a batch of one for Session.resume, the picture)."""
    shapes = _shapes(manifest)
    try:
        with zipfile.ZipFile(path) as archive:
            most = {f"{name}.npy": 4 * int(np.prod(shape)) for name, shape in shapes.items()}
            _require_small(archive, {**most, "about.npy": _MOST_WORDS}, path)
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            _require_same_model(about, manifest, path)
            kept = {name: arrays[name] for name in shapes}
            found = about["placement"]
            place = Placement(tuple(found["photo"]), tuple(map(tuple, found["corners"]))) if found else None
            prepared = Prepared(kept[_picture(manifest)], [str(note) for note in about["notes"]], place)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except Exception as error:  # zipfile and numpy raise anything for damaged files
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: not a picture kept by --latents ({detail}); {_REMEDY}") from None
    for name, shape in shapes.items():
        array = kept[name]
        if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            raise UserError(f"{path}: `{name}` must be finite float32 {list(shape)}; {_REMEDY}")
    kept["image_r"] = reduced(prepared.image, manifest.resolution, manifest.pil)
    return {name: array[None] for name, array in kept.items()}, prepared


def _picture(manifest: Manifest) -> str:
    """The size of the input that edits read."""
    return "image" if manifest.full_detail else "image_r"


def _shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    return {name: manifest.shapes[name] for name in ("ws", "naive_r", _picture(manifest))}


def _require_small(archive: zipfile.ZipFile, most: dict[str, int], path: object) -> None:
    """Before anything is unpacked: a small file can claim to hold gigabytes."""
    sizes = {item.filename: item.file_size for item in archive.infolist()}
    if set(sizes) != set(most):
        raise UserError(f"{path}: not a picture kept by --latents; {_REMEDY}")
    if any(sizes[name] > most[name] + _HEADER for name in most):
        raise UserError(
            f"{path}: was kept for another model, its arrays have other sizes; {_REMEDY}", status=2
        )


def _require_same_model(about: dict[str, Any], manifest: Manifest, path: object) -> None:
    if about["schema"] != SCHEMA:
        raise UserError(f"{path}: schema {about['schema']} is unknown; {_REMEDY}")
    if about["latent_space"] != manifest.latent_space:
        what = "its latents are of another model, in which they mean something else"
        raise UserError(f"{path}: {what}; name that model with -m, or {_REMEDY}", status=2)
