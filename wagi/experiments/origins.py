"""The origin of every pixel of an edit: the flow aligner's own account, beside the renderer's truth.

python -m wagi.evaluate origins --model CKPT --out FILE --edits yaw+0.3 hat=none skin+0.4

A line per edit, of the first portrait that it fits, at the latents of the true edit. Colours lie over the
grey picture: none = the input where it was; green = the input from another place; blue = the residual on the
naive edit; orange = the naive edit alone. The truth knows three: stayed, moved (green), hidden before or
changed (orange).
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from wagi.checkpoint import load_model
from wagi.editing.counterfactuals import Pair, Pairs, batches
from wagi.errors import UserError, option
from wagi.experiments.comparison import comparison, with_labels, write_picture
from wagi.experiments.heldout import eight_bit
from wagi.experiments.regions import masks
from wagi.model import WaGI
from wagi.networks.flow_alignment import Alignment, FlowAligner
from wagi.portraits.edits import parse_edit

GREEN, BLUE, ORANGE = (-0.4, 0.7, -0.4), (-0.4, 0.0, 1.0), (1.0, 0.2, -0.9)
MOVED = 0.5  # pixels from which the way to a pixel's place counts
TINT = 0.65  # a colour's share where it is certain


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate origins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("--model", required=True, type=Path, metavar="CKPT", help="inversion checkpoint with a flow aligner")
    add("--out", required=True, type=Path, metavar="FILE", help="picture to write, *.jpg or *.png")
    add(
        "--edits", nargs="+", default=["yaw+0.3", "hat=none", "skin+0.4"], metavar="EDIT",
        help="NAME+AMOUNT, NAME=OPTION or NAME=other (default: yaw+0.3 hat=none skin+0.4)",
    )  # fmt: skip
    add("--seed", type=int, default=9417, metavar="K", help="of the portraits (default 9417)")
    add(
        "--pairs", type=Path, default=Path("data/pairs"), metavar="DIR",
        help="folder that keeps rendered pairs (default data/pairs)",
    )  # fmt: skip
    return p


def painted(image: Tensor, shares: Tensor, colours: tuple[tuple[float, ...], ...]) -> Tensor:
    """A grey picture under the colours of its origins [N, 3, S, S].

    image: [N, 3, S, S] in [-1, 1]; shares: [N, len(colours), r, r] in [0, 1], the rest keeps the grey.
    """
    grey = image.mean(1, keepdim=True).expand_as(image)
    shares = TINT * F.interpolate(shares, size=image.shape[-1], mode="bilinear", align_corners=False)
    tint = torch.einsum("nkhw,kc->nchw", shares, torch.tensor(colours))
    return grey * (1 - shares.sum(1, keepdim=True)) + tint


def estimated(found: Alignment) -> Tensor:
    """Shares of the moved input, the residual and the naive edit alone [N, 3, R, R]: 0 where all stayed."""
    moved = (found.flows[-1].norm(dim=1, keepdim=True) > MOVED).to(found.weights)
    far, residual, alone = found.weights.split(1, dim=1)
    return found.gate * torch.cat([far * moved, residual, alone], dim=1)


def true_origins(pair: Pair) -> Tensor:
    """Shares of moved and of new pixels [N, 2, r, r], 0 or 1, as the renderer knows them.

    Of an edit that moves nothing the pixels that it changes are new.
    """
    if pair.flow is None or pair.newly is None:
        changed = masks(pair)["changed"]
        return torch.cat([torch.zeros_like(changed), changed], dim=1)
    moved = (pair.flow.norm(dim=1, keepdim=True) > MOVED).float() * (1 - pair.newly)
    return torch.cat([moved, pair.newly], dim=1)


@torch.no_grad()
def columns(model: WaGI, pair: Pair) -> dict[str, Tensor]:
    """Title -> pictures [N, 3, S, S] in [-1, 1], in the order of the method's steps."""
    inversion = model.invert(pair.source)
    ws = model.encode(pair.edited)
    edited = model.edit(inversion, ws)
    found = model.move(inversion, model.reconstruct(ws)[0], edited.naive)
    return {
        "input": pair.source,
        "its naive image": inversion.naive,
        "naive edit": edited.naive,
        "from where": painted(edited.image, estimated(found), (GREEN, BLUE, ORANGE)),
        "from where, true": painted(pair.edited, true_origins(pair), (GREEN, ORANGE)),
        "WaGI": eight_bit(edited.image),
        "true edit": pair.edited,
    }


def run(args: argparse.Namespace) -> None:
    model = load_model(args.model)
    if not isinstance(model.aligner, FlowAligner):
        raise UserError(f"--model {args.model}: has no flow aligner, so nothing says from where", 2)
    with option("--edits"):
        changes = [parse_edit(text) for text in args.edits]
    pairs = Pairs(args.pairs, args.seed, model.generator.size, 1)
    lines = []
    for change in changes:
        with option("--edits"):
            pair = next(batches(pairs(change), 1))
        lines.append(columns(model, pair))
    sheet = comparison({title: torch.cat([line[title] for line in lines]) for title in lines[0]})
    write_picture(args.out, with_labels(sheet, args.edits))
    print(f"{args.out}: {len(lines)} edits of portraits of seed {args.seed}")
