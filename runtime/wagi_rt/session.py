"""Bundle -> backend -> images: the whole inversion with numpy between the graphs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from wagi_rt import image as pictures
from wagi_rt import manifest as manifests
from wagi_rt.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    Source = str | os.PathLike[str] | bytes | Image | np.ndarray

BACKENDS = ("onnx",)


class Backend(Protocol):
    """What runs the graphs; a context manager."""

    device: str

    @property
    def version(self) -> str: ...

    def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...


class Inversion(NamedTuple):
    """What the graphs yield; float32, images not clipped. R is the manifest's `resolution`."""

    ws: np.ndarray  # [N, n_latent, style_dim]
    naive: np.ndarray  # [N, 3, S, S]
    residual: np.ndarray  # [N, 3, R, R]
    aligned: np.ndarray  # [N, 3, R, R]
    image: np.ndarray  # [N, 3, S, S]


@dataclass(frozen=True)
class Result:
    """One inverted picture; the three images are [S, S, 3] uint8, `ws` is [n_latent, style_dim] float32."""

    image: np.ndarray
    naive: np.ndarray
    input: np.ndarray
    ws: np.ndarray
    notes: list[str] = field(default_factory=list)


class Session:
    """An open bundle. `Session(bundle).invert(images)`, also as a context manager."""

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        backend: str = "onnx",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """See wagi_rt.load."""
        if backend not in BACKENDS:
            raise UserError(
                f"backend {backend!r} is not in this version; it has: {', '.join(BACKENDS)}", status=2
            )
        if threads is not None and threads < 1:
            raise UserError(f"--threads {threads}: must be at least 1", status=2)
        from wagi_rt.ort import OrtBackend, import_onnxruntime, parse_device

        parse_device(device)
        import_onnxruntime()
        self.manifest = manifests.read(bundle)
        self.backend: Backend = OrtBackend(self.manifest, device, threads)
        self.size, self.resolution = self.manifest.size, self.manifest.resolution

    @property
    def description(self) -> str:
        """Model, engine, device and precision that really run."""
        m = self.manifest
        return (
            f"{m.name} ({m.size} px) with ONNX Runtime {self.backend.version} "
            f"on {self.backend.device}, {m.precision}"
        )

    def invert(
        self, images: Source | Iterable[Source], batch: int | None = None, fit: str = "crop"
    ) -> list[Result]:
        """Invert one or many images; always a list, in input order.

        images: paths, file bytes, PIL images, uint8 [H, W, 3] or [N, H, W, 3], or float [3, S, S] or
        [N, 3, S, S] in [-1, 1]. `batch` of them run together (default all). Raises UserError for the first
        one that cannot be read.
        """
        prepared = [self.prepare(item, fit) for item in _items(images)]
        step = batch or len(prepared) or 1
        results = []
        for start in range(0, len(prepared), step):
            part = prepared[start : start + step]
            inversion = self.run(np.stack([pixels for pixels, _ in part]))
            results += self.results(inversion, part)
        return results

    def prepare(self, item: Source, fit: str = "crop", name: str = "") -> tuple[np.ndarray, list[str]]:
        """One image of any accepted kind => (float32 [3, S, S] in [-1, 1], notes on how it was read)."""
        from PIL.Image import Image, fromarray

        if fit not in pictures.FITS:
            raise UserError(f"fit {fit!r} is unknown; use {', '.join(pictures.FITS)}", status=2)
        if isinstance(item, np.ndarray):
            if np.issubdtype(item.dtype, np.floating):
                return self._check_float(item), []
            if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
                raise UserError(
                    f"an array image must be uint8 [H, W, 3], this is {item.dtype} {list(item.shape)}"
                )
            item = fromarray(item)
        if isinstance(item, Image):
            picture = pictures.from_pillow(item)
        else:
            picture = pictures.decode(item, name, least=self.size)
        pixels = pictures.fit_square(picture, self.size, fit)
        return pictures.to_float(pixels[None])[0], picture.notes

    def run(self, images: np.ndarray) -> Inversion:  # [N, 3, S, S] float32 in [-1, 1]
        """Encode, reconstruct, align the residual, decode with its gates (the paper's section 3.2).

        Like wagi.model.WaGI.invert: the generator below the first fusion point runs once.
        """
        run, resolution = self.backend.run, self.resolution
        image_r = pictures.area_resize(images, resolution)
        ws = run("encoder", {"image_r": image_r})["ws"]
        below = run("prefix", {"ws": ws})
        naive = run("naive", {"ws": ws, **below})["image"]
        naive_r = pictures.area_resize(naive.clip(-1, 1), resolution)
        residual = image_r - naive_r
        aligned = run("align", {"residual": residual, "naive_r": naive_r})["aligned"]
        image = run("decode", {"ws": ws, **below, "aligned": aligned})["image"]
        if not (np.isfinite(naive).all() and np.isfinite(image).all()):
            advice = (
                "use an fp32 bundle" if self.manifest.precision == "fp16" else "check the model's training"
            )
            raise UserError(f"the model produced values that are not numbers; {advice}")
        return Inversion(ws, naive, residual, aligned, image)

    def results(self, inversion: Inversion, prepared: list[tuple[np.ndarray, list[str]]]) -> list[Result]:
        """The batch as pictures, beside the inputs that `prepare` gave."""
        images, naives = pictures.to_uint8(inversion.image), pictures.to_uint8(inversion.naive)
        inputs = pictures.to_uint8(np.stack([pixels for pixels, _ in prepared]))
        return [
            Result(image, naive, source, ws, notes)
            for image, naive, source, ws, (_, notes) in zip(
                images, naives, inputs, inversion.ws, prepared, strict=True
            )
        ]

    def close(self) -> None:
        self.backend.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_float(self, item: np.ndarray) -> np.ndarray:
        if item.shape != (3, self.size, self.size):
            raise UserError(
                f"a float image must be [3, {self.size}, {self.size}], this is {list(item.shape)}"
            )
        if not (np.abs(item) <= 1.001).all():  # also refuses NaN
            raise UserError("a float image must be in [-1, 1]")
        return np.ascontiguousarray(item, dtype=np.float32)


def _items(images: Source | Iterable[Source]) -> list[Source]:
    """The images one by one, whether one or many were given."""
    from PIL.Image import Image

    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, str | bytes | os.PathLike | Image):
        return [images]
    return [item for source in images for item in _items(source)]
