"""Photos in: a file, bytes or a pipe as upright 8-bit sRGB, within bounds of memory, or one line."""

from __future__ import annotations

import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from wagi_rt import colours
from wagi_rt.errors import UserError

# Formats that are read, by Pillow's names, and how their files end. Their decoders are Pillow's own and start
# no other program; what Pillow knows besides (PostScript, Windows metafiles, ...) is not opened at all.
READ = {
    "PNG": ".png .apng", "JPEG": ".jpg .jpeg .jfif .jpe", "MPO": ".mpo", "GIF": ".gif", "BMP": ".bmp",
    "DIB": ".dib", "PPM": ".ppm .pgm .pbm .pnm .pfm", "WEBP": ".webp", "TIFF": ".tif .tiff",
    "AVIF": ".avif", "JPEG2000": ".jp2 .j2k", "ICO": ".ico", "PCX": ".pcx", "SGI": ".sgi", "DDS": ".dds",
    "PSD": ".psd", "TGA": ".tga",
}  # fmt: skip
READ_SUFFIXES = frozenset(" ".join(READ.values()).split())
STREAM_LIMIT = 256 << 20  # bytes of a picture that comes through a pipe, and so is held in memory
_SEQUENCES = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")  # several pictures in one file mean frames or pages
# Decoders that hold a picture several times over (12 to 16 bytes for each pixel): a quarter of the limit.
_HUNGRY = ("WEBP", "AVIF", "JPEG2000")
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")
_ROWS_PER_STRIP = 278  # TIFF tag
_LARGE = 1 << 25  # pixels from which on a picture is reduced before anything else is done with it
_REDUCED = 3  # times the size that is needed: the rest is left to the antialiased resize
_STRIP = 1 << 22  # pixels that are converted at a time

# Odd metadata and ordinary large photos make Pillow warn; what matters is said in our notes and errors. By
# filters rather than around each call, because pictures are read in several threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


class TooManyPixels(UserError):
    """A picture beyond the limit, which a user may raise (`allow_pixels`)."""


class Picture(NamedTuple):
    """Decoded RGB pixels in sRGB, upright, and the part of the photo that they show.

    photo: width and height of the whole photo; box: left, top, right, bottom in it, of `pixels`, which may
    be reduced. notes: what a user should know about how it was read.
    """

    pixels: Image.Image
    notes: list[str]
    photo: tuple[int, int]
    box: tuple[float, float, float, float]


class Stored(NamedTuple):
    """A loaded picture in its own mode, neither turned nor converted, with its EXIF and profile.

    notes: as `Picture`'s. declared: the values of black and white, where the file says them. deep: of 16 bits
    in each channel, of which Pillow keeps the upper 8.
    """

    image: Image.Image
    notes: list[str]
    declared: colours.Range | None = None
    deep: bool = False


def decode(
    source: str | os.PathLike[str] | bytes, name: str = "", size: int | None = None, fit: str = "crop"
) -> Picture:
    """Read a file (or its bytes) as upright 8-bit sRGB; UserError in one line for whatever cannot be read.

    EXIF orientation and colour profile are applied; transparency is laid on white; pictures of more bits are
    scaled, not clipped; of an animation the first frame is taken. size, fit: the square that `fit_square` is
    going to make of it, for which a large photo is read at a fraction of its size.
    """
    with _opened(source, name) as image:
        declared = colours.declared(image)
        whole, notes = _load(image, size)
        return _picture(image, whole, notes, declared, size, fit)


def from_pillow(image: Image.Image, size: int | None = None, fit: str = "crop") -> Picture:
    """An image that is already open, read like a file."""
    with _one_line("image"):
        declared = colours.declared(image)
        image.load()
        return _picture(image, image.size, [], declared, size, fit)


