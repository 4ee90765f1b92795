"""No picture starts another program, fills the memory or writes to stderr by itself; where a square lies."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from checkout import ROOT
from PIL import EpsImagePlugin, Image
from tiny_bundle import error_line, run_cli, write_tiny_bundle

from wagi.data import ImageFolder
from wagi_rt import decoding, pictures
from wagi_rt.errors import UserError

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n%%EOF\n"
NOISE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def save(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Formats


@pytest.fixture
def no_programs(monkeypatch):
    """Ghostscript must not be reached, whether or not it is installed."""

    def started(*arguments, **options):
        raise AssertionError("another program was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    monkeypatch.setattr(subprocess, "Popen", started)


def test_postscript_under_another_name_is_not_run(no_programs, bundle, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "evil.jpg").write_bytes(POSTSCRIPT)
    Image.fromarray(NOISE).save(folder / "good.png")
    assert run_cli("invert", folder, "-m", bundle, "-o", tmp_path / "out") == 1
    assert "evil.jpg: not an image of a format that is read" in error_line(capsys.readouterr().err)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    data = ImageFolder(folder, 32)
    assert [file.name for file in data.files] == ["good.png"]
    assert "not an image" in data.unreadable["evil.jpg"]
    with pytest.raises(UserError, match="not an image"):
        decoding.decode(POSTSCRIPT)


@pytest.mark.parametrize("kind", sorted(set(decoding.READ) - {"MPO", "PSD"}))  # Pillow writes no PSD
def test_each_format_of_the_list_is_read(kind):
    if kind not in Image.registered_extensions().values() or kind not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {kind}")
    Image.init()
    picture = decoding.decode(save(Image.fromarray(NOISE), kind), size=32)
    assert pictures.fit_square(picture, 32).shape == (32, 32, 3)


def test_readme_and_list_are_the_same():
    """The README names the formats in its own words: every one of the list, and no other."""
    named = (ROOT / "README.md").read_text().partition("Pictures may be ")[2].partition("(")[0]
    words = named.replace(" and ", ", ").replace("\n", " ").split(", ")
    found = {word.strip().upper().replace(" ", "") for word in words if word.strip()}
    assert found == set(decoding.READ) - {"DIB"}, found


def test_two_pictures_of_a_camera_are_no_animation():
    image = Image.fromarray(NOISE)
    assert decoding.decode(save(image, "MPO", save_all=True, append_images=[image])).notes == []


def test_heic_is_called_by_its_name():
    with pytest.raises(UserError, match="HEIC photos are not read; convert it to JPEG"):
        decoding.decode(b"\0\0\0\x18ftypheic" + bytes(400))


def test_decoders_write_nothing_to_stderr(tmp_path):
    """A TIFF whose strips are damaged makes libtiff speak, broken EXIF makes Pillow warn."""
    content = bytearray(save(Image.fromarray(NOISE), "TIFF", compression="tiff_deflate"))
    for place in range(300, 3000, 7):
        content[place] ^= 0x55
    (tmp_path / "a.tiff").write_bytes(content)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    (tmp_path / "b.jpg").write_bytes(save(Image.fromarray(NOISE), "JPEG", exif=exif))
    code = (
        "from wagi_rt.decoding import decode\nfrom wagi_rt.errors import UserError\n"
        "decode('b.jpg')\ntry: decode('a.tiff')\nexcept UserError as error: print(error)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "a.tiff: damaged" in done.stdout and done.stderr == ""


# Memory


def zeros(side: int, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """A PNG of zeros; depth and colour type as in IHDR, `extra` chunks before the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    channels = {0: 1, 3: 1, 6: 4}[colour]
    row, packer = bytes(1 + -(-side * depth * channels // 8)), zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def see_through() -> bytes:
    """PLTE with two colours, of which the first is transparent."""
    parts = ((b"PLTE", bytes(3) + b"\xff" * 3), (b"tRNS", b"\0"))
    chunks = ((struct.pack(">I", len(d)), k + d, struct.pack(">I", zlib.crc32(k + d))) for k, d in parts)
    return b"".join(part for chunk in chunks for part in chunk)


TINY = {"grey16": (16, 0, b""), "rgba": (8, 6, b""), "one_bit": (1, 3, see_through())}
PEAK = """
import resource, sys
from wagi_rt import decoding, pictures
content = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = int(sys.argv[2])
picture = decoding.decode(content, size=size)
assert pictures.prepare(picture, size).image.shape == (3, size, size)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def peak_mb(content: bytes, size: int, tmp_path) -> int:
    """The memory that reading takes in a fresh process, in MB."""
    (tmp_path / "x.png").write_bytes(content)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    command = [sys.executable, "-c", PEAK, str(tmp_path / "x.png"), str(size)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_large_picture_is_held_once(tmp_path):
    """37 million pixels of 16 bits, 74 MB: a second copy as floats would be 300."""
    pytest.importorskip("resource")
    content = zeros(6100, 16, 0)
    assert len(content) < 400_000 and peak_mb(content, 256, tmp_path) < 250


@pytest.mark.slow
@pytest.mark.parametrize("kind", TINY)
def test_tiny_files_cost_a_gigabyte_at_most(kind, tmp_path):
    content = zeros(13300, *TINY[kind])
    assert len(content) < 4_000_000 and peak_mb(content, 1024, tmp_path) < 1100


def test_what_is_reduced_early_looks_like_what_is_not(monkeypatch):
    """Every mode, by strips and not: the same picture but for the last bits of the antialiasing."""
    y, x = np.mgrid[0:451, 0:604] / 604
    plane = np.rint(127 + 60 * np.sin(9 * x) + 60 * np.cos(14 * y)).astype(np.uint8)
    colour = Image.fromarray(np.stack([plane, plane[::-1], 255 - plane], axis=-1))
    rgba = colour.copy()
    rgba.putalpha(Image.fromarray(plane))
    deep = Image.fromarray(plane.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [save(colour), save(rgba), save(deep), save(colour.convert("P")), save(colour, exif=exif)]
    files += [save(colour.convert("CMYK"), "TIFF"), save(colour.convert("LA")), save(colour.convert("1"))]
    for content in files:
        for fit in pictures.FITS:
            plain = pictures.prepare(decoding.decode(content, size=24, fit=fit), 24, fit)
            with monkeypatch.context() as patch:
                patch.setattr(decoding, "_LARGE", 1)
                patch.setattr(decoding, "_STRIP", 20_000)
                small = decoding.decode(content, size=24, fit=fit)
                assert min(small.pixels.size) < 100
                reduced = pictures.prepare(small, 24, fit)
            assert np.abs(plain.image - reduced.image).mean() < 0.02
            assert np.abs(plain.image - reduced.image).max() < 0.3
            corners = np.array(plain.placement.corners) - np.array(reduced.placement.corners)
            assert np.abs(corners).max() <= 12 and plain.placement.photo == reduced.placement.photo


def test_more_pixels_than_the_limit_are_one_line(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the option changes it
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    Image.fromarray(NOISE).resize((60, 60)).save(tmp_path / "b.png")
    Image.fromarray(NOISE).resize((60, 60)).save(tmp_path / "c.webp")
    arguments = ("-m", bundle, "-o", tmp_path / "out", "--max-pixels", 5000)
    assert run_cli("invert", tmp_path, *arguments) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 2 and all("too many pixels" in line for line in errors)
    assert all(line.endswith("or allow more with --max-pixels") for line in errors)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


# Placement


@pytest.mark.parametrize("fit", pictures.FITS)
@pytest.mark.parametrize("turned", [1, 6])
def test_the_square_is_found_again_in_the_photo(fit, turned):
    """The upright photo, sampled between the corners, is what the model sees."""
    y, x = np.mgrid[0:300, 0:420]
    pixels = np.stack([x % 256, y % 256, (x + y) // 3 % 256], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turned
    picture = decoding.decode(save(Image.fromarray(pixels), exif=exif), size=50, fit=fit)
    prepared = pictures.prepare(picture, 50, fit)
    photo = picture.pixels
    assert prepared.placement.photo == photo.size == ((300, 420) if turned == 6 else (420, 300))
    (left, top), bottom_left, (right, bottom), top_right = prepared.placement.corners
    assert bottom_left == (left, bottom) and top_right == (right, top)
    box, how = (left, top, right, bottom), Image.Resampling.BILINEAR
    sampled = photo.transform((50, 50), Image.Transform.EXTENT, box, how, fillcolor="white")
    ours = prepared.image.transpose(1, 2, 0) * 127.5 + 127.5
    close = np.abs(ours - np.asarray(sampled)).max(axis=2) < 24  # all but where the ramps jump
    assert close.mean() > 0.8
