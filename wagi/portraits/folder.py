"""The folder of a data set that fills up: meta.json with settings and progress, numpy memmaps beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wagi.errors import UserError
from wagi.files import write_json
from wagi.portraits.scene import LABELS

SAVE_EVERY = 32
Layout = dict[str, tuple[Any, tuple[int, ...]]]  # name -> dtype and shape of a memmap


class Folder:
    """A data set's folder, made or taken up where an earlier run of the same settings stopped.

    Args:
        settings: what decides the content, as JSON holds it; size, seed, count and scenes are
            among them.
        defaults: of settings that an earlier version did not write.
    `done` is the number of finished pictures. Raises UserError for a folder that holds anything else.
    """

    def __init__(
        self, out: Path, settings: Mapping[str, Any], parameters: int, kind: str,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.out, self.settings, self.parameters = out, dict(settings), parameters
        self.meta, self.done = out / "meta.json", 0
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out}: is a file; name a folder", status=2)
        try:
            out.mkdir(parents=True, exist_ok=True)
            if not self.meta.exists():
                if any(out.iterdir()):
                    raise UserError(f"--out {out}: not empty and not a {kind} run; name a new folder", 2)
                self.save(0)
                return
            found = json.loads(self.meta.read_text())
            earlier = {**(defaults or {}), **found["settings"]}
            self.done = int(found["done"])
        except OSError as error:
            raise UserError(
                f"--out {out}: cannot be used ({error.strerror or error}); name a writable folder"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"--out {out}: its meta.json is not a {kind} run's; name a new folder", status=2
            ) from None
        self._compare(earlier)

    def _compare(self, earlier: Mapping[str, Any]) -> None:
        different = [
            f"{key} {earlier.get(key)} there, {value} asked"
            for key, value in self.settings.items()
            if earlier.get(key) != value
        ]
        if different:
            raise UserError(
                f"--out {self.out}: holds another run ({'; '.join(different)}); name a new folder", status=2
            )

    def save(self, done: int, arrays: Mapping[str, np.memmap] | None = None) -> None:
        """Note that so many pictures are finished, once they are on the disk."""
        for array in (arrays or {}).values():
            array.flush()
        self.done = done
        flat = {name: self.settings[name] for name in ("size", "seed", "count")}
        facts = {"num_parameters": self.parameters, "labels": list(LABELS)}
        write_json(self.meta, flat | {"done": done} | facts | {"settings": self.settings})

    def layout(self) -> Layout:
        """Pictures, labels, parameters; of scenes `motion` from the scene's other view, at half size."""
        count, size, half = self.settings["count"], self.settings["size"], self.settings["size"] // 2
        layout: Layout = {
            "images": (np.uint8, (count, size, size, 3)),
            "regions": (np.uint8, (count, size, size)),
            "parameters": (np.float32, (count, self.parameters)),
        }
        if self.settings["scenes"]:
            layout |= {"flows": (np.float16, (count, 2, half, half)), "seen": (np.bool_, (count, half, half))}
        return layout

    def arrays(self) -> dict[str, np.memmap]:
        """The memmaps, created at full length, of zeros, on the first run. UserError for a damaged one."""
        arrays = {}
        for name, (dtype, shape) in self.layout().items():
            path = self.out / f"{name}.npy"
            if not path.exists():
                arrays[name] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
                continue
            try:
                arrays[name] = np.lib.format.open_memmap(path, mode="r+")
            except ValueError:
                raise UserError(f"{path}: damaged; delete the folder and start again") from None
            if arrays[name].shape != shape or arrays[name].dtype != dtype:
                raise UserError(f"{path}: not of this run; delete the folder and start again")
        return arrays