def load(source: str | os.PathLike[str] | bytes, name: str = "") -> Stored:
    """The picture as it is stored, all of its pixels. Errors as `decode`."""
    with _opened(source, name) as image:
        declared, deep = colours.declared(image), _is_deep(image)
        return Stored(image, _load(image, None)[1], declared, deep)


def check(source: str | os.PathLike[str]) -> None:
    """Read a file's header only; UserError for what `decode` would not even try to read."""
    with _opened(source):
        pass


def allow_pixels(count: int) -> None:
    """Read pictures of up to so many pixels (WebP, AVIF and JPEG 2000: a quarter), in this whole process.

    The limit is Pillow's own: twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million.
    """
    Image.MAX_IMAGE_PIXELS = -(-count // 2)


def read_stream(stream: IO[bytes], name: str) -> bytes:
    """All of a pipe; UserError when it fails, or gives more than a picture can have."""
    try:
        content = stream.read(STREAM_LIMIT + 1)
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise UserError(f"{name}: cannot be read ({detail}); give a file, or a pipe with a picture") from None
    if len(content) > STREAM_LIMIT:
        limit = f"{STREAM_LIMIT >> 20} MB"
        raise UserError(f"{name}: more than {limit}, which is no picture; save it to a file to have it tried")
    return content


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes, name: str = "") -> Iterator[ImageFile.ImageFile]:
    """The picture with its header read; whatever goes wrong, then or inside, is one line."""
    name = name or ("image" if isinstance(source, bytes) else os.fsdecode(source))
    with io.BytesIO(source) if isinstance(source, bytes) else _open(source, name) as stream:
        with _one_line(name):
            start = stream.read(12)
            if not start:
                raise UserError("the file is empty; replace it")
            if start[4:8] == b"ftyp" and start[8:12] in _HEIC:
                raise UserError("HEIC photos are not read; convert it to JPEG")
            stream.seek(0)
            image = _identify(stream)
            limit = _limit() / _copies(image)
            if image.width * image.height > limit:
                raise TooManyPixels(_too_many(limit))
            if image.format == "TIFF":
                _silence_libtiff()
            yield image


def _identify(stream: IO[bytes]) -> ImageFile.ImageFile:
    """Pillow's common formats first: the others need all of its modules to be imported."""
    for import_formats in (Image.preinit, Image.init):
        import_formats()
        with suppress(UnidentifiedImageError):
            return Image.open(stream, formats=[name for name in READ if name in Image.OPEN])
    raise UnidentifiedImageError


def _open(path: str | os.PathLike[str], name: str) -> IO[bytes]:
    """The file; of a pipe its contents, because decoders go back and forth."""
    try:
        stream = open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, not an image; name the image files in it") from None
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise UserError(f"{name}: cannot be opened ({detail}); check its path and permissions") from None
    if stream.seekable():
        return stream
    with stream:
        return io.BytesIO(read_stream(stream, name))


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Errors as UserErrors that begin with the picture's name."""
    kind = UserError
    try:
        yield
        return
    except UserError as error:
        reason, kind = str(error), type(error)
    except Image.DecompressionBombError:
        reason, kind = _too_many(_limit()), TooManyPixels
    except UnidentifiedImageError:
        reason = "not an image of a format that is read; convert it to PNG or JPEG"
    except Exception as error:  # damaged files raise anything out of Pillow's decoders, even MemoryError
        detail = " ".join(str(error).split()) or type(error).__name__
        reason = f"damaged or truncated image ({detail}); replace the file"
    raise kind(f"{name}: {reason}")


def _limit() -> float:
    return float("inf") if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _too_many(limit: float) -> str:
    return f"too many pixels to be a photo (more than {limit / 1e6:.1f} million); shrink it first"


def _copies(image: ImageFile.ImageFile) -> int:
    """The copies of the picture that its decoder holds at once, roughly."""
    if image.format in _HUNGRY:
        return 4
    rows = getattr(image, "tag_v2", {}).get(_ROWS_PER_STRIP, image.height)
    one_strip = isinstance(rows, int) and rows * 2 > image.height and image.width * image.height > _LARGE
    return 2 if image.format == "TIFF" and one_strip else 1


