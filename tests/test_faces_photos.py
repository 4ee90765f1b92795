"""A face is put back into the photo's own pixels; outside of it every bit stays, whatever the photo."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter
from skimage.transform import SimilarityTransform
from test_runtime_colours import P3, expected, icc

from wagi_rt.errors import UserError
from wagi_rt.faces import photos
from wagi_rt.faces.alignment import Alignment
from wagi_rt.faces.quads import Quads

SIZE = 32


def picture(width: int = 120, height: int = 90, channels: int = 3) -> np.ndarray:  # uint8
    noise = np.random.default_rng(5).standard_normal((height, width, channels))
    field = gaussian_filter(noise, (4, 4, 0))
    return np.rint(128 + field / np.abs(field).max() * 110).astype(np.uint8)


def contents(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def alignment(side: float = 50, angle: float = 25, centre=(60, 45)) -> Alignment:
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]]) * side
    return Alignment(SimilarityTransform(rotation=np.radians(angle), translation=centre)(corners), SIZE)


def inside(place: Alignment, size: tuple[int, int], margin: float = 0) -> np.ndarray:  # [H, W] bool
    at = place.place((0, 0, *size))
    return ((at > margin) & (at < 1 - margin)).all(-1)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


RED = np.zeros((SIZE, SIZE, 3), np.uint8) + np.array([200, 30, 40], np.uint8)


@pytest.mark.parametrize("paste", ("replace", "difference"))
def test_only_the_face_changes(paste):
    pixels = picture()
    photo, place = photos.read(contents(Image.fromarray(pixels))), alignment()
    before = [np.asarray(place.cut(photo.upright))]
    after = [before[0] // 2 + RED // 2]
    result = opened(
        photo.with_faces([place], after, before if paste == "difference" else None).encode(".png")
    )
    found, core = np.asarray(result).astype(int), inside(place, result.size, 0.12)
    assert (found[~inside(place, result.size)] == pixels[~inside(place, result.size)]).all()
    assert np.abs(found[core] - (pixels // 2 + RED[0, 0] // 2)[core]).mean() < 3


@pytest.mark.parametrize("mode", ("RGB", "RGBA", "L", "LA", "P"))
def test_an_unchanged_face_leaves_every_bit(mode):
    """By difference, whatever the mode; the colours of a palette stay, too."""
    image = Image.fromarray(picture()).convert("RGB" if mode in ("RGBA", "LA") else mode)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(picture(channels=1)[..., 0]))
    photo, place = photos.read(contents(image)), alignment()
    square = np.asarray(place.cut(photo.upright))
    result = opened(photo.with_faces([place], [square], [square.copy()]).encode(".png"))
    expected = image.convert("RGB") if mode == "P" else image
    assert result.mode == expected.mode and result.tobytes() == expected.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", (".png", ".webp"))
def test_orientations(orientation, suffix):
    """In its own format a photo is stored as it was, in another one upright; it is seen the same in both."""
    stored = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a description"
    source = opened(contents(stored, exif=exif.tobytes()))
    upright = ImageOps.exif_transpose(source)
    photo = photos.read(contents(stored, exif=exif.tobytes()))
    assert photo.size == upright.size
    place = alignment(40, 10, (upright.width * 0.4, upright.height * 0.45))
    result = opened(photo.with_faces([place], [RED]).encode(suffix))
    seen = ImageOps.exif_transpose(result).convert("RGB")
    assert seen.size == upright.size and result.getexif()[0x010E] == "a description"
    assert (result.size == stored.size) if suffix == ".png" else (result.size == upright.size)
    core, outside = inside(place, seen.size, 0.2), ~inside(place, seen.size, -0.3)
    assert np.abs(np.asarray(seen).astype(int)[core] - RED[0, 0]).max() < (3 if suffix == ".png" else 12)
    if suffix == ".png":
        assert (np.asarray(seen)[outside] == np.asarray(upright)[outside]).all()
    else:
        assert np.abs(np.asarray(seen).astype(int) - np.asarray(upright))[outside].mean() < 4


# Adobe RGB (1998) as its specification gives it: the primaries as XYZ of D50, and the exponent 2 + 51/256.
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
PROFILES = {"P3": (P3, 2.2), "Adobe RGB": (ADOBE, 2 + 51 / 256)}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("paste", ("replace", "difference"))
def test_a_photo_of_another_profile_keeps_it(paste, name):
    """What is put back is seen in the same colours, by the definition of matrix profiles."""
    profile = icc(*PROFILES[name])
    pixels = picture()
    photo, place = photos.read(contents(Image.fromarray(pixels), icc_profile=profile)), alignment()
    squares = [np.asarray(place.cut(photo.upright))]
    result = opened(
        photo.with_faces([place], [RED], squares if paste == "difference" else None).encode(".png")
    )
    assert result.info["icc_profile"] == profile
    outside, core = ~inside(place, result.size), inside(place, result.size, 0.15)
    assert (np.asarray(result)[outside] == pixels[outside]).all()
    seen = expected(np.asarray(result)[core], *PROFILES[name])
    assert np.abs(seen - RED[0, 0]).mean() < 3
    stored = np.abs(np.asarray(result).astype(int)[core] - RED[0, 0])
    assert stored.max() > 12  # other numbers: another profile


def test_transparent_parts_stay_transparent_and_untouched():
    alpha = np.zeros((90, 120), np.uint8)
    alpha[:, 60:] = 255
    image = Image.fromarray(picture())
    image.putalpha(Image.fromarray(alpha))
    place = alignment()
    result = opened(photos.read(contents(image)).with_faces([place], [RED]).encode(".png"))
    found = np.asarray(result)
    assert (found[..., 3] == alpha).all()
    assert (found[:, :60] == np.asarray(image)[:, :60]).all()
    assert np.abs(found[45, 64, :3].astype(int) - RED[0, 0]).max() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_keeps_its_quantisation_exif_and_profile(orientation):
    """Away from the face it is what Pillow gives with quality="keep", the least that a JPEG can change."""
    exif, profile = Image.Exif(), icc(*PROFILES["Adobe RGB"])
    exif[0x010F], exif[0x0112] = "a camera", orientation
    source = contents(Image.fromarray(picture()), "JPEG", quality=71, subsampling=2, exif=exif.tobytes(),
                      icc_profile=profile, dpi=(300, 300))  # fmt: skip
    photo = photos.read(source)
    place = alignment(20, centre=(photo.size[0] * 0.3, photo.size[1] * 0.3))
    result, original = opened(photo.with_faces([place], [RED]).encode(".jpg")), opened(source)
    assert result.quantization == original.quantization and result.info["dpi"] == (300, 300)
    assert result.getexif()[0x010F] == "a camera" and result.info["icc_profile"] == profile
    assert result.getexif()[0x0112] == orientation
    kept = opened(contents(opened(source), "JPEG", quality="keep", exif=exif.tobytes()))
    seen, kept = (np.asarray(ImageOps.exif_transpose(one)) for one in (result, kept))
    far = ~inside(place, photo.size, -1)  # beyond the blocks that the face shares
    assert far.sum() > 3000 and (seen[far] == kept[far]).all()
    assert (seen[inside(place, photo.size)] != kept[inside(place, photo.size)]).any()
    stripped = opened(photo.encode(".jpg", strip=True))
    assert not stripped.getexif() and stripped.info["icc_profile"] == profile


def test_stripped_photos_are_stored_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = photos.read(contents(Image.fromarray(picture()), exif=exif.tobytes()))
    result = opened(photo.encode(".png", strip=True))
    assert result.size == (90, 120) and not result.getexif()


def deep_png() -> bytes:
    """An RGB PNG of 16 bits, which Pillow reads but does not write: chunk by chunk."""
    pixels = picture().astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 120, 90, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("mode", ("I;16", "RGB;16", "CMYK"))
def test_what_cannot_be_kept_is_said(mode):
    if mode == "CMYK":
        content = contents(Image.fromarray(picture()).convert("CMYK"), "TIFF")
    elif mode == "RGB;16":
        content = deep_png()
    else:
        content = contents(Image.fromarray(picture(channels=1)[..., 0].astype(np.uint16) * 257))
    photo = photos.read(content)
    assert [note for note in photo.notes if "written" in note]
    result = opened(photo.with_faces([alignment()], [RED]).encode(".png"))
    assert result.mode == ("L" if mode == "I;16" else "RGB")
    outside = ~inside(alignment(), result.size)
    assert (np.asarray(result.convert("RGB"))[outside] == np.asarray(photo.upright)[outside]).all()


def test_jpeg_lays_transparency_on_white():
    image = Image.fromarray(picture())
    image.putalpha(Image.new("L", image.size, 0))
    assert np.asarray(opened(photos.read(contents(image)).encode(".jpg"))).min() > 250


# ---------------------------------------------------------------------------------------------- quads


FACE = {"quad": [[10, 10], [10, 50], [50, 50], [50, 10]]}


def quads(tmp_path, text):
    (tmp_path / "quads.json").write_text(text)
    return Quads(tmp_path / "quads.json")


def test_quads_of_both_forms(tmp_path):
    import json

    small = {"eyes": [[4, 4], [8, 4]], "mouth": [[4, 8], [8, 8]]}
    one = quads(tmp_path, json.dumps({"a/x.jpg": [small, FACE], "y.png": []}))
    large, little = one.of("b/x.jpg")
    np.testing.assert_allclose(large.quad, FACE["quad"])
    np.testing.assert_allclose(little.quad, little.face.landmarks.quad())
    assert little.notes() == ["small, 4 px between the eyes"] and large.notes() == []
    assert one.of("y.png") == []
    with pytest.raises(UserError, match="z.jpg: .*no faces of this photo"):
        one.of("z.jpg")
    lines = [{"input": "x.jpg", "faces": [f.record() for f in (large, little)]}, {"input": "q", "error": "?"}]
    again = quads(tmp_path, "\n".join(map(json.dumps, lines))).of("x.jpg")
    np.testing.assert_allclose(again[0].quad, large.quad, atol=1e-3)
    np.testing.assert_allclose(again[1].face.landmarks.mouth, small["mouth"])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"x": 3}', '{"x": [{}]}', '{"x": [{"quad": [[1, 2]]}]}', '{"x": [{"eyes": 1}]}',
     '{"x": [{"quad": [["a", 2], [1, 2], [1, 2], [1, 2]]}]}', '{"x": [{"quad": [[1,2],[1,2],[1,2],[1,2]]}]}',
     '{"input": "x"}', '{"input": "x", "faces": 2}'],
)  # fmt: skip
def test_other_files_are_refused_in_one_line(tmp_path, text):
    with pytest.raises(UserError, match="quads.json: ") as caught:
        quads(tmp_path, text)
    assert caught.value.status == 2 and "\n" not in str(caught.value)
