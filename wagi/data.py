"""Pictures in: image folders, and portraits rendered before or on the fly.

An item is a dict: image [3, S, S] float32 in [-1, 1]; portraits add params [P] float32 and mask [S, S] uint8
(region labels 0 background, 1 clothes, 2 skin, 3 eyes, 4 mouth, 5 hair, 6 hat, 7 letters, 8 accessories).
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wagi import splits
from wagi.errors import UserError
from wagi_rt import decoding, pictures
from wagi_rt.errors import printable

Item = dict[str, Tensor]


class Dataset(Protocol):
    param_dim: int  # 0: no parameters

    def __len__(self) -> int: ...

    def get(self, index: int, flip: bool) -> Item: ...


def to_float(images: np.ndarray) -> Tensor:  # ...,S,S,3 uint8 => ...,3,S,S float32 in [-1, 1]
    return torch.from_numpy(np.array(images)).movedim(-1, -3).float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> np.ndarray:  # ...,3,S,S in [-1, 1] => ...,S,S,3 uint8
    """Clamped and rounded, as pictures are written."""
    pixels = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return pixels.movedim(-3, -1).contiguous().cpu().numpy()


# ----------------------------------------------------------------------------------------------- images


class ImageFolder:
    """Every image below a folder as the runtime reads it: sRGB, its centred square, antialiased (Lanczos).

    The first pass reads the headers; hidden files are passed over. What cannot be read, then or when it is
    decoded, is reported on stderr, counted in `skipped` and left out; the next one takes its place.

    Args:
        chosen: these files in this order, in place of every image below the folder.
        about: what is to be said of the choice, for reports.
    Raises:
        UserError: no such folder, or no readable image in it.
    """

    param_dim = 0

    def __init__(
        self, path: str | Path, size: int, chosen: Sequence[Path] | None = None, about: str = ""
    ) -> None:
        self.root, self.size, self.about = Path(path), size, about
        if not self.root.is_dir():
            remedy = "a file, not a folder; unpack it first" if self.root.is_file() else "no such folder"
            raise UserError(f"{path}: {remedy}", 2)
        candidates = sorted(
            p for p in self.root.rglob("*")
            if p.suffix.lower() in decoding.READ_SUFFIXES and not p.name.startswith(".") and p.is_file()
        ) if chosen is None else list(chosen)  # fmt: skip
        self.files: list[Path] = []
        self._unreadable: dict[Path, str] = {}  # file -> reason
        for file in candidates:
            try:
                decoding.check(file)
                self.files.append(file)
            except UserError as error:
                self._skip(file, error)
        if not self.files:
            what = "no readable image" if candidates else "no image"
            raise UserError(f"{path}: {what} in this folder", 2)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def skipped(self) -> int:
        return len(self._unreadable)

    @property
    def unreadable(self) -> dict[str, str]:
        """Name -> why it could not be read, as far as was found out."""
        return {self.name(file): reason for file, reason in self._unreadable.items()}

    def name(self, file: Path) -> str:
        """A file's name in reports: its path below the folder, or the whole path."""
        return str(file.relative_to(self.root) if file.is_relative_to(self.root) else file)

    def leave_out(self, other: "ImageFolder") -> int:
        """Forget the files that the other one has too => how many they were. UserError when none is left."""
        taken = {file.resolve() for file in other.files}
        kept = [file for file in self.files if file.resolve() not in taken]
        if not kept:
            raise UserError(f"{self.root}: no image besides those of {other.root}", 2)
        count, self.files = len(self.files) - len(kept), kept
        return count

    def _skip(self, file: Path, error: UserError) -> None:
        if file not in self._unreadable:
            self._unreadable[file] = reason = str(error).removeprefix(f"{file}: ")
            line = f"skipped {file} ({reason}); {self.skipped} unreadable so far"
            print(printable(line), file=sys.stderr)

    def get(self, index: int, flip: bool) -> Item:
        for offset in range(len(self.files)):
            pixels = self.pixels((index + offset) % len(self.files))
            if pixels is not None:
                return {"image": to_float(pixels[:, ::-1] if flip else pixels)}
        raise UserError(f"{self.root}: no readable image in this folder")

    def pixels(self, index: int) -> np.ndarray | None:  # => S,S,3 uint8
        """One image as 8-bit pixels; None, reported and counted, when it does not decode."""
        try:
            picture = decoding.decode(self.files[index], size=self.size)
        except UserError as error:
            self._skip(self.files[index], error)
            return None
        return pictures.fit_square(picture, self.size)


