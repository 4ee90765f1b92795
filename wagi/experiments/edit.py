"""Edits against the truth: one portrait inverted, edited in latent space, compared with its true rendering.

python -m wagi.evaluate edit --model CHECKPOINT --out OUT --edits yaw+0.3 yaw-0.3 smile+0.7 --directions DIR

The edited latent is E0 of the true edit (`oracle`), which judges alignment and fusion apart from directions;
with --directions w + strength * direction, too. Errors are pixel-weighted means over all pairs, by region.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wagi.checkpoint import load_model, weights_hash
from wagi.editing.attributes import strength_of
from wagi.editing.counterfactuals import Pairs, batches
from wagi.errors import option
from wagi.experiments.comparison import comparison, write_picture
from wagi.experiments.heldout import Means, eight_bit, standin_metrics
from wagi.experiments.regions import CHANGED, REGIONS, RegionMeans, Strength, masks
from wagi.experiments.tables import write_report
from wagi.model import Inversion, WaGI, area_resize
from wagi.networks.flow_alignment import FlowAligner, warp
from wagi.networks.swagan import State
from wagi.portraits.edits import Edit, parse_edit
from wagi_rt.directions import SUFFIX, Direction, read, require_fit

ORACLE, ALONG = "oracle", "direction"
SHOWN = 6  # pairs in a figure
# Aligned residuals, and what was given for them.
ALIGNED = {"ADA": "raw residual", "ADA of the faded residual": "faded residual", "flow": "raw residual"}
NEARER = "nearer than given"
COPY, NAIVE = "copy of the input", "naive edit"
SHIPPED, BOUND = "WaGI", "WaGI, true residual (bound)"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate edit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint")
    p.add_argument("--out", required=True, type=Path, metavar="OUT", help="folder of tables and figures")
    p.add_argument(
        "--edits", nargs="+", default=["yaw+0.3", "yaw-0.3", "smile+0.7"], metavar="EDIT",
        help="NAME+AMOUNT or NAME=OPTION (default: yaw+0.3 yaw-0.3 smile+0.7)",
    )  # fmt: skip
    p.add_argument(
        "--directions", type=Path, metavar="DIR",
        help="edit along this folder's directions too (python -m wagi.directions), those of the edits' names",
    )  # fmt: skip
    p.add_argument(
        "--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)",
    )  # fmt: skip
    p.add_argument("--count", type=int, default=64, metavar="N", help="pairs per edit (default 64)")
    p.add_argument(
        "--seed", type=int, default=9303, metavar="K", help="of the pairs' portraits (default 9303)"
    )
    return p


# ------------------------------------------------------------------------------------------- one batch


def edited_images(model: WaGI, source: Tensor, edited: Tensor, ws_edit: Tensor):
    """All ways to show the edit, and all candidates for its residual.

    source, edited: [N, 3, S, S]; ws_edit: [N, n_latent, style_dim] => ({row: image [N, 3, S, S], clamped},
    {row: residual [N, 3, R, R]}, the true residual edited - naive edit [N, 3, R, R]).
    """
    inversion = model.invert(source)
    residual = inversion.residual
    shipped = model.edit(inversion, ws_edit)
    naive = shipped.naive
    true = model.residual(edited, naive)
    state = model.generator.prefix(ws_edit, model.fusion_start)
    kind = _flow_ways if isinstance(model.aligner, FlowAligner) else _ada_ways
    ways, aligned = kind(model, inversion, shipped, state)
    images = {
        COPY: source,
        NAIVE: naive,
        "naive edit + raw residual": naive + _enlarged(residual, naive),
        "WaGI, raw residual": model.decode(ws_edit, state, residual),
        **ways,
        SHIPPED: shipped.image,
        BOUND: model.decode(ws_edit, state, true),
    }
    residuals = {
        "no residual": torch.zeros_like(residual),
        "half the raw residual": residual / 2,
        "raw residual": residual,
        **aligned,
    }
    return {name: eight_bit(image) for name, image in images.items()}, residuals, true


def _enlarged(residual: Tensor, image: Tensor) -> Tensor:
    """A residual at the image's size, in blocks."""
    scale = image.shape[-1] // residual.shape[-1]
    return residual.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def _ada_ways(model: WaGI, inversion: Inversion, shipped: Inversion, state: State):
    """Rows of a model with ADA: images, residuals."""
    whole = model.edit(inversion, shipped.ws, faded=False)
    images = {
        "WaGI without ADA, half": model.decode(shipped.ws, state, inversion.residual / 2),
        "WaGI without ADA, faded": model.decode(shipped.ws, state, shipped.residual),
        "WaGI, nothing faded (the paper)": whole.image,
    }
    residuals = {"ADA": whole.aligned, "faded residual": shipped.residual}
    return images, {**residuals, "ADA of the faded residual": shipped.aligned}


