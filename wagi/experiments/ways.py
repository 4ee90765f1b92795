"""Ways to show an edit: the naive edit, what others do with the lost detail, and WaGI's."""

from pathlib import Path

import torch
from torch import Tensor

from wagi.checkpoint import load_model, weights_hash
from wagi.editing.attributes import ATTRIBUTES
from wagi.errors import UserError, option
from wagi.experiments.heldout import eight_bit
from wagi.experiments.models import Inverter
from wagi.model import Inversion, WaGI
from wagi.networks.flow_alignment import FlowAligner, warp
from wagi.networks.full_detail import keep_detail
from wagi.networks.swagan import State
from wagi_rt.directions import SUFFIX, Direction, read, require_fit

# Aligned residuals, and what was given for them.
ALIGNED = {"ADA": "raw residual", "ADA of the faded residual": "faded residual", "flow": "raw residual"}
COPY, NAIVE, RAW = "copy of the input", "naive edit", "naive edit + raw residual"
PAPERS = "WaGI, nothing faded (the paper)"
SHIPPED, BOUND = "WaGI", "WaGI, true residual (bound)"


def enlarged(residual: Tensor, image: Tensor) -> Tensor:
    """A residual [N, 3, R, R] at the image's size, in blocks."""
    scale = image.shape[-1] // residual.shape[-1]
    return residual.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


# ---------------------------------------------------------------------------------------- along a direction


class Compared:
    """Pictures inverted once, and edited as often as wanted in the ways that reports compare.

    source: [N, 3, S, S]. papers: a model with ADA in the same latents, whose edits fade nothing.
    """

    def __init__(self, source: Tensor, model: WaGI, papers: WaGI | None) -> None:
        self.model, self.papers = model, papers
        self.inversion = model.invert(source)
        # A model with ADA is its own baseline: it is inverted once.
        self._before = papers.invert(source) if papers not in (None, model) else self.inversion

    def __call__(self, shift: Tensor) -> dict[str, Tensor]:
        """{way: images [N, 3, S, S], 8-bit values in [-1, 1]} at ws + shift."""
        inversion, before = self.inversion, self._before
        edited = self.model.edit(inversion, inversion.ws + shift)
        found = {NAIVE: edited.naive, RAW: edited.naive + enlarged(inversion.residual, edited.naive)}
        if self.papers:
            found[PAPERS] = self.papers.edit(before, before.ws + shift, faded=False).image
        return {name: eight_bit(image) for name, image in (found | {SHIPPED: edited.image}).items()}


def load_papers(path: Path | None, model: WaGI) -> WaGI | None:
    """The model whose edits are the papers': of `path`, the model itself when it has ADA, or None.

    UserError (status 2) for one without ADA, or with another generator.
    """
    if path is None:
        return None if isinstance(model.aligner, FlowAligner) else model
    found = load_model(path)
    if isinstance(found.aligner, FlowAligner):
        raise UserError(f"--papers {path}: has a flow aligner; name a model with ADA", 2)
    if weights_hash(found.generator) != weights_hash(model.generator):
        raise UserError(f"--papers {path}: has another generator than --model, so other latents", 2)
    return found


def load_direction(path: Path, model: Inverter) -> Direction:
    """The direction of a file. Raises UserError where it is none, or not for the model's generator."""
    generator = model.generator
    direction = read(path)
    require_fit(direction, generator.n_latent, generator.style_dim, weights_hash(generator), str(path))
    return direction


