"""The order of the graphs, written once: an inversion and an edit as named steps, and what lies between.

A chain is data. Whoever runs, joins, builds or checks graphs walks over one: the engines, the TensorRT
program, export/{glue, graphs, pipeline, parity, rows}. A step is a graph of the bundle or one of the
small functions of GLUE, whose ONNX twins are in export/glue.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from wagi_rt.resampling import antialiased, middles
from wagi_rt.resampling import area_resize as area_resize

Shapes = dict[str, tuple[int, ...]]  # tensor name -> shape without the batch
Tensors = dict[str, Any]  # tensor name -> array, or what an engine keeps on its device
# An edit's change (mean square) that halves a residual, and the window it is taken over (R / 16).
FADE_CHANGE, FADE_SHARE = 0.01, 16


class Step(NamedTuple):
    """A graph or a function of GLUE by name, and its own names for what it reads and makes.

    renamed: (own name, the chain's) where they differ, so that one graph can serve a chain twice.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def reads(self) -> dict[str, str]:
        """Its own name of every input -> the chain's."""
        return {own: dict(self.renamed).get(own, own) for own in self.inputs}

    @property
    def makes(self) -> dict[str, str]:
        """Its own name of every output -> the chain's."""
        return {own: dict(self.renamed).get(own, own) for own in self.outputs}

    @property
    def is_glue(self) -> bool:
        return self.name in GLUE

    def shapes(self, known: Mapping[str, tuple[int, ...]]) -> tuple[Shapes, Shapes]:
        """(inputs, outputs) under its own names, each of which has one shape wherever it stands."""
        return {own: known[own] for own in self.inputs}, {own: known[own] for own in self.outputs}


class Chain(NamedTuple):
    """Steps in running order, from `inputs` to `outputs` (names of tensors)."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, step: Step) -> Chain:
        """One step under its own names."""
        return cls(step.inputs, (step._replace(renamed=()),), step.outputs)

    def yielding(self, *outputs: str) -> Chain:
        """The same steps with other results."""
        return self._replace(outputs=outputs)

    @property
    def graphs(self) -> dict[str, Step]:
        """The steps that are graphs of a bundle, by name."""
        return {step.name: step for step in self.steps if not step.is_glue}

    def resident(self, step: Step) -> frozenset[str]:
        """Its own names of the outputs that graphs read and no glue: they need not leave the device."""
        graphs, glue = (
            {name for other in self.steps if other.is_glue == kind for name in other.reads.values()}
            for kind in (False, True)
        )
        return frozenset(own for own, name in step.makes.items() if name in graphs - glue)


# --------------------------------------------------------------------------- the arithmetic between graphs


def reduced(images: np.ndarray, size: int, pil: bool) -> np.ndarray:  # [..., H, H] => [..., size, size]
    """Images as encoder and residual read them; pil: of a model with that setting."""
    return (antialiased if pil else area_resize)(images, size)


def enlarge(naive_r: np.ndarray, size: int) -> np.ndarray:  # [N, 3, R, R] => [N, 3, size, size]
    """An early naive image at full size, in blocks of equal pixels."""
    factor = size // naive_r.shape[-1]
    return naive_r.repeat(factor, axis=-2).repeat(factor, axis=-1)


def low_fidelity(naive: np.ndarray, size: int) -> np.ndarray:  # [N, 3, S, S] => [N, 3, size, size]
    """The naive image as a valid image of the residual's resolution."""
    return area_resize(naive.clip(-1, 1), size)


def sampled(naive: np.ndarray, size: int) -> np.ndarray:  # [N, 3, S, S] => [N, 3, size, size]
    """The same of a model whose naive image is sampled."""
    return middles(naive.clip(-1, 1), size)


# The paper, section 3.2: Delta = X - X0.
def subtract(image_r: np.ndarray, naive_r: np.ndarray, size: int) -> np.ndarray:  # all [N, 3, size, size]
    """The residual: what the naive inversion lost."""
    return image_r - naive_r


def fade(residual: np.ndarray, before: np.ndarray, after: np.ndarray, size: int) -> np.ndarray:
    """The residual, trusted the less the more an edit changes the naive image around it (wagi.model.fade).

    All [N, 3, size, size]; before, after: naive images in [-1, 1]. Equal ones fade nothing.
    """
    side = size // FADE_SHARE | 1
    change = np.square(after - before).mean(1, keepdims=True)
    windows = _window_sums(change, side) / _window_sums(np.ones_like(change[:1]), side)
    return residual / (1 + windows / residual.dtype.type(FADE_CHANGE))


def _window_sums(x: np.ndarray, side: int) -> np.ndarray:
    """The sum over the part of each side x side window that lies inside the image; the same shape."""
    padded = np.pad(x, [(0, 0), (0, 0), *[(side // 2, side // 2)] * 2])
    for axis in (-2, -1):
        padded = np.lib.stride_tricks.sliding_window_view(padded, side, axis).sum(-1)
    return padded


# Name -> (arrays in the order of the step's inputs, the resolution) => the step's one output.
GLUE: dict[str, Callable[..., np.ndarray]] = {
    "shrink": area_resize,
    "shrink_pil": antialiased,
    "low_fidelity": low_fidelity,
    "sample": sampled,
    "subtract": subtract,
    "fade": fade,
}

# ---------------------------------------------------------------------------------------------- the chains

PIPELINE, EDIT = "pipeline", "edit"  # the graphs that hold a whole inversion, and a whole edit
RESULTS = ("ws", "naive_r", "result")  # of every inversion; `result` is the image
EDIT_RESULTS = ("edit_naive_r", "result")
ALIGNERS = ("ada", "flow")


class Kind(NamedTuple):
    """The settings of a model that the functions below read: `inversion(*kind)`."""

    aligner: str = ALIGNERS[0]
    full_detail: bool = False  # above R, results have the input's own detail
    early: bool = False  # the naive image is what the generator has drawn at R
    bilinear: bool = False  # it is sampled, not averaged down
    pil: bool = False  # images come to R as Pillow's bilinear filter reduces them


_STATE = ("ws", "feature", "skip")
_OF_EDIT = tuple((name, f"edit_{name}") for name in (*_STATE, "naive", "naive_r"))

SHRINK = Step("shrink", ("image",), ("image_r",))
SHRINK_PIL = SHRINK._replace(name="shrink_pil")
ENCODER = Step("encoder", ("image_r",), ("ws",))
PREFIX = Step("prefix", ("ws",), ("feature", "skip"))
NAIVE = Step("naive", _STATE, ("image",), (("image", "naive"),))
LOW_FIDELITY = Step("low_fidelity", ("naive",), ("naive_r",))
SAMPLE = LOW_FIDELITY._replace(name="sample")
EARLY = Step("early", _STATE, ("naive_r",))  # in place of the last two: the generator up to R
SUBTRACT = Step("subtract", ("image_r", "naive_r"), ("residual",))
FADE = Step("fade", ("residual", "before", "after"), ("faded",))
ALIGN = Step("align", ("residual", "naive_r"), ("aligned",))
MOVE = Step("move", ("residual", "naive_r", "edit_naive_r", "feature", "edit_feature"), ("aligned",))
DECODE = Step("decode", (*_STATE, "aligned"), ("image",), (("image", "result"),))
# With full detail, the decoded image is `drawn` and comes to its result here (wagi.networks.full_detail).
KEEP_DETAIL = Step("keep_detail", ("drawn", "image"), ("result",))
MOVE_DETAIL = Step("move_detail", ("drawn", "image", "flow", "shares"), ("result",))


def encoding(pil: bool = False) -> Chain:
    """The start of every inversion: latents of an image."""
    return Chain(("image",), (SHRINK_PIL if pil else SHRINK, ENCODER), ("ws",))


# The paper's section 3.2, as wagi.model.WaGI.invert: encode, reconstruct, align the residual, decode.
def inversion(*settings: Any) -> Chain:
    """An inversion by separate graphs. settings: Kind's. Detail that need not move needs no flow aligner."""
    kind = Kind(*settings)
    last = (ALIGN, DECODE) if kind.aligner == "ada" else (_renamed(DECODE, aligned="residual"),)
    if kind.full_detail:
        last = (*last[:-1], _renamed(last[-1], result="drawn"), KEEP_DETAIL)
    return Chain(("image",), (*opening(*kind).steps, SUBTRACT, *last), RESULTS)


def at_latents(*settings: Any) -> Chain:
    """An inversion at latents that are given in place of the encoder's, with all that `edit` reads of it."""
    kind = Kind(*settings)
    given = ("image_r", "ws", *("image",) * kind.full_detail)
    steps = inversion(*kind).steps[len(encoding().steps) :]
    return Chain(given, steps, ("naive_r", "result", *_more(kind)))


def edit(*settings: Any) -> Chain:
    """An edit by separate graphs, as wagi.model.WaGI.edit: what `opening` left, other latents `edit_ws`."""
    kind = Kind(*settings)
    prefix, decode, *naive = (_renamed(step, **dict(_OF_EDIT)) for step in (PREFIX, DECODE, *_naive(kind)))
    aligned = {
        "ada": (
            _renamed(FADE, before="naive_r", after="edit_naive_r"),
            _renamed(ALIGN, residual="faded", naive_r="edit_naive_r"),
        ),
        "flow": (MOVE,),
    }[kind.aligner]
    last = (decode,)
    if kind.full_detail:
        aligned = (MOVE._replace(outputs=("aligned", "flow", "shares")),)
        last = (_renamed(decode, result="drawn"), MOVE_DETAIL)
    inputs = ("image_r", "naive_r", "edit_ws", *_more(kind))
    return Chain(inputs, (SUBTRACT, prefix, *naive, *aligned, *last), EDIT_RESULTS)


def opening(*settings: Any) -> Chain:
    """The start of an inversion, to what every later edit of the picture reads."""
    kind = Kind(*settings)
    steps = (*encoding(kind.pil).steps, PREFIX, *_naive(kind))
    return Chain(("image",), steps, ("image_r", "ws", "naive_r", *_more(kind)))


def _naive(kind: Kind) -> tuple[Step, ...]:
    """The way to the naive image at R."""
    return (EARLY,) if kind.early else (NAIVE, SAMPLE if kind.bilinear else LOW_FIDELITY)


def _more(kind: Kind) -> tuple[str, ...]:
    """The tensors that an edit reads besides image_r, latents and naive_r."""
    return ("feature",) * (kind.aligner == "flow") + ("image",) * kind.full_detail


def _renamed(step: Step, **names: str) -> Step:
    """The step with other names of the chain's."""
    every = {own: names.get(name, name) for own, name in {**step.reads, **step.makes}.items()}
    return step._replace(renamed=tuple((own, name) for own, name in every.items() if name != own))


def fused(chain: Chain, name: str) -> Chain:
    """The chain as one graph."""
    return Chain(chain.inputs, (Step(name, chain.inputs, chain.outputs),), chain.outputs)


FUSED = fused(inversion("ada"), PIPELINE)  # whatever the aligner
# Every step by name, under its own names; a graph `edit` reads what its aligner needs.
STEPS = {
    step.name: step
    for step in (
        SHRINK, SHRINK_PIL, ENCODER, PREFIX, NAIVE, LOW_FIDELITY, SAMPLE, EARLY, SUBTRACT, FADE, ALIGN, MOVE,
        DECODE, KEEP_DETAIL, MOVE_DETAIL, *FUSED.steps,
    )
}  # fmt: skip


def shapes(
    size: int, resolution: int, latents: tuple[int, ...], state: Mapping[str, tuple[int, ...]]
) -> Shapes:
    """Every tensor of the chains. latents: (n_latent, style_dim); state: those of `feature` and `skip`."""
    large = dict.fromkeys(("image", "naive", "drawn", "result"), (3, size, size))
    names = ("image_r", "naive_r", "residual", "before", "after", "faded", "aligned", "shares")
    small = dict.fromkeys(names, (3, resolution, resolution))
    known = {**large, **small, "flow": (2, resolution, resolution), "ws": latents, **state}
    return known | {edited: known[name] for name, edited in _OF_EDIT}


def walk(
    chain: Chain,
    tensors: Tensors,
    run: Callable[[Step, Tensors], Tensors],
    resolution: int,
) -> Iterator[tuple[Step, Tensors, Tensors]]:
    """Run the steps in order => (step, its inputs, its outputs) of each, under its own names.

    tensors: the chain's inputs; the results are added to it. run: what runs a graph of the bundle.
    """
    for step in chain.steps:
        given = {own: tensors[name] for own, name in step.reads.items()}
        if step.is_glue:
            made = {step.outputs[0]: GLUE[step.name](*given.values(), resolution)}
        else:
            made = run(step, given)
        tensors |= {name: made[own] for own, name in step.makes.items()}
        yield step, given, made
