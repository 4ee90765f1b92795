"""Data sets on disk: a folder of PNG files, or numpy memmaps for training. Resumable, independent of N."""

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wagi.errors import UserError
from wagi.files import beside, contact_sheet, write_json, write_png, write_text
from wagi.portraits.edits import PER_SCENE, TURNED, counterfactual, scene
from wagi.portraits.motion import motion
from wagi.portraits.parameters import NUM_PARAMETERS, Portrait, attributes, sample, vector
from wagi.portraits.scene import LABELS, render_both
from wagi.portraits.streams import portrait_seed

VERSION = 1  # of the pictures: raised when the renderer's output changes, so that no run mixes two worlds
SAVE_EVERY = 32
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
    """One picture's number and its entry in every array of `_layout`."""
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


def _open(out: Path, settings: Settings) -> int:
    """Prepare the folder; how many portraits an earlier run of the same settings finished.

    Raises UserError for a folder that holds anything else.
    """
    meta = out / "meta.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder", status=2)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not meta.exists():
            if any(out.iterdir()):
                raise UserError(
                    f"--out {out}: not empty and not a portraits run; name a new folder", status=2
                )
            _write_meta(out, settings, 0)
            return 0
        found = json.loads(meta.read_text())
        earlier = asdict(Settings(0, 0, 0)) | found["settings"]
        done = int(found["done"])
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be used ({error.strerror or error}); name a writable folder"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"--out {out}: its meta.json is not a portraits run's; name a new folder", status=2
        ) from None
    wanted = asdict(settings)
    different = [
        f"{key} {earlier.get(key)} there, {wanted[key]} asked"
        for key in wanted
        if earlier.get(key) != wanted[key]
    ]
    if different:
        raise UserError(
            f"--out {out}: holds another run ({'; '.join(different)}); name a new folder", status=2
        )
    return done


def _write_meta(out: Path, settings: Settings, done: int) -> None:
    flat = {"size": settings.size, "seed": settings.seed, "count": settings.count, "done": done}
    parameters = {"num_parameters": NUM_PARAMETERS, "labels": list(LABELS)}
    write_json(out / "meta.json", flat | parameters | {"settings": asdict(settings)})


def _layout(settings: Settings) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Name -> dtype and shape of the memmaps. Scenes: `motion` from the scene's other view, at half size."""
    count, size, half = settings.count, settings.size, settings.size // 2
    layout: dict[str, tuple[Any, tuple[int, ...]]] = {
        "images": (np.uint8, (count, size, size, 3)),
        "regions": (np.uint8, (count, size, size)),
        "parameters": (np.float32, (count, NUM_PARAMETERS)),
    }
    if settings.scenes:
        layout |= {"flows": (np.float16, (count, 2, half, half)), "seen": (np.bool_, (count, half, half))}
    return layout


def _arrays(out: Path, settings: Settings) -> dict[str, np.memmap]:
    """The memmaps, created at full length on the first run. Raises UserError for one that is damaged."""
    arrays = {}
    for name, (dtype, shape) in _layout(settings).items():
        path = out / f"{name}.npy"
        if not path.exists():
            arrays[name] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            continue
        try:
            arrays[name] = np.lib.format.open_memmap(path, mode="r+")
        except ValueError:
            raise UserError(f"{path}: damaged; delete the folder and render again") from None
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            raise UserError(f"{path}: not of this run; delete the folder and render again")
    return arrays


def generate(out: Path, settings: Settings, workers: int = 1, progress: bool = True) -> int:
    """Render a data set into `out`; how many portraits this call rendered (0 when it was complete).

    A killed run is taken up by the same call. With `memmap`: images.npy, regions.npy, parameters.npy (and of
    scenes flows.npy and seen.npy) at full length from the start, meta.json counts the finished ones.
    Otherwise images/000000.png and so on, and parameters.npy at the end. Both end with attributes.jsonl and
    contact_sheet.png. Raises UserError.
    """
    from tqdm import tqdm  # before anything is written; those who only read portraits need it not

    done = _open(out, settings)
    pictures = out / "images"
    try:
        arrays = _arrays(out, settings) if settings.memmap else None
        if arrays is None:
            pictures.mkdir(exist_ok=True)
        remaining = list(range(done, settings.count))
        with tqdm(total=settings.count, initial=done, unit="portrait", disable=not progress) as bar:
            for index, found in _rendered(settings, remaining, workers):
                if arrays is None:
                    write_png(pictures / f"{index:06d}.png", found["images"])
                for name, array in (arrays or {}).items():
                    array[index] = found[name]
                bar.update()
                if (index + 1) % SAVE_EVERY == 0 or index + 1 == settings.count:
                    for array in (arrays or {}).values():
                        array.flush()
                    _write_meta(out, settings, index + 1)
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