class PortraitMemmap:
    """Portraits rendered by `python -m wagi.portraits --memmap`, at their size or an integer fraction of it.

    Images are area means, labels are taken at block centres. While the renderer still works, only the images
    it has finished (meta.json `done`) are used.

    Raises:
        UserError: files missing or damaged, size not a fraction of the stored one, nothing rendered yet.
    """

    def __init__(self, path: str | Path, size: int) -> None:
        self.root, self.size = Path(path), size
        try:
            meta = json.loads((self.root / "meta.json").read_text())
            self.images = np.load(self.root / "images.npy", mmap_mode="r")
            self.parameters = np.load(self.root / "parameters.npy", mmap_mode="r")
            self.regions = np.load(self.root / "regions.npy", mmap_mode="r")
            stored = int(meta["size"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: portraits folder not readable ({error})", 2) from None
        self.factor, rest = divmod(stored, size)
        if rest or not self.factor:
            raise UserError(f"{path}: images are {stored} px, size={size} does not divide that", 2)
        self.count = min(int(meta.get("done", len(self.images))), len(self.images))
        if not self.count:
            raise UserError(f"{path}: nothing rendered yet (meta.json done=0)", 2)
        self.param_dim, self.seed = self.parameters.shape[1], meta.get("seed")
        self.edited, self.scenes = (bool(meta.get("settings", {}).get(k)) for k in ("edited", "scenes"))

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, flip: bool = False) -> Item:
        assert not flip, "a flipped portrait would not fit its parameters"
        pixels, labels, f = self.images[index], self.regions[index], self.factor
        if f == 1:
            image = to_float(pixels)
        else:
            means = pixels.reshape(self.size, f, self.size, f, 3).mean(axis=(1, 3), dtype=np.float32)
            image = torch.from_numpy(means).permute(2, 0, 1).div(127.5).sub_(1)
            labels = labels[f // 2 :: f, f // 2 :: f]
        mask = torch.from_numpy(np.array(labels))
        return {"image": image, "params": torch.from_numpy(np.array(self.parameters[index])), "mask": mask}


class Counterfactuals:
    """Portraits with their true edits: items have `edited` and `edited_mask` besides.

    Args:
        data: portraits; path: the folder of `python -m wagi.portraits --memmap --edited` of the same seed.
    Length: that of the shorter one. Raises UserError when the folder holds other portraits' edits.
    """

    def __init__(self, data: Dataset, path: str | Path) -> None:
        self.data, self.edits = data, PortraitMemmap(path, data.size)  # type: ignore[attr-defined]
        if not self.edits.edited or self.edits.seed != getattr(data, "seed", None):
            raise UserError(
                f"{path}: not the edits of these portraits; render them with "
                "`python -m wagi.portraits --memmap --edited` and the seed of --data", 2,
            )  # fmt: skip
        self.param_dim, self.size = data.param_dim, self.edits.size

    def __len__(self) -> int:
        return min(len(self.data), len(self.edits))

    def get(self, index: int, flip: bool = False) -> Item:
        edit = self.edits.get(index, flip)
        return {**self.data.get(index, flip), "edited": edit["image"], "edited_mask": edit["mask"]}


class PortraitStream:
    """Portraits rendered on the fly, `portraits:SEED:COUNT`: those of a rendered folder with that seed."""

    def __init__(self, spec: str, size: int) -> None:
        from wagi.portraits.parameters import NUM_PARAMETERS

        try:
            self.seed, self.count = (int(part) for part in spec.split(":")[1:])
        except ValueError:
            raise UserError(f"{spec}: write portraits:SEED:COUNT, two whole numbers", 2) from None
        if self.count < 1 or self.seed < 0:
            raise UserError(f"{spec}: COUNT must be at least 1, SEED at least 0", 2)
        self.size = size
        self.param_dim = NUM_PARAMETERS

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, flip: bool = False) -> Item:
        from wagi.portraits import dataset, scene, vector

        assert not flip, "a flipped portrait would not fit its parameters"
        portrait = dataset.portrait(self.seed, index)
        image, labels = scene.render_both(portrait, self.size)
        params = np.asarray(vector(portrait), np.float32)
        return {
            "image": to_float(image),
            "params": torch.from_numpy(params),
            "mask": torch.from_numpy(labels),
        }


def open_dataset(path: str | Path, size: int) -> Dataset:
    """`portraits:SEED:COUNT`, a folder of rendered portraits (meta.json and images.npy), one of images, or a
    part of CelebA-HQ, `celeba-hq:FOLDER:PART`, whose counts are said on stderr."""
    if str(path).startswith("portraits:"):
        return PortraitStream(str(path), size)
    if str(path).startswith(splits.PREFIX):
        chosen = splits.celeba_hq(str(path), decoding.READ_SUFFIXES)
        print(printable(chosen.about), file=sys.stderr)
        return ImageFolder(chosen.images, size, chosen.files, chosen.about)
    root = Path(path)
    if (root / "meta.json").is_file() and (root / "images.npy").is_file():
        return PortraitMemmap(root, size)
    return ImageFolder(root, size)
