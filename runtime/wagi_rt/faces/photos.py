"""A whole photo in and out: faces are put back into its own pixels, and what is around them stays as it is.

Pixels outside of a face keep their bits, in the photo's own orientation, colour profile and alpha.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from wagi_rt import colours, decoding
from wagi_rt.errors import UserError
from wagi_rt.faces.alignment import Alignment, paste
from wagi_rt.pictures import FAST_PNG, WRITTEN

_ORIENTATION = 0x0112  # EXIF tag
# The way back from upright to how a photo of each EXIF orientation is stored.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
# Tags of a TIFF that say something of the photo (others: how the file is laid out), and EXIF's directories.
_DESCRIBING = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_DIRECTORIES = (0x8769, 0x8825)
_LONGEST = 65_533  # bytes of EXIF that a JPEG can hold


def read(source: str | os.PathLike[str] | bytes, name: str = "") -> Photo:
    """A photo from a file or its bytes; UserError in one line for what cannot be read."""
    return Photo(decoding.load(source, name))


class Photo:
    """A decoded photo.

    upright: as it is seen, RGB in sRGB; what faces are found in and cut from. notes: what a user should know
    about how it was read and will be written.
    """

    def __init__(self, loaded: decoding.Stored) -> None:
        stored = loaded.image
        self.notes = list(loaded.notes)
        self._format = "JPEG" if stored.format == "MPO" else stored.format
        turned = decoding.upright(stored)
        self._about_stored, self._about = _metadata(stored, stored), _metadata(turned, stored)
        self._orientation = stored.getexif().get(_ORIENTATION, 1) if turned is not stored else 1
        self._jpeg = _quantisation(stored)
        self.upright, more = colours.to_srgb(turned, loaded.declared)
        self.notes += more
        self._profile = stored.info.get("icc_profile")
        self._alpha: Image.Image | None = None
        self._pixels = self._own(colours.averaged(turned))
        if loaded.deep or stored.mode.startswith(("I", "F")):
            self.notes.append("more than 8 bits, written with 8")

    def _own(self, image: Image.Image) -> Image.Image:
        """The picture that is pasted into, L or RGB: as stored; other modes in sRGB, with a note."""
        if image.mode in ("RGBA", "LA"):
            self._alpha = image.getchannel("A")
            image = image.convert(image.mode[:-1])
        if image.mode in ("L", "RGB"):
            return image
        self._profile = None
        if image.mode in ("I", "F"):
            return self.upright.convert("L")
        self.notes.append(f"{image.mode}, written as RGB")
        return self.upright

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as seen."""
        return self.upright.size

    def with_faces(
        self,
        alignments: Sequence[Alignment],
        after: Sequence[np.ndarray],  # each [S, S, 3] uint8
        before: Sequence[np.ndarray] | None = None,
    ) -> Photo:
        """The photo with each square put back at its place, soft at the borders. `upright` stays as it was.

        With `before`, the squares that `after` was made from, only the difference is added: where nothing was
        changed the photo keeps its bits and no seam can show. Without, a square replaces what is there.
        """
        pixels = np.array(self._pixels).reshape(*self._pixels.size[::-1], -1)
        new = [self._colours(square) for square in after]
        old = None if before is None else [self._colours(square) for square in before]
        paste(pixels, alignments, new, old, None if self._alpha is None else np.asarray(self._alpha) > 0)
        result = copy(self)
        result._pixels = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
        return result

    def _colours(self, square: np.ndarray) -> np.ndarray:  # [S, S, 3] uint8 => [S, S, 1 or 3] float32
        """An sRGB square in the photo's own colours."""
        image = Image.fromarray(square)
        if self._profile:
            try:
                image = colours.from_srgb(image, self._profile)
            except UserError:  # broken, or of other pictures: it was passed over in reading, too
                self._profile = None
        return np.array(image.convert(self._pixels.mode), np.float32).reshape(*square.shape[:2], -1)

    def encode(self, suffix: str, strip: bool = False) -> bytes:
        """A file's contents in the format of the suffix, with its profile and, without `strip`, its EXIF.

        In its own format a photo keeps its stored orientation; in another one, and without EXIF, it is stored
        upright. A JPEG that was one keeps its quantisation.
        """
        kind = WRITTEN[suffix]
        image = self._pixels
        if self._alpha is not None:
            image = image.copy()
            image.putalpha(self._alpha)
        if kind == "JPEG" and self._alpha is not None:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA")).convert(self._pixels.mode)
        options: dict[str, Any] = {"icc_profile": self._profile} if self._profile else {}
        as_stored = kind == self._format and not strip
        if as_stored and self._orientation in _STORED:
            image = image.transpose(_STORED[self._orientation])
        if not strip:
            options |= self._about_stored if as_stored else self._about
        if kind == "JPEG":
            options |= self._jpeg or {"quality": 95}
            if len(options.get("exif", b"")) > _LONGEST:
                del options["exif"]
        else:
            options |= FAST_PNG if kind == "PNG" else {"quality": 95, "exact": True}
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()


def _metadata(image: Image.Image, stored: Image.Image) -> dict[str, Any]:
    """EXIF, XMP and resolution, as Pillow takes them."""
    found = {key: image.info[key] for key in ("exif", "xmp", "dpi") if image.info.get(key)}
    if stored.format == "TIFF":
        tags, kept = stored.getexif(), Image.Exif()
        for tag in _DESCRIBING:
            if tag in tags:
                kept[tag] = tags[tag]
        for directory in _DIRECTORIES:
            if below := tags.get_ifd(directory):
                kept.get_ifd(directory).update(below)
        found["exif"] = kept.tobytes()
    return found


def _quantisation(image: Image.Image) -> dict[str, Any]:
    """The settings a JPEG was compressed with, which its pixels survive again; empty for other formats."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return {}
    sampling = JpegImagePlugin.get_sampling(image)
    return {"qtables": tables} | ({"subsampling": sampling} if sampling >= 0 else {})
