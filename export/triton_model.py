"""The Python parts of a model in Triton, by wagi_rt; to_triton.py copies this file into the repository.

Triton starts one process for each instance of a part. Which part it is, and of what sizes, stands in its
config.pbtxt. A mistake in a request costs that request one line (INVALID_ARG, over HTTP 400).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import triton_python_backend_utils as triton

from wagi_rt import decoding, directions, face, pictures, worded
from wagi_rt.engines.base import EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.session import Session

Found = np.ndarray | UserError
Read = tuple[np.ndarray, list[np.ndarray | None]]  # of a request: images, and each one's step, if any
Value = TypeVar("Value")


class Part:
    """One part: `work` answers a request with its one output."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        """folder: that of the model's version."""
        self.config, self.folder = config, folder
        self.output = config["output"][0]["name"]

    def run(self, requests: list[Any]) -> list[Any]:
        """An answer to each, in order."""
        return [self.answer(attempt(self.work, request)) for request in requests]

    def work(self, request: Any) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def setting(self, name: str) -> str:
        return str(self.config["parameters"].get(name, {}).get("string_value", ""))

    def answer(self, found: Found) -> Any:
        """The output, or the error in one line."""
        if isinstance(found, UserError):
            error = triton.TritonError(str(found), triton.TritonError.INVALID_ARG)
            return triton.InferenceResponse(error=error)
        return triton.InferenceResponse([triton.Tensor(self.output, found)])


class Photo(Part):
    """Files of photos, [N, 1], as the model takes them, [N, 3, S, S] in [-1, 1]."""

    def work(self, request: Any) -> np.ndarray:
        files, size = given(request, "PHOTO").ravel(), self.config["output"][0]["dims"][-1]
        names = [f"photo {number}" for number in range(1, len(files) + 1)] if len(files) > 1 else ["photo"]
        read = [decoding.decode(file, name, size) for file, name in zip(files, names, strict=True)]
        return np.stack([pictures.prepare(one, size).image for one in read])


class Model(Part):
    """Whole inversions, and edits of pictures with strengths or a text, by a Session.

    Requests that waited together run together. If that fails each runs alone: one cannot fail the others.
    """

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        super().__init__(config, folder)
        threads = self.setting("threads")
        choice = EngineChoice(
            self.setting("backend"), self.setting("device"), int(threads) if threads else None
        )
        self.session = Session(folder / "bundle", choice)
        self.names = names(self.setting("directions"))
        self.texts = worded.of_session(self.session) if self.session.manifest.text else None
        if self.texts:
            self.texts.warm_up()

    def run(self, requests: list[Any]) -> list[Any]:
        read = [attempt(self.read, request) for request in requests]
        found = iter(self.together([one for one in read if not isinstance(one, UserError)]))
        return [self.answer(one if isinstance(one, UserError) else next(found)) for one in read]

    def read(self, request: Any) -> Read:
        """The images and steps of a request; UserError for what is no number, and for unknown words."""
        images = given(request, "image")
        rows = strengths(request, len(images), self.names)
        by_text = self.by_text(request, len(images))
        return images, [self.step(row, wanted) for row, wanted in zip(rows, by_text, strict=True)]

    def by_text(self, request: Any, count: int) -> list[face.Wanted]:
        """The edit by text of each picture; none where the text is empty, or left out."""
        texts, neutrals = strings(request, "TEXT"), strings(request, "NEUTRAL")
        amounts = triton.get_input_tensor_by_name(request, "TEXT_STRENGTH")
        far = amounts.as_numpy().ravel() if amounts else np.ones(count, np.float32)
        if self.texts is None or texts is None:
            if neutrals is not None or amounts:
                raise UserError("NEUTRAL, TEXT_STRENGTH: go with TEXT")
            return [[]] * count
        if not np.isfinite(far).all():
            raise UserError("TEXT_STRENGTH: must be finite numbers")
        found: list[face.Wanted] = []
        for number, (text, neutral) in enumerate(zip(texts, neutrals or [""] * count, strict=True)):
            try:
                wanted = [self.texts.direction(text, neutral or None)] if text else []
            except UserError as error:
                raise UserError(f"TEXT{f' {number + 1}' if count > 1 else ''}: {error}") from None
            found.append([(one, float(far[number])) for one in wanted])
        return found

    def step(self, row: np.ndarray, by_text: face.Wanted) -> np.ndarray | None:  # [D] => Manifest.latents
        """The step in the latents of one picture; None for its inversion."""
        named: dict[str | directions.Direction, float] = dict(zip(self.names, row.tolist(), strict=True))
        wanted = face.resolve(self.session, named) + by_text
        edits = any(strength for _, strength in wanted)
        return face.shift(self.session.manifest, wanted) if edits else None

    def together(self, read: list[Read]) -> Sequence[Found]:
        """The results of each request."""
        if not read:
            return []
        try:
            steps = [step for _, some in read for step in some]
            results = self.render(np.concatenate([images for images, _ in read]), steps)
        except UserError as error:
            return [error] if len(read) == 1 else [found for one in read for found in self.together([one])]
        return np.split(results, np.cumsum([len(images) for images, _ in read])[:-1])

    def render(self, images: np.ndarray, steps: list[np.ndarray | None]) -> np.ndarray:
        """[N, 3, S, S] => [N, 3, S, S], not clipped."""
        edited, results = np.array([step is not None for step in steps]), np.empty_like(images)
        if not edited.all():
            results[~edited] = self.session.restore(images[~edited]).image
        if edited.any():
            kept = self.session.encode(images[edited])
            wanted = np.stack([step for step in steps if step is not None])
            results[edited] = self.session.edit(kept, kept["ws"] + wanted).image
        return results

    def close(self) -> None:
        self.session.close()