def _flow_ways(model: WaGI, inversion: Inversion, shipped: Inversion, state: State):
    """Rows of a model with the flow aligner: images, residuals."""
    found = model.move(inversion, state, shipped.naive)
    before, after = model.low_fidelity(inversion.naive), model.low_fidelity(shipped.naive)
    moved = warp(inversion.residual + before, found.flows[-1])
    images = {
        "input under the flow": _enlarged(moved, shipped.naive),
        "WaGI, input under the flow, no weights": model.decode(shipped.ws, state, moved - after),
        "naive edit + flow, no fusion": shipped.naive + _enlarged(found.aligned, shipped.naive),
    }
    return images, {"flow": found.aligned}


def edited_latents(
    model: WaGI, source: Tensor, edited: Tensor, change: Edit, direction: Direction | None
) -> Tensor:  # => N,n_latent,style_dim
    """w + strength * direction, or E0 of the true edit when there is no direction."""
    if direction is None:
        return model.encode(edited)
    return model.encode(source) + strength_of(change) * torch.from_numpy(direction.vector)


# ------------------------------------------------------------------------------------------- one edit


def measure(
    model: WaGI, pairs: Pairs, change: Edit, direction: Direction | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Tensor]]:
    """Rows of the images' errors, of the residuals' errors, and columns of pictures of the first pairs."""
    errors, alignment, strength = RegionMeans("l2", "l_wave"), RegionMeans("l1", "l_wave"), Strength()
    networks = {name: (network, Means()) for name, network in standin_metrics().items()}
    nearer: dict[str, int] = {}
    pictures: dict[str, Tensor] = {}
    for source, edited, regions in batches(pairs(change), 16):
        with torch.no_grad():
            ws_edit = edited_latents(model, source, edited, change, direction)
            images, residuals, true = edited_images(model, source, edited, ws_edit)
        weights = masks(regions, source, edited)
        small = {name: area_resize(mask, true.shape[-1]) for name, mask in weights.items()}
        for name, image in images.items():
            errors.add(name, image - edited, weights)
            strength.add(name, image, source, edited, weights["changed"])
        for network, means in networks.values():
            with torch.no_grad():
                means.add({name: network(images[name], edited) for name in (NAIVE, SHIPPED)})
        for name, residual in residuals.items():
            alignment.add(name, residual - true, small)
        distances = {name: (found - true).abs().mean((1, 2, 3)) for name, found in residuals.items()}
        for name in ALIGNED.keys() & residuals.keys():
            closer = distances[name] < distances[ALIGNED[name]]
            nearer[name] = nearer.get(name, 0) + int(closer.sum())
        if not pictures:
            pictures = {
                "source": source[:SHOWN],
                "true edit": edited[:SHOWN],
                **{name: image[:SHOWN] for name, image in images.items()},
            }
    rows, residual_rows = _rows(errors, change), _rows(alignment, change)
    found = {name: means() for name, (_, means) in networks.items()}
    for row in rows:
        row["strength"] = strength.rows()[row["row"]]
        row |= {name: values.get(row["row"]) for name, values in found.items()}
    for row in residual_rows:
        if row["row"] in nearer:
            row[NEARER] = f"{nearer[row['row']]}/{pairs.count}"
    return rows, residual_rows, pictures


