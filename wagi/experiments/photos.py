"""Edits of pictures that no renderer knows, such as photos: along directions, against the pictures."""

import argparse
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from wagi.errors import UserError
from wagi.experiments.heldout import Means
from wagi.experiments.networks import files_of, names_of
from wagi.experiments.ways import Compared, lec, luma
from wagi.metrics import Metric, l2
from wagi.model import WaGI
from wagi_rt.directions import Direction

SHOWN = 6  # pictures in a figure
COLUMNS = ("direction", "strength", "row", "l2")
MEASURES = ("LEC", "brightness")
NOTES = (
    "Pictures without a renderer: there is no true edit, so strength, regions, distances to the truth and "
    "what the portraits' network reads (effect, leakage) are left out. l2 and the networks compare with the "
    "picture itself: how much of it is still there, which an edit that does nothing has most of.",
    "LEC (latent editing consistency): the result encoded again, the edit taken back, and its distance to "
    "the source's latents, root mean square. brightness: change of the mean luma per unit of |strength|, in "
    "levels of 255.",
)


def add_data(parser: argparse.ArgumentParser, more: str = "") -> None:
    """The option --data of an experiment that knows rendered portraits otherwise."""
    parser.add_argument(
        "--data", metavar="DATA",
        help="pictures of your own in place of the seed's portraits: a folder, or celeba-hq:FOLDER" + more,
    )  # fmt: skip


def refuse_networks(args: argparse.Namespace) -> None:
    """UserError, status 2, for networks where portraits are judged by their own."""
    if not args.data and names_of(files_of(args), args.standins):
        raise UserError("--lpips-trunk, --arcface, --standins: with --data; portraits have their own", 2)


class Photos:
    """Pictures, and what edits along directions keep of them; `shown`: the first ones of the last edit.

    judges: metrics (image, picture) => [N] by name.
    """

    def __init__(
        self, pictures: Iterable[Tensor], model: WaGI, papers: WaGI | None, judges: dict[str, Metric]
    ) -> None:
        self.pictures, self.model, self.papers, self.judges = pictures, model, papers, judges
        self.shown: dict[str, Tensor] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        return (*COLUMNS, *self.judges, *MEASURES)

    @torch.no_grad()
    def rows(self, direction: Direction, strength: float) -> list[dict[str, Any]]:
        """One row per way to show the edit."""
        shift, found, self.shown = strength * torch.from_numpy(direction.vector), {}, {}
        for source in self.pictures:
            compared = Compared(source, self.model, self.papers)
            before, after = compared(torch.zeros_like(shift)), compared(shift)
            for row, image in after.items():
                found.setdefault(row, Means()).add({
                    "l2": l2(image, source),
                    **{name: judge(image, source) for name, judge in self.judges.items()},
                    "LEC": lec(self.model, image, shift, compared.inversion.ws),
                    "brightness": (luma(image) - luma(before[row])) / abs(strength),
                })  # fmt: skip
            pictures = {"input": source, **after}
            self.shown = self.shown or {title: images[:SHOWN] for title, images in pictures.items()}
        about = {"direction": direction.name, "strength": strength}
        return [{**about, "row": row, **means(), "count": means.count} for row, means in found.items()]