class Shift(Part):
    """The latents of edits: ws [N, n_latent, style_dim] and strengths [N, D], by the files of directions."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        super().__init__(config, folder)
        self.names = names(self.setting("directions"))
        n_latent, shape = int(self.setting("n_latent")), tuple(config["output"][0]["dims"])
        units = [directions.read(folder / f"{name}{directions.SUFFIX}") for name in self.names]
        self.units = np.stack([unit.shift(1, n_latent, shape) for unit in units])

    def work(self, request: Any) -> np.ndarray:
        ws = given(request, "ws")
        return ws + np.tensordot(strengths(request, len(ws), self.names), self.units, 1)


class Picture(Part):
    """The files of results [N, 3, S, S]: PNG, or what FORMAT, [N, 1], asks for."""

    def work(self, request: Any) -> np.ndarray:
        results = given(request, "result")
        if not np.isfinite(results).all():
            raise UserError("the model produced values that are not numbers; check the model's training")
        wanted = triton.get_input_tensor_by_name(request, "FORMAT")
        formats = wanted.as_numpy().ravel() if wanted else [b"png"] * len(results)
        files = [
            pictures.encode(pixels, suffix(name))
            for pixels, name in zip(pictures.to_uint8(results), formats, strict=True)
        ]
        return np.array(files, np.object_)[:, None]


def attempt(work: Callable[[Any], Value], request: Any) -> Value | UserError:
    """The result of `work` for a request, or its error."""
    try:
        return work(request)
    except UserError as error:
        return error


def given(request: Any, name: str) -> np.ndarray:
    found: np.ndarray = triton.get_input_tensor_by_name(request, name).as_numpy()
    return found


def strings(request: Any, name: str) -> list[str] | None:
    """The texts of an optional input [N, 1]. UserError for what is no text."""
    found = triton.get_input_tensor_by_name(request, name)
    try:
        return [text.decode() for text in found.as_numpy().ravel()] if found else None
    except UnicodeDecodeError:
        raise UserError(f"{name}: is not UTF-8 text") from None


def names(setting: str) -> list[str]:
    """The directions in the order of their strengths."""
    return setting.split(",") if setting else []


def strengths(request: Any, count: int, names: list[str]) -> np.ndarray:
    """[N, D] of a request for N pictures; zero where it names none. UserError for what is no number."""
    found = triton.get_input_tensor_by_name(request, "STRENGTHS")
    wanted = found.as_numpy() if found else np.zeros((count, len(names)), np.float32)
    if not np.isfinite(wanted).all():
        raise UserError(f"STRENGTHS ({', '.join(names)}): must be finite numbers")
    return wanted


def suffix(name: bytes) -> str:
    """.png for b"png". UserError for what is not written."""
    found = f".{name.decode(errors='replace').lower().removeprefix('.')}"
    if found not in pictures.WRITTEN:
        known = ", ".join(key[1:] for key in pictures.WRITTEN)
        raise UserError(f"FORMAT: must be one of {known}")
    return found


PARTS: dict[str, type[Part]] = {"photo": Photo, "model": Model, "shift": Shift, "picture": Picture}


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.part = PARTS[config["parameters"]["part"]["string_value"]](config, folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        return self.part.run(requests)

    def finalize(self) -> None:
        self.part.close()