def load_directions(
    folder: Path, model: Inverter, names: list[str], asked: str = "--names"
) -> list[Direction]:
    """The directions of a folder (a bundle is one), attributes of portraits first; `names`: only these.

    asked: the option that names them. Raises UserError for what cannot serve, with its option.
    """
    with option("--directions"):
        files = {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
        if not files:
            raise UserError(f"{folder}: no *{SUFFIX}; name a folder of wagi.directions or a bundle", 2)
    if wrong := [name for name in names if name not in files]:
        raise UserError(f"{asked} {wrong[0]}: there are {', '.join(files)}", 2)
    order = [*ATTRIBUTES, *files]
    chosen = names or sorted(files, key=order.index)
    with option("--directions"):
        return [load_direction(files[name], model) for name in chosen]


def strengths_of(texts: list[str], name: str) -> dict[str, float]:
    """{name: strength} of NAME=STRENGTH texts. Raises UserError, status 2, with the option's name."""
    found = {}
    for text in texts:
        direction, _, value = text.partition("=")
        try:
            found[direction] = float(value)
        except ValueError:
            raise UserError(f"{name} {text}: write NAME=STRENGTH, such as yaw=-1", 2) from None
    return found


def lec(model: WaGI, edited: Tensor, shift: Tensor, ws: Tensor) -> Tensor:  # => N
    """Latent editing consistency: distance of an edit's latents, the shift taken back, to the source's."""
    return (model.encode(edited) - shift - ws).square().mean((1, 2)).sqrt()


def luma(images: Tensor) -> Tensor:  # N,3,S,S => N
    """The mean, in levels of 255."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    return (images.mean((2, 3)) @ weights) * 127.5


# ---------------------------------------------------------------------------------------- against the truth


def edited_images(model: WaGI, source: Tensor, edited: Tensor, ws_edit: Tensor):
    """All ways to show the edit, and all candidates for its residual.

    source, edited: [N, 3, S, S]; ws_edit: [N, n_latent, style_dim] => ({row: image [N, 3, S, S], clamped},
    {row: residual [N, 3, R, R]}, the true residual edited - naive edit [N, 3, R, R], the flow
    [N, 2, R, R] of a model with the flow aligner or None).
    """
    inversion = model.invert(source)
    residual = inversion.residual
    shipped = model.edit(inversion, ws_edit)
    naive = shipped.naive
    true = model.residual(edited, naive)
    state = model.generator.prefix(ws_edit, model.fusion_start)
    kind = _flow_ways if isinstance(model.aligner, FlowAligner) else _ada_ways
    bound = model.decode(ws_edit, state, true)
    ways, aligned, flow = kind(model, inversion, shipped, state)
    images = {
        COPY: source,
        NAIVE: naive,
        RAW: naive + enlarged(residual, naive),
        "WaGI, raw residual": model.decode(ws_edit, state, residual),
        **ways,
        SHIPPED: shipped.image,
        BOUND: keep_detail(bound, edited, model.resolution) if model.full_detail else bound,
    }
    residuals = {
        "no residual": torch.zeros_like(residual),
        "half the raw residual": residual / 2,
        "raw residual": residual,
        **aligned,
    }
    return {name: eight_bit(image) for name, image in images.items()}, residuals, true, flow


def _ada_ways(model: WaGI, inversion: Inversion, shipped: Inversion, state: State):
    """Rows of a model with ADA: images, residuals, no flow."""
    whole = model.edit(inversion, shipped.ws, faded=False)
    images = {
        "WaGI without ADA, half": model.decode(shipped.ws, state, inversion.residual / 2),
        "WaGI without ADA, faded": model.decode(shipped.ws, state, shipped.residual),
        PAPERS: whole.image,
    }
    residuals = {"ADA": whole.aligned, "faded residual": shipped.residual}
    return images, {**residuals, "ADA of the faded residual": shipped.aligned}, None


def _flow_ways(model: WaGI, inversion: Inversion, shipped: Inversion, state: State):
    """Rows of a model with the flow aligner: images, residuals, the finest flow."""
    found = model.move(inversion, state, shipped.naive)
    before, after = model.low_fidelity(inversion.naive), model.low_fidelity(shipped.naive)
    moved = warp(inversion.residual + before, found.flows[-1])
    images = {
        "input under the flow": enlarged(moved, shipped.naive),
        "WaGI, input under the flow, no weights": model.decode(shipped.ws, state, moved - after),
        "naive edit + flow, no fusion": shipped.naive + enlarged(found.aligned, shipped.naive),
    }
    return images, {"flow": found.aligned}, found.flows[-1]
