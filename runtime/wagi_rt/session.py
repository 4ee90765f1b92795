"""Bundle -> engine -> pictures: a chain of graphs, fused or separate, between images in and images out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from wagi_rt import backends, measured, pictures, sources
from wagi_rt import manifest as manifests
from wagi_rt.chain import EDIT_RESULTS, PREFIX, RESULTS, Chain, Tensors, at_latents, enlarge, reduced
from wagi_rt.chain import opening as opening_of
from wagi_rt.directions import Direction
from wagi_rt.engines.base import DEFAULT, Closing, EngineChoice
from wagi_rt.errors import UserError
from wagi_rt.pictures import Prepared
from wagi_rt.results import Inversion, Result

if TYPE_CHECKING:
    from wagi_rt.face import Face
    from wagi_rt.sources import Source


class Session(Closing):
    """An open bundle. `Session(bundle).invert(images)`, also as a context manager."""

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        choice: EngineChoice = DEFAULT,
        naive: bool = False,
        editing: bool | None = False,
    ) -> None:
        """See wagi_rt.load. editing: pictures will be opened and edited, so that is what is opened first;
        None: perhaps."""
        backends.check(choice)
        self.manifest = manifests.read(bundle)
        self.naive = naive
        whole, edit = self.manifest.inversion, self.manifest.edit
        full = () if self.manifest.early else ("naive",)
        self.chain = whole.yielding(*RESULTS, *full) if naive else self.manifest.chain
        self.opening = opening_of(*self.manifest.kind)
        edited = edit.yielding(*EDIT_RESULTS, *(f"edit_{name}" for name in full))
        self.edit_chain = edited if naive else self.manifest.edit_chain
        self.choice, self.auto = choice, backends.AUTO in (choice.backend, choice.precision)
        self.measured = measured.read(self.manifest, choice.threads) if self.auto else None
        # A library's edits may never come: only `auto`, which has to choose now, judges them at once.
        at_once = editing or (editing is None and choice.precision == backends.AUTO)
        self._edits_judged = bool(at_once)
        self.backend_name, self.engine, self.passed_over = backends.open_engine(
            self.manifest,
            choice,
            self.opening if editing else self.chain,
            (self.chain, self.edit_chain) if at_once else (self.chain,),
            self.measured.rows if self.measured else (),
        )
        self._directions: dict[str, Direction] = {}
        self.size, self.resolution = self.manifest.size, self.manifest.resolution

    @property
    def precision(self) -> str:
        """The arithmetic that really runs."""
        return self.engine.precision

    @property
    def reason(self) -> str:
        """The times by which `auto` chose, as a line; empty where it did not, or none were measured."""
        if self.measured is None:
            return ""
        device = self.engine.device.partition(":")[0]
        title = measured.Row(self.backend_name, device, self.precision, None).title("")
        return self.measured.reason(title, self.manifest.precision)

    @property
    def description(self) -> str:
        """Model, engine, device and precision that really run."""
        title = backends.BACKENDS[self.backend_name].title
        return (
            f"{self.manifest.name} ({self.size} px) with {title} {self.engine.version} "
            f"on {self.engine.device}, {self.precision}{self.manifest.with_int8}"
        )

    def invert(
        self, images: Source | Iterable[Source], batch: int | None = None, fit: str = "crop"
    ) -> list[Result]:
        """Invert one or many images; always a list, in input order.

        images: paths, file bytes, PIL images, arrays or CPU tensors: uint8 [H, W, 3] or [N, H, W, 3], or
        float [3, S, S] or [N, 3, S, S] in [-1, 1]. `batch` of them run together (default all). Raises
        UserError for the first one that cannot be read or is nothing of the kind.
        """
        if batch is not None and batch < 1:
            raise UserError(f"batch {batch}: must be at least 1", status=2)
        prepared = [self.prepare(item, fit) for item in sources.items(images)]
        step = batch or len(prepared) or 1
        results = []
        for start in range(0, len(prepared), step):
            part = prepared[start : start + step]
            inversion = self.restore(np.stack([one.image for one in part]))
            results += self.results(inversion, part)
        return results

    def prepare(self, item: Source, fit: str = "crop", name: str = "") -> Prepared:
        """One image of any accepted kind, ready for `restore`; `name` is how errors call it."""
        return sources.prepare(item, self.size, fit, name)

    def restore(self, images: np.ndarray) -> Inversion:  # [N, 3, S, S] float32 in [-1, 1]
        """The inversion in the fastest way that gives what is wanted.

        That is the bundle's pipeline graph where the manifest names it as the default; the separate graphs
        where it does not, or where the naive image is wanted at full size.
        """
        return self._run(self.chain, images)

    def run(self, images: np.ndarray) -> Inversion:  # [N, 3, S, S] float32 in [-1, 1]
        """The inversion by the separate graphs, with everything that lies between them."""
        whole = self.manifest.inversion
        made = {name for step in whole.steps for name in step.makes.values()}
        more = made.intersection(("naive", "residual", "aligned"))
        found = self._run(whole.yielding(*RESULTS, *more), images)
        aligned = found.aligned if "aligned" in more else found.residual
        return found._replace(naive=self._whole(found), aligned=aligned)

    def _run(self, chain: Chain, images: np.ndarray) -> Inversion:
        found = self.engine.run_chain(chain, {"image": images})
        found["image"] = found.pop("result")
        self._require_numbers(found["naive_r"], found["image"])
        return Inversion(**found)

    def open(self, image: Source | np.ndarray, fit: str = "crop", name: str = "") -> Face:
        """Encode one picture, of any kind that `invert` takes, for any number of edits."""
        from wagi_rt.face import Face

        prepared = self.prepare(image, fit, name)
        return Face(self, self.encode(prepared.image[None]), prepared)

    def reopen(self, path: str | os.PathLike[str]) -> Face:
        """A picture that `wagi-rt invert --latents` or Face.save kept; the encoder is not needed."""
        from wagi_rt import latents
        from wagi_rt.face import Face

        kept, prepared = latents.read(path, self.manifest)
        return Face(self, self.resume(kept), prepared)

    def encode(self, images: np.ndarray) -> Tensors:  # [N, 3, S, S] float32 in [-1, 1]
        """The tensors that every edit starts from: image_r, ws, naive_r, and what chain.opening adds."""
        kept = self.engine.run_chain(self.opening, {"image": images})
        self._require_numbers(kept["naive_r"])
        return kept

    def resume(self, kept: Tensors) -> Tensors:
        """The tensors of `encode` again, from its image_r, ws, naive_r and, with full detail, image alone."""
        missing = [name for name in self.opening.outputs if name not in kept]
        prefix = Chain.of(PREFIX).yielding(*missing)
        return kept | (self.engine.run_chain(prefix, {"ws": kept["ws"]}) if missing else {})

    def hold(self, images: np.ndarray, ws: np.ndarray) -> Tensors:
        """The tensors of `encode` at other latents than the encoder's, and `result`, the images' inversion.

        images: [N, 3, S, S] float32 in [-1, 1]; ws: [N, n_latent, style_dim] float32 near the encoder's. What
        the generator cannot show at these latents is the residual, as always.
        """
        chain = at_latents(*self.manifest.kind)
        image_r = reduced(images, self.resolution, self.manifest.pil)
        known = {"image_r": image_r, "ws": ws, "image": images}
        found = self.engine.run_chain(chain, {name: known[name] for name in chain.inputs})
        self._require_numbers(found["naive_r"], found["result"])
        return {"image_r": known["image_r"], "ws": ws, **found}

    def edit(self, kept: Tensors, ws: np.ndarray) -> Inversion:  # ws: [N, n_latent, style_dim] float32
        """Render other latents with the detail of the images: generator, alignment and fusion only.

        UserError where an engine of lower precision does not pass the bundle's check on edits.
        """
        if not self._edits_judged:
            from wagi_rt import probes

            probes.require(self.engine, self.edit_chain)
            self._edits_judged = True
        known = {**kept, "edit_ws": ws}
        chain = self.edit_chain
        found = self.engine.run_chain(chain, {name: known[name] for name in chain.inputs})
        edited = Inversion(ws, found["edit_naive_r"], found["result"], found.get("edit_naive"))
        self._require_numbers(edited.naive_r, edited.image)
        return edited

    def direction(self, name: str) -> Direction:
        """A direction of the bundle. UserError with the nearest names for one that it does not have."""
        if name not in self._directions:
            self._directions[name] = self.manifest.direction(name)
        return self._directions[name]

    def warm_up(self, batch: int) -> None:
        """Run once on grey images, so that the first real batch of this size finds everything set up."""
        self.restore(np.zeros((batch, 3, self.size, self.size), np.float32))

    def results(self, inversion: Inversion, prepared: Sequence[Prepared]) -> list[Result]:
        """The batch as pictures, beside the inputs that `prepare` gave."""
        images = pictures.to_uint8(inversion.image)
        wanted = self.naive or inversion.naive is not None
        naives = pictures.to_uint8(self._whole(inversion)) if wanted else [None] * len(images)
        return [
            Result(image, naive, ws, naive_r, one.image, one.notes)
            for image, naive, ws, naive_r, one in zip(
                images, naives, inversion.ws, inversion.naive_r, prepared, strict=True
            )
        ]

    def _whole(self, inversion: Inversion) -> np.ndarray:  # => [N, 3, S, S]
        """The naive image, an early one enlarged."""
        return enlarge(inversion.naive_r, self.size) if inversion.naive is None else inversion.naive

    def _require_numbers(self, *images: np.ndarray) -> None:
        """UserError for infinities and NaN."""
        if all(np.isfinite(values).all() for values in images):
            return
        reduced = self.precision in ("fp16", "bf16")
        advice = "use an fp32 bundle" if reduced else "check the model's training"
        raise UserError(f"the model produced values that are not numbers; {advice}")

    def close(self) -> None:
        self.engine.close()
