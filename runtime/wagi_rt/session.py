"""Bundle -> backend -> images: the fused pipeline, or the separate graphs with numpy between them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wagi_rt import backends, decoding, pictures
from wagi_rt import manifest as manifests
from wagi_rt.errors import UserError
from wagi_rt.pictures import Prepared

if TYPE_CHECKING:
    from PIL.Image import Image

    Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image | np.ndarray


class Inversion(NamedTuple):
    """What the separate graphs yield; float32, images not clipped. R is the manifest's `resolution`."""

    ws: np.ndarray  # [N, n_latent, style_dim]
    naive: np.ndarray  # [N, 3, S, S]
    residual: np.ndarray  # [N, 3, R, R]
    aligned: np.ndarray  # [N, 3, R, R]
    image: np.ndarray  # [N, 3, S, S]


class Restored(NamedTuple):
    """What an inversion is for; float32. `image` and `naive` (None: not asked for) are not clipped."""

    ws: np.ndarray  # [N, n_latent, style_dim]
    naive_r: np.ndarray  # [N, 3, R, R] in [-1, 1]: the naive inversion as the residual sees it
    image: np.ndarray  # [N, 3, S, S]
    naive: np.ndarray | None = None  # [N, 3, S, S]


class Result(NamedTuple):
    """One inverted picture. Images are uint8: `image` and `input` [S, S, 3], `naive_r` [R, R, 3], and, in a
    session opened with naive=True, `naive` [S, S, 3]. `ws` is [n_latent, style_dim] float32."""

    image: np.ndarray
    naive_r: np.ndarray
    input: np.ndarray
    ws: np.ndarray
    naive: np.ndarray | None = None
    notes: Sequence[str] = ()


