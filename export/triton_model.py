"""The Python parts of a model in Triton, by wagi_rt; to_triton.py copies this file into the repository.

Triton starts one process for each instance of a part. Which part it is, and of what sizes, stands in its
config.pbtxt. A mistake in a request costs that request one line (INVALID_ARG, over HTTP 400).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from wagi_rt import decoding, directions, face, pictures
from wagi_rt.engines.base import EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.session import Session

Work = Callable[[Any], np.ndarray]


class Part:
    """One part: `work` answers a request with its one output."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        """folder: that of the model's version."""
        self.config, self.folder = config, folder
        self.output = config["output"][0]["name"]

    def run(self, requests: list[Any]) -> list[Any]:
        """An answer to each, in order."""
        return [self.answer(self.work, request) for request in requests]

    def work(self, request: Any) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def setting(self, name: str) -> str:
        return str(self.config["parameters"].get(name, {}).get("string_value", ""))

    def answer(self, work: Work, request: Any) -> Any:
        """The output of `work`, or its error in one line."""
        try:
            return triton.InferenceResponse([triton.Tensor(self.output, work(request))])
        except UserError as error:
            return triton.InferenceResponse(
                error=triton.TritonError(str(error), triton.TritonError.INVALID_ARG)
            )


class Photo(Part):
    """Files of photos, [N, 1], as the model takes them, [N, 3, S, S] in [-1, 1]."""

    def work(self, request: Any) -> np.ndarray:
        files, size = given(request, "PHOTO").ravel(), self.config["output"][0]["dims"][-1]
        names = [f"photo {number}" for number in range(1, len(files) + 1)] if len(files) > 1 else ["photo"]
        read = [decoding.decode(file, name, size) for file, name in zip(files, names, strict=True)]
        return np.stack([pictures.prepare(one, size).image for one in read])


class Model(Part):
    """Whole inversions, and edits where a picture's strengths are not all zero, by a Session.

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

    def run(self, requests: list[Any]) -> list[Any]:
        try:
            found = iter(self.together(requests))
        except UserError:
            return super().run(requests)
        return [self.answer(lambda _: next(found), request) for request in requests]

    def work(self, request: Any) -> np.ndarray:
        return self.together([request])[0]

    def together(self, requests: list[Any]) -> list[np.ndarray]:
        images = [given(request, "image") for request in requests]
        wanted = np.concatenate(
            [
                strengths(request, len(part), self.names)
                for request, part in zip(requests, images, strict=True)
            ]
        )
        results = self.render(np.concatenate(images), wanted)
        return np.split(results, np.cumsum([len(part) for part in images])[:-1])

    def render(self, images: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """[N, 3, S, S] and [N, D] => [N, 3, S, S], not clipped."""
        edited, results = wanted.any(axis=1), np.empty_like(images)
        if not edited.all():
            results[~edited] = self.session.restore(images[~edited]).image
        if edited.any():
            kept = self.session.encode(images[edited])
            steps = [self.step(row) for row in wanted[edited]]
            results[edited] = self.session.edit(kept, kept["ws"] + np.stack(steps)).image
        return results

    def step(self, row: np.ndarray) -> np.ndarray:  # [D] => [n_latent, style_dim]
        named: dict[str | directions.Direction, float] = dict(zip(self.names, row.tolist(), strict=True))
        return face.shift(self.session.manifest, face.resolve(self.session, named))

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


def given(request: Any, name: str) -> np.ndarray:
    found: np.ndarray = triton.get_input_tensor_by_name(request, name).as_numpy()
    return found


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
