"""Data sets on disk: a folder of PNG files, or numpy memmaps for training. Resumable, independent of N."""

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wagi.errors import UserError
from wagi.files import beside, contact_sheet, write_png, write_text
from wagi.portraits.edits import PER_SCENE, TURNED, counterfactual, scene
from wagi.portraits.folder import SAVE_EVERY, Folder
from wagi.portraits.motion import motion
from wagi.portraits.parameters import NUM_PARAMETERS, Portrait, attributes, sample, vector
from wagi.portraits.scene import render_both
from wagi.portraits.streams import portrait_seed

VERSION = 1  # of the pictures: raised when the renderer's output changes, so that no run mixes two worlds
SHEET = 64


@dataclass(frozen=True)
class Settings:
    """The facts that decide the content of a data set."""

    count: int
    size: int
    seed: int
    memmap: bool = False
    supersample: int = 2
    version: int = VERSION
    edited: bool = False  # the counterfactual of each portrait instead of the portrait
    scenes: bool = False  # each portrait and its other appearances and views: PER_SCENE pictures in a row


def portrait(seed: int, index: int, edited: bool = False) -> Portrait:
    """Portrait `index` of the data set with this seed, whatever the number of portraits."""
    found = sample(portrait_seed(seed, index))
    return counterfactual(found) if edited else found


def picture(settings: Settings, index: int) -> Portrait:
    """The scene of picture `index` of a data set."""
    if settings.scenes:
        return scene(portrait(settings.seed, index // PER_SCENE))[index % PER_SCENE]
    return portrait(settings.seed, index, settings.edited)


def _work(task: tuple[Settings, int]) -> tuple[int, dict[str, np.ndarray]]:
    """One picture's number and its entry in every array of the folder's layout."""
    settings, index = task
    chosen = picture(settings, index)
    image, regions = render_both(chosen, settings.size, settings.supersample)
    found = {"images": image, "regions": regions, "parameters": vector(chosen)}
    if settings.scenes and settings.memmap:
        turned = TURNED[index % PER_SCENE]
        other = scene(portrait(settings.seed, index // PER_SCENE))[0 if turned else TURNED.index(True)]
        found["flows"], found["seen"] = motion(chosen, other, settings.size // 2)
    return index, found


def _rendered(settings: Settings, indices: list[int], workers: int) -> Iterator[tuple]:
    """Results of `_work` in the order of `indices`."""
    tasks = [(settings, index) for index in indices]
    if workers <= 1:
        yield from map(_work, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_work, tasks, chunksize=4)


def generate(out: Path, settings: Settings, workers: int = 1, progress: bool = True) -> int:
    """Render a data set into `out`; how many portraits this call rendered (0 when it was complete).

    A killed run is taken up by the same call. With `memmap`: images.npy, regions.npy, parameters.npy (and of
    scenes flows.npy and seen.npy) at full length from the start, meta.json counts the finished ones.
    Otherwise images/000000.png and so on, and parameters.npy at the end. Both end with attributes.jsonl and
    contact_sheet.png. Raises UserError.
    """
    from tqdm import tqdm  # before anything is written; those who only read portraits need it not

    folder = Folder(out, asdict(settings), NUM_PARAMETERS, "portraits", asdict(Settings(0, 0, 0)))
    pictures = out / "images"
    try:
        arrays = folder.arrays() if settings.memmap else None
        if arrays is None:
            pictures.mkdir(exist_ok=True)
        remaining = list(range(folder.done, settings.count))
        with tqdm(total=settings.count, initial=folder.done, unit="portrait", disable=not progress) as bar:
            for index, found in _rendered(settings, remaining, workers):
                if arrays is None:
                    write_png(pictures / f"{index:06d}.png", found["images"])
                for name, array in (arrays or {}).items():
                    array[index] = found[name]
                bar.update()
                if (index + 1) % SAVE_EVERY == 0 or index + 1 == settings.count:
                    folder.save(index + 1, arrays)
        _finish(out, settings, arrays)
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be written ({error.strerror or error}); free space or name another folder"
        ) from None
    return len(remaining)


def _finish(out: Path, settings: Settings, arrays: dict[str, np.memmap] | None) -> None:
    """Attributes, parameters of a picture folder, contact sheet."""
    portraits = [picture(settings, index) for index in range(settings.count)]
    lines = "".join(json.dumps(attributes(one)) + "\n" for one in portraits)
    write_text(out / "attributes.jsonl", lines)
    first = range(min(SHEET, settings.count))
    if arrays is None:
        with beside(out / "parameters.npy") as part, open(part, "wb") as file:
            np.save(file, np.stack([vector(one) for one in portraits]))
        images = [np.asarray(Image.open(out / "images" / f"{index:06d}.png")) for index in first]
    else:
        images = [np.asarray(arrays["images"][index]) for index in first]
    write_png(out / "contact_sheet.png", contact_sheet(images))
