"""Edits by text: the difference of two texts as a step of the generator's styles (StyleCLIP's global way)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from wagi_rt.chain import Chain, Step
from wagi_rt.directions import STYLE, Direction
from wagi_rt.errors import UserError, printable
from wagi_rt.texts import BytePairs, Words, read_merges

if TYPE_CHECKING:
    from wagi_rt.entries import Text
    from wagi_rt.manifest import Manifest
    from wagi_rt.session import Session

GRAPH, NEUTRAL, THRESHOLD = "text", "a face", 0.1
KINDS = ("words", "pairs")
# The step along the texts' difference that strength 1 asks for, and the most of any style, in deviations.
_STEP, _MOST = 0.7, 4.0
_MOST_LETTERS = 60

Run = Callable[[str, Mapping[str, np.ndarray]], dict[str, np.ndarray]]  # of an engine


def tokens(manifest: Manifest, texts: list[str]) -> np.ndarray:  # => [N, context] float32
    """The texts as the text graph reads them. UserError (status 2) without a text model, for other words."""
    found = _model(manifest)
    path = manifest.folder / found.vocabulary
    if found.tokens == "words":
        read: Words | BytePairs = Words(path.read_text(encoding="utf-8").split(), found.context)
    else:
        read = BytePairs(read_merges(path), found.context)
    return np.stack([read(text) for text in texts]).astype(np.float32)


def _model(manifest: Manifest) -> Text:
    if manifest.text is None:
        what = f"{manifest.name} holds no text model"
        raise UserError(f"text: {what}; use --set, or export it with --text (export/to_onnx.py)", status=2)
    return manifest.text


def direction(
    manifest: Manifest, run: Run, text: str, neutral: str = NEUTRAL, threshold: float = THRESHOLD
) -> Direction:
    """The direction in style space from one text to another.

    run: the text graph's engine. threshold: styles whose share is below this part of the largest stay.
    UserError (status 2) without a text model, for other words than it knows and for texts that mean the same.
    """
    if not 0 <= threshold < 1:
        raise UserError(f"text threshold {threshold:g}: must be from 0 to below 1", status=2)
    features = run(GRAPH, {"tokens": tokens(manifest, [text, neutral])})["features"].astype(np.float64)
    change = np.subtract(*(features / np.linalg.norm(features, axis=1, keepdims=True)))
    length = np.linalg.norm(change)
    if not length > 1e-3:
        raise UserError(f"text: '{_short(text)}' and '{_short(neutral)}' mean the same to this model", 2)
    deviation, matrix = relevance(manifest)
    step = matrix @ (change / length) * _STEP
    step[np.abs(step) < threshold * np.abs(step).max()] = 0
    step *= min(1, _MOST / np.abs(step).max())
    unit = f"{_short(text)}, against {_short(neutral)}"
    vector = (step * deviation).astype(np.float32)
    found = Direction("text", vector, unit, generator=manifest.generator, space=STYLE)
    return found._replace(note=_model(manifest).name)


def of_session(
    session: Session, text: str, neutral: str | None = None, threshold: float | None = None
) -> Direction:
    """The direction, by the session's engine; TensorRT has no plan of the text graph."""
    if session.backend_name == "trt":
        return found_alone(session.manifest, "onnx", text, neutral, threshold)
    given = NEUTRAL if neutral is None else neutral, THRESHOLD if threshold is None else threshold
    return direction(session.manifest, session.engine.run, text, *given)


def found_alone(
    manifest: Manifest, backend: str, text: str, neutral: str | None, threshold: float | None
) -> Direction:
    """The direction without a session: the text graph is run by OpenVINO if that is the backend, else by ONNX
    Runtime, on the CPU. Words are checked before an engine opens."""
    from wagi_rt import backends
    from wagi_rt.engines.base import EngineChoice

    neutral = NEUTRAL if neutral is None else neutral
    tokens(manifest, [text, neutral])
    graph = manifest.graphs[GRAPH]
    chain = Chain.of(Step(GRAPH, tuple(graph.inputs), tuple(graph.outputs)))
    choice = EngineChoice("openvino" if backend == "openvino" else "onnx", threads=1)
    backends.check(choice)
    with backends.open_engine(manifest, choice, chain)[1] as engine:
        return direction(manifest, engine.run, text, neutral, THRESHOLD if threshold is None else threshold)


def relevance(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """(deviation [C], matrix [C, F]) of the bundle. UserError where they do not fit it."""
    path = manifest.folder / _model(manifest).relevance
    try:
        table = np.load(path, allow_pickle=False).astype(np.float64)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); export the bundle again") from None
    features = manifest.graphs[GRAPH].outputs["features"][0]
    if table.shape != (manifest.styles, features + 1) or not np.isfinite(table).all():
        wanted = [manifest.styles, features + 1]
        raise UserError(f"{path}: must be finite numbers {wanted}; export the bundle again")
    return table[:, 0], table[:, 1:]


def _short(text: str) -> str:
    return printable(text)[:_MOST_LETTERS]
