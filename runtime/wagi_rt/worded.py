"""Edits by text: the difference of two texts as a step of the generator's styles (StyleCLIP's global way)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from wagi_rt.chain import Chain, Step
from wagi_rt.directions import STYLE, Direction, between_texts
from wagi_rt.errors import UserError, printable
from wagi_rt.texts import BytePairs, Words, read_merges

if TYPE_CHECKING:
    from wagi_rt.engines.base import Engine
    from wagi_rt.manifest import Manifest
    from wagi_rt.session import Session

GRAPH, NEUTRAL, THRESHOLD = "text", "a face", 0.1
KINDS = ("words", "pairs")
_MOST_LETTERS = 60  # of a text in a message
_LONGEST = 1000  # letters of a text: far more than a model reads, and strangers send them to servers
_KEPT = 256  # directions, some kilobytes each

Run = Callable[[str, Mapping[str, np.ndarray]], dict[str, np.ndarray]]  # of an engine


class Texts:
    """A bundle's text model: its files are read once, and directions that were asked for lately are kept.

    Threads may share it. UserError (status 2) for a bundle that has none.
    """

    def __init__(self, manifest: Manifest, run: Run) -> None:
        """run: the text graph's engine."""
        if manifest.text is None:
            what = f"{manifest.name} holds no text model"
            raise UserError(f"text: {what}; use --set, or export it with --text (export/to_onnx.py)", 2)
        self.manifest, self.model, self._run = manifest, manifest.text, run
        self._kept: dict[tuple[str, str, float], Direction] = {}

    def direction(self, text: str, neutral: str | None = None, threshold: float | None = None) -> Direction:
        """The direction in style space from one text (None: NEUTRAL) to another.

        threshold: styles whose share is below this part of the largest stay (None: THRESHOLD). UserError
        (status 2) for other words than the model knows and for texts that mean the same.
        """
        neutral = NEUTRAL if neutral is None else neutral
        asked = text, neutral, THRESHOLD if threshold is None else threshold
        if (found := self._kept.get(asked)) is None:
            found = self._direction(*asked)
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[asked] = found
        return found

    def check(self, texts: Sequence[str], threshold: float | None = None) -> np.ndarray:
        """The texts as the text graph reads them, [N, context] float32. UserError as for `direction`."""
        if threshold is not None and not 0 <= threshold < 1:
            raise UserError(f"text threshold {threshold:g}: must be from 0 to below 1", status=2)
        for text in texts:
            if len(text) > _LONGEST:
                raise UserError(f"a text of {len(text)} letters, the most are {_LONGEST}; say it shorter", 2)
        return np.stack([self._reader(text) for text in texts]).astype(np.float32)

    def warm_up(self) -> None:
        """Read the files and run once, so that the first text finds everything set up."""
        self._run(GRAPH, {"tokens": np.zeros((2, self._reader.context), np.float32)})
        self.relevance  # noqa: B018 - reads it

    def _direction(self, text: str, neutral: str, threshold: float) -> Direction:
        tokens = self.check([text, neutral], threshold)
        features = self._run(GRAPH, {"tokens": tokens})["features"]
        vector = between_texts(features[0], features[1], self.relevance, threshold)
        if vector is None:
            raise UserError(f"text: '{_short(text)}' and '{_short(neutral)}' mean the same to this model", 2)
        unit = f"{_short(text)}, against {_short(neutral)}"
        found = Direction("text", vector, unit, generator=self.manifest.generator, space=STYLE)
        return found._replace(note=self.model.name)

    @cached_property
    def _reader(self) -> Words | BytePairs:
        path = self.manifest.folder / self.model.vocabulary
        if self.model.tokens == "words":
            return Words(path.read_text(encoding="utf-8").split(), self.model.context)
        return BytePairs(read_merges(path), self.model.context)

    @cached_property
    def relevance(self) -> np.ndarray:
        """The bundle's table [C, 1 + F], as `between_texts` reads it. UserError where it does not fit."""
        path = self.manifest.folder / self.model.relevance
        try:
            table = np.load(path, allow_pickle=False).astype(np.float64)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}); export the bundle again") from None
        features = self.manifest.graphs[GRAPH].outputs["features"][0]
        if table.shape != (self.manifest.styles, features + 1) or not np.isfinite(table).all():
            wanted = [self.manifest.styles, features + 1]
            raise UserError(f"{path}: must be finite numbers {wanted}; export the bundle again")
        return table


def of_session(session: Session) -> Texts:
    """The text model by the session's engine; TensorRT has no plan of the text graph."""
    if session.backend_name == "trt":
        return alone(session.manifest, "onnx")
    return Texts(session.manifest, session.engine.run)


def alone(manifest: Manifest, backend: str) -> Texts:
    """The text model without a session: its graph is run by OpenVINO if that is the backend, else by ONNX
    Runtime, on the CPU. The engine opens when a text first gets there, after its words were checked."""

    @lru_cache(maxsize=1)
    def engine() -> Engine:
        from wagi_rt import backends
        from wagi_rt.engines.base import EngineChoice

        graph = manifest.graphs[GRAPH]
        chain = Chain.of(Step(GRAPH, tuple(graph.inputs), tuple(graph.outputs)))
        choice = EngineChoice("openvino" if backend == "openvino" else "onnx", threads=1)
        backends.check(choice)
        return backends.open_engine(manifest, choice, chain)[1]

    return Texts(manifest, lambda graph, inputs: engine().run(graph, inputs))


def _short(text: str) -> str:
    return printable(text)[:_MOST_LETTERS]
