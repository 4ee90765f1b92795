"""The pictures of an evaluation: each once, in order, none replaced, what cannot be read listed."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from wagi.data import ImageFolder, open_dataset, to_uint8
from wagi.errors import UserError, option


class Inputs:
    """`for name, pixels in Inputs(data, size, limit)`: pixels [S, S, 3] uint8; `skipped` grows meanwhile.

    data: what wagi.data.open_dataset takes. limit: the first so many images only (0: all).
    """

    def __init__(self, data: str, size: int, limit: int = 0) -> None:
        if limit < 0:
            raise UserError(f"--limit {limit}: must be 0 (all) or more", 2)
        self.source, self.limit = data, limit
        with option("--data"):
            self._data = open_dataset(data, size)

    def __len__(self) -> int:
        return min(len(self._data), self.limit or len(self._data))

    @property
    def about(self) -> str:
        """Words for a report on the choice of pictures; mostly none."""
        return getattr(self._data, "about", "")

    @property
    def skipped(self) -> dict[str, str]:
        """Name -> why it could not be read."""
        return self._data.unreadable if isinstance(self._data, ImageFolder) else {}

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for index in range(len(self)):
            if isinstance(self._data, ImageFolder):
                name = self._data.name(self._data.files[index])
                pixels = self._data.pixels(index)
                if pixels is not None:
                    yield name, pixels
            else:
                yield f"{index:06d}", to_uint8(self._data.get(index, False)["image"])

    def chunks(self, size: int) -> Iterator[list[tuple[str, np.ndarray]]]:
        """Lists of at most `size` pictures; the last one is as short as it is."""
        rest = iter(self)
        while chunk := list(islice(rest, size)):
            yield chunk