def _rows(means: Any, change: Edit) -> list[dict[str, Any]]:
    return [{"edit": change.text, "row": name, **values} for name, values in means.rows().items()]


# ------------------------------------------------------------------------------------------- the command


def directions_for(folder: Path | None, edits: list[Edit], model: WaGI) -> dict[str, Direction]:
    """{text of an edit: the direction of its parameter}, with a folder. Raises UserError."""
    if folder is None:
        return {}
    generator, found = model.generator, {}
    for change in edits:
        strength_of(change)
        path = folder / f"{change.parameter}{SUFFIX}"
        found[change.text] = read(path)
        fit = generator.n_latent, generator.style_dim, weights_hash(generator)
        require_fit(found[change.text], *fit, str(path))
    return found


def run(args: argparse.Namespace) -> None:
    with option("--edits"):
        edits = [parse_edit(text) for text in args.edits]
    model = load_model(args.model)
    pairs = Pairs(args.pairs, args.seed, model.generator.size, args.count)
    with option("--directions"):
        directions = directions_for(args.directions, edits, model)
    rows: list[dict[str, Any]] = []
    residual_rows: list[dict[str, Any]] = []
    for latents, change in [(way, one) for way in (ORACLE, ALONG)[: 1 + bool(directions)] for one in edits]:
        print(f"{change.text}, {latents} latents", file=sys.stderr)
        direction = directions[change.text] if latents == ALONG else None
        found, aligned, pictures = measure(model, pairs, change, direction)
        rows += [{"latents": latents, **row} for row in found]
        residual_rows += [{"latents": latents, **row} for row in aligned]
        write_picture(args.out / f"edit-{change.text}-{latents}.png", comparison(pictures))
    meta = {"model": args.model.name, "pairs": f"seed {args.seed}, {args.count} per edit"}
    _write_reports(args.out, rows, residual_rows, meta)


def _columns(*measures: str) -> list[str]:
    return [f"{name} {region}".strip() for region in REGIONS for name in measures]


def _write_reports(out: Path, rows: list, residual_rows: list, meta: dict) -> None:
    """edit.md and alignment.md with their JSON; printed."""
    columns = ["latents", "edit", "row"]
    errors = [name for name in _columns("l2", "l_wave") if name.split()[1:] in ([], ["letters"], ["mouth"])]
    errors += [name for name in _columns("l2") if name not in errors]
    errors += ["strength", "portraits-ID", "portraits-features"]
    title = {"title": "Edits against the true rendering", **meta}
    notes = [
        "8-bit images in [-1, 1] against the renderer's own picture of the edited scene; pixel-weighted "
        "means over all pairs; regions are those of the edited picture; changed: where it differs by "
        f"{CHANGED} from the source. Strength: how far a result goes from the source to the true edit, over "
        "the changed pixels (0 a copy, 1 the true edit). Stand-in networks: means over pairs.",
        "With ADA, WaGI fades the residual where the edit changes the naive image (wagi.model.fade) before "
        "ADA aligns it; the paper's edit does not. With the flow aligner nothing is faded. The bound has the "
        "true residual in place of the aligned one.",
    ]
    print(write_report(out, "edit", rows, [*columns, *errors], {**title, "notes": notes}))
    title = {"title": "Alignment of the residual to the edit", **meta}
    notes = [
        "Distance to the true residual, the true edit minus the naive edit. `no residual` is what fading "
        "everything out would cost; nearer than given: pairs in which alignment brings L1 below that of what "
        "it was given.",
    ]
    columns += [*_columns("l1"), NEARER]
    print(write_report(out, "alignment", residual_rows, columns, {**title, "notes": notes}))