class Session:
    """An open bundle. `Session(bundle).invert(images)`, also as a context manager."""

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        backend: str = "onnx",
        device: str | None = None,
        threads: int | None = None,
        precision: str | None = None,
        naive: bool = False,
    ) -> None:
        """See wagi_rt.load."""
        if threads is not None and threads < 1:
            raise UserError(f"--threads {threads}: must be at least 1", status=2)
        backends.check(backend, device, precision)
        self.manifest = manifests.read(bundle)
        self.naive = naive
        options: dict[str, Any] = {"pieces": naive, "precision": precision}
        self.backend_name, self.backend, self.passed_over = backends.open_backend(
            backend, self.manifest, device, threads, **options
        )
        self.size, self.resolution = self.manifest.size, self.manifest.resolution
        limit = getattr(self.backend, "limit_psnr_db", None)
        if limit is not None:
            from wagi_rt import probes

            probes.require(self, limit)

    @property
    def precision(self) -> str:
        """The arithmetic that really runs."""
        return str(getattr(self.backend, "precision", self.manifest.precision))

    @property
    def description(self) -> str:
        """Model, engine, device and precision that really run."""
        title = backends.BACKENDS[self.backend_name].title
        return (
            f"{self.manifest.name} ({self.size} px) with {title} {self.backend.version} "
            f"on {self.backend.device}, {self.precision}"
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
            restored = self.restore(np.stack([one.image for one in part]))
            results += self.results(restored, part)
        return results

    def prepare(self, item: Source, fit: str = "crop", name: str = "") -> Prepared:
        """One image of any accepted kind, ready for `restore`; `name` is how errors call it."""
        from PIL.Image import Image, fromarray

        if fit not in pictures.FITS:
            raise UserError(f"fit {fit!r} is unknown; use {', '.join(pictures.FITS)}", status=2)
        if isinstance(item, bytearray | memoryview):
            item = bytes(item)
        if not isinstance(item, str | os.PathLike | bytes | Image):
            item = _array(item)
            if np.issubdtype(item.dtype, np.floating):
                return Prepared(self._check_float(item))
            if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or 0 in item.shape:
                raise UserError(
                    f"an array image must be uint8 [H, W, 3], this is {item.dtype} {list(item.shape)}"
                )
            item = fromarray(item)
        if isinstance(item, Image):
            picture = decoding.from_pillow(item, self.size, fit)
        else:
            picture = decoding.decode(item, name, self.size, fit)
        return pictures.prepare(picture, self.size, fit)

    def restore(self, images: np.ndarray) -> Restored:  # [N, 3, S, S] float32 in [-1, 1]
        """The inversion in the fastest way that gives what is wanted.

        That is the backend's own chain, or the bundle's pipeline graph where the manifest names it as the
        default; the separate graphs where neither is there or the naive image is wanted at full size.
        """
        if not self.naive and hasattr(self.backend, "run_pipeline"):
            found = self.backend.run_pipeline(images)
        elif not self.naive and self.manifest.default == manifests.PIPELINE:
            found = self.backend.run(manifests.PIPELINE, {"image": images})
        else:
            inversion = self.run(images)
            naive_r = pictures.area_resize(inversion.naive.clip(-1, 1), self.resolution)
            return Restored(inversion.ws, naive_r, inversion.image, inversion.naive if self.naive else None)
        self._require_numbers(found["naive_r"], found["result"])
        return Restored(found["ws"], found["naive_r"], found["result"])

    def run(self, images: np.ndarray) -> Inversion:  # [N, 3, S, S] float32 in [-1, 1]
        """Encode, reconstruct, align the residual, decode with its gates (the paper's section 3.2).

        Like wagi.model.WaGI.invert, by the separate graphs, with everything that lies between them.
        """
        run: Any = getattr(self.backend, "run_resident", self.backend.run)
        resolution = self.resolution
        image_r = pictures.area_resize(images, resolution)
        ws = run("encoder", {"image_r": image_r})["ws"]
        below = run("prefix", {"ws": ws})
        naive = run("naive", {"ws": ws, **below})["image"]
        naive_r = pictures.area_resize(naive.clip(-1, 1), resolution)
        residual = image_r - naive_r
        aligned = run("align", {"residual": residual, "naive_r": naive_r})["aligned"]
        image = run("decode", {"ws": ws, **below, "aligned": aligned})["image"]
        self._require_numbers(naive, image)
        return Inversion(_host(ws), naive, residual, _host(aligned), image)

    def warm_up(self, batch: int) -> None:
        """Run once on grey images, so that the first real batch of this size finds everything set up."""
        self.restore(np.zeros((batch, 3, self.size, self.size), np.float32))

    def results(self, restored: Restored, prepared: Sequence[Prepared]) -> list[Result]:
        """The batch as pictures, beside the inputs that `prepare` gave."""
        images, naives_r = pictures.to_uint8(restored.image), pictures.to_uint8(restored.naive_r)
        naives = [None] * len(images) if restored.naive is None else pictures.to_uint8(restored.naive)
        inputs = pictures.to_uint8(np.stack([one.image for one in prepared]))
        return [
            Result(image, naive_r, source, ws, naive, one.notes)
            for image, naive_r, source, ws, naive, one in zip(
                images, naives_r, inputs, restored.ws, naives, prepared, strict=True
            )
        ]

    def _require_numbers(self, *images: np.ndarray) -> None:
        """UserError for infinities and NaN."""
        if all(np.isfinite(values).all() for values in images):
            return
        reduced = self.precision in ("fp16", "bf16")
        advice = "use an fp32 bundle" if reduced else "check the model's training"
        raise UserError(f"the model produced values that are not numbers; {advice}")

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

    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image):
        return [images]
    if hasattr(images, "__array__"):
        array = _array(images)
        return list(array) if array.ndim == 4 else [array]
    if not isinstance(images, Iterable):
        _array(images)  # says what it is
    return [item for source in images for item in _items(source)]


def _array(item: Any) -> np.ndarray:
    """Whatever is an array by itself, such as a torch tensor on the CPU; UserError for anything else."""
    with suppress(Exception):  # tensors on a GPU and the like raise what they please
        if hasattr(item, "__array__"):
            return np.asarray(item)
    raise UserError(
        f"an image must be a path, bytes, a PIL image or an array, this is {type(item).__name__}", status=2
    )


def _host(tensor: Any) -> np.ndarray:
    """An array, wherever a backend left the tensor."""
    return tensor if isinstance(tensor, np.ndarray) else tensor.numpy()