def _silence_libtiff() -> None:
    """Keep libtiff's own messages off stderr: what matters comes to us as an exception.

    Found through Pillow's extension module, where the library is one that it is linked to.
    """
    import ctypes

    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(Image.core.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def _load(image: ImageFile.ImageFile, size: int | None) -> tuple[tuple[int, int], list[str]]:
    """Decode the pixels, a JPEG's reduced if only a square of `size` is wanted => whole size, notes."""
    notes = []
    frames = getattr(image, "n_frames", 1) if image.format in _SEQUENCES else 1
    if frames > 1:
        notes.append(f"animated or multi-page, the first of {frames} frames is used")
    deep = _is_deep(image)
    whole = image.size
    if size is not None:
        image.draft(None, (2 * size, 2 * size))  # twice: the rest is left to the antialiased resize
    drafted = image.size != whole
    image.load()
    if deep and max(high for _, high in np.atleast_2d(np.array(image.getextrema()))[:3]) < 16:
        notes.append("16 bits per channel and nearly black; if it holds values of 12 bits, scale them to 16")
    return whole if drafted else image.size, notes


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Of 16 bits in each of several channels, as far as its header has been read."""
    return ";16" in repr(image.tile[:1]) and image.mode in ("RGB", "RGBA", "LA")


def _picture(
    image: Image.Image,
    whole: tuple[int, int],
    notes: list[str],
    declared: colours.Range | None,
    size: int | None,
    fit: str,
) -> Picture:
    """A loaded image as upright sRGB; of a large one only what the square needs."""
    shown: tuple[float, float] = whole
    if size is not None and image.width * image.height > _LARGE:
        extent, factors = _needed(image.size, size, fit)
        shown = (extent[0] * whole[0] / image.width, extent[1] * whole[1] / image.height)
        image = _reduced(image, extent, factors)
    else:
        image = colours.averaged(image)
    probe = Image.new("L", (2, 1))
    probe.info = image.info
    if upright(probe).width == 1:  # turned by a right angle; a square does not show it
        whole, shown = whole[::-1], shown[::-1]
    pixels, more = colours.to_srgb(upright(image), declared)
    left, top = (whole[0] - shown[0]) / 2, (whole[1] - shown[1]) / 2
    return Picture(pixels, notes + more, whole, (left, top, left + shown[0], top + shown[1]))


def _needed(have: tuple[int, int], size: int, fit: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """The part in the middle that a square of `size` needs, and the whole factors to reduce it by."""
    width, height = have
    if fit == "crop":
        width = height = min(have)
    by = max(have) if fit == "pad" else None
    across, down = (max(1, (by or side) // (_REDUCED * size)) for side in (width, height))
    across, down = min(across, width), min(down, height)
    return (width // across * across, height // down * down), (across, down)


def _reduced(image: Image.Image, extent: tuple[int, int], factors: tuple[int, int]) -> Image.Image:
    """Block means over the middle of a picture, a few rows at a time: never the whole in a second mode."""
    width, height = extent
    left, top = (image.width - width) // 2, (image.height - height) // 2
    rows = max(1, _STRIP // (width * factors[1])) * factors[1]
    result = None
    for y in range(0, height, rows):
        strip = image.crop((left, top + y, left + width, top + min(y + rows, height)))
        strip = colours.averaged(strip).reduce(factors)
        if result is None:
            result = Image.new(strip.mode, (width // factors[0], height // factors[1]))
            result.info = strip.info
        result.paste(strip, (0, y // factors[1]))
    assert result is not None  # a picture has a row
    return result


def upright(image: Image.Image) -> Image.Image:
    """EXIF orientation applied; broken EXIF is no reason to refuse the pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, TypeError, KeyError, SyntaxError, OSError, struct.error):
        return image
