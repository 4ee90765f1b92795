"""ONNX Runtime sessions optimised ahead of time: a cold start then reads the optimised graph.

Loading is mostly graph optimisation and re-ordering of weights (benchmarks/README.md), and their result
depends only on the files, the version and the CPU. So the first session of each graph saves it in
cache/onnx/KEY/, and later ones map its weights into memory as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from wagi_rt import files
from wagi_rt.manifest import Manifest

GRAPH, WEIGHTS = "graph.onnx", "weights.bin"
_FORMAT = 2
# (graph file, optimised already, save the optimised graph here) -> session; raises what ONNX Runtime raises.
Create = Callable[[Path, bool, Path | None], Any]


def open_session(manifest: Manifest, graph: str, version: str, create: Create) -> Any:
    """A session of one graph on the CPU, from the cache where possible; fills the cache where not.

    A cached file that was damaged or does not load is thrown away, and a cache that cannot be written is done
    without.
    """
    source = manifest.folder / manifest.graphs[graph].file
    model = manifest.graphs[graph].sha256, sorted(manifest.hashes.values())
    parts = (_FORMAT, version, files.processor(), *model)
    place = files.root() / "onnx" / files.key(*parts)
    if all(files.is_sealed(path) for path in _contents(place)):
        try:
            session = create(place / GRAPH, True, None)
            with suppress(OSError):
                os.utime(place)
            return session
        except Exception:  # whatever ONNX Runtime raises for what it cannot use
            pass
    _remove(place)
    widened = 2 if manifest.precision == "fp16-weights" else 1  # saved as the FP32 that is computed with
    if not files.has_room(widened * manifest.total_bytes):
        return create(source, False, None)
    return _build(source, place, create)


def _build(source: Path, place: Path, create: Create) -> Any:
    beside = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True, exist_ok=True)
    except OSError:
        return create(source, False, None)
    try:
        session = create(source, False, beside / GRAPH)
    except Exception:  # the disk is full, or the graph is broken, which this raises again
        _remove(beside)
        return create(source, False, None)
    try:
        for path in _contents(beside):
            files.seal(path)
        os.replace(beside, place)
        files.prune(place.parent)
    except OSError:  # another process was faster
        _remove(beside)
    return session


def _contents(entry: Path) -> list[Path]:
    """The graph and, where it has any, its weights."""
    return [entry / GRAPH, *([entry / WEIGHTS] if os.path.exists(entry / WEIGHTS) else [])]


def _remove(folder: Path) -> None:
    import shutil  # see wagi_rt.files.has_room

    shutil.rmtree(folder, ignore_errors=True)
