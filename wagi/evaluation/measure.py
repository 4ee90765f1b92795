"""One evaluation from start to end, as a function."""

import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from wagi import __version__
from wagi.errors import UserError
from wagi.evaluation.extractors import Extractors
from wagi.evaluation.inputs import Inputs
from wagi.evaluation.inverters import Inverted, Inverter
from wagi.evaluation.protocols import Protocol
from wagi.evaluation.report import SCHEMA, describe
from wagi.evaluation.scores import Scores
from wagi.features import FeatureFiles

LIBRARIES = ("torch", "torchmetrics", "numpy", "pillow")


def evaluate(
    inverter: Inverter,
    data: str,
    protocol: Protocol,
    files: FeatureFiles | None = None,
    batch: int = 8,
    limit: int = 0,
    device: str = "cpu",
    command: str = "",
    progress: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Invert every picture of `data` and measure it => (report, one row per picture).

    batch: pictures measured together. device: where the metrics run. The report holds protocol, model, data,
    results, bands, not_measured, notes, versions, command, created. Raises UserError.
    """
    if protocol.size > inverter.size:
        raise UserError(
            f"--protocol {protocol.name}: measures at {protocol.size} px, the model has {inverter.size} px; "
            "use --protocol portraits, which measures at the model's own size",
            2,
        )
    extractors = Extractors(protocol, inverter.size, files or FeatureFiles(), device)
    scores = Scores(protocol, inverter.size, extractors, device)
    inputs = Inputs(data, inverter.size, limit)
    failed: dict[str, str] = {}
    for part in _batches(inverter, inputs, batch, failed, progress):
        scores.add(*zip(*part, strict=True))
    report = {
        "schema": SCHEMA,
        "protocol": describe(protocol, inverter.size),
        "model": inverter.facts,
        "data": {
            "source": data,
            "limit": limit,
            "count": len(scores.names),
            "skipped": inputs.skipped | failed,
        },
        **scores.results(),
        "notes": [*filter(None, [inputs.about]), *_notes(scores)],
        "weights": extractors.weights,
        "versions": _versions(),
        "command": command,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return report, scores.rows()


def _batches(
    inverter: Inverter, inputs: Inputs, batch: int, failed: dict[str, str], progress: bool
) -> Iterator[list[tuple[str, np.ndarray, Inverted]]]:
    """Inverted pictures with their names, in lists of at most `batch`; failures go to `failed`."""
    from tqdm import tqdm

    ready: list[tuple[str, np.ndarray, Inverted]] = []
    with tqdm(total=len(inputs), unit="image", disable=not progress, file=sys.stderr) as bar:
        for chunk in inputs.chunks(inverter.chunk):
            results = inverter.invert([pixels for _, pixels in chunk])
            for (name, pixels), result in zip(chunk, results, strict=True):
                bar.update()
                if isinstance(result, str):
                    failed[name] = result
                    print(f"skipped {name} ({result})", file=sys.stderr)
                    continue
                ready.append((name, pixels, result))
                if len(ready) == batch:
                    yield ready
                    ready = []
    if ready:
        yield ready


def _notes(scores: Scores) -> list[str]:
    """Warnings without which the numbers would mislead."""
    return [
        f"{name}: {distance.count} images for {distance.dimensions} features; the covariances are singular, "
        "and the value compares only with others of as many images"
        for name, distance in scores.distances.items()
        if distance.count <= distance.dimensions
    ]


def _versions() -> dict[str, str]:
    found = {"wagi": __version__, "python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
