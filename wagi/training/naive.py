"""Naive images and generator states of a folder's pictures: computed once, kept beside the pictures."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wagi.errors import UserError
from wagi.model import WaGI


class NaiveImages:
    """The naive images of a folder's pictures by a frozen E0 and G0, in half precision.

    Args:
        folder: where to keep it, under a name that belongs to these weights and levels.
        count: pictures that the folder will have.
    Call: numbers [N] of pictures, and the pictures [N, 3, S, S] -> naive images [N, 3, R, R] in [-1, 1] and
        states [N, C, r, r] below the first gate. Those not known yet are computed one by one, so that they do
        not depend on their neighbours. Raises UserError when the folder cannot be written.
    """

    def __init__(self, folder: Path, count: int, model: WaGI) -> None:
        self.model = model
        device = model.generator.latent_avg.device
        with torch.no_grad():
            ws = model.generator.latent_avg.expand(1, model.generator.n_latent, -1)
            state = model.generator.prefix(ws.to(device), model.fusion_start).x
        shapes = {"naive": (3, model.resolution, model.resolution), "state": tuple(state.shape[1:])}
        place = folder / f"naive-{self._key()}"
        try:
            place.mkdir(exist_ok=True)
            self.arrays = {name: _open(place / f"{name}.npy", (count, *s)) for name, s in shapes.items()}
            self.known = _open(place / "known.npy", (count,), np.bool_)
        except (OSError, ValueError) as error:
            raise UserError(f"{place}: cannot be used ({error}); delete it or free space") from None

    def _key(self) -> str:
        model = self.model
        ways = [name for name in ("early", "bilinear", "pil") if getattr(model, name)]
        digest = hashlib.sha256(" ".join([f"{model.resolution} {model.fusion_start}", *ways]).encode())
        for part in (model.encoder, model.generator):
            for name, value in sorted(part.state_dict().items()):
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def __call__(self, numbers: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        for number, picture in zip(numbers.tolist(), pictures, strict=True):
            if not self.known[number]:
                state, naive = self.model.reconstruct(self.model.encode(picture[None]))
                self.arrays["naive"][number] = self.model.low_fidelity(naive)[0].cpu().numpy()
                self.arrays["state"][number] = state.x[0].cpu().numpy()
                self.known[number] = True
        rows = numbers.cpu().numpy()
        naive, state = (torch.from_numpy(self.arrays[k][rows]).float() for k in ("naive", "state"))
        return naive.to(pictures.device), state.to(pictures.device)


def _open(path: Path, shape: tuple[int, ...], dtype: type = np.float16) -> np.memmap:
    """A memmap of this shape, made when it is not there. Raises ValueError for another one."""
    if not path.exists():
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    found = np.lib.format.open_memmap(path, mode="r+")
    if found.shape != shape or found.dtype != dtype:
        raise ValueError(f"{path.name} is of another run")
    return found
