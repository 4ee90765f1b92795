"""Colour profiles and value ranges: what a photo shows, not what its numbers happen to be."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin
from tiny_bundle import run_cli, write_tiny_bundle

from wagi_rt.colours import from_srgb
from wagi_rt.decoding import decode
from wagi_rt.errors import UserError
from wagi_rt.pictures import encode

# Columns: the primaries of Display P3 and of sRGB as XYZ of D50 (ICC colorants), as published.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
LEVELS = np.array([[[200, 60, 30], [90, 160, 70], [20, 40, 220], [128, 128, 128], [250, 240, 235]]], np.uint8)


def packed(tags: dict[bytes, bytes], kind: bytes, space: bytes, connection: bytes) -> bytes:
    """An ICC profile of version 2 with these tags and the texts that every profile has."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz([0.9642, 1, 0.8249])} | tags
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"test", 0x02100000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + body


def xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def icc(colorants: np.ndarray, gamma: float = 2.2) -> bytes:
    """A matrix profile, as cameras and phones embed it."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {name: xyz(colorants[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return packed(tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve), b"mntr", b"RGB ", b"XYZ ")


def expected(levels: np.ndarray, colorants: np.ndarray, gamma: float = 2.2) -> np.ndarray:
    """The same by the definition of ICC's matrix profiles and of sRGB (IEC 61966-2-1)."""
    linear = (levels / 255.0) ** gamma @ colorants.T @ np.linalg.inv(SRGB).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def save(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode(content).pixels).astype(float)


# Profiles


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_wide_gamut_photo_is_converted(mode):
    content = save(Image.fromarray(LEVELS).convert(mode), icc_profile=icc(P3))
    wanted = expected(np.asarray(Image.fromarray(LEVELS).convert(mode).convert("RGB")), P3)
    assert np.abs(pixels(content) - wanted).max() <= 1.5
    assert np.abs(LEVELS - wanted).max() > 10  # it does matter


def test_a_profile_with_red_and_blue_exchanged():
    content = save(Image.fromarray(LEVELS), "TIFF", icc_profile=icc(SRGB[:, ::-1], 2.2))
    assert np.abs(pixels(content) - expected(LEVELS[..., ::-1], SRGB)).max() <= 1.5


def test_srgb_profiles_change_no_bit():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(save(Image.fromarray(noise), icc_profile=profile)), noise)
    assert decode(save(Image.fromarray(noise), icc_profile=profile)).notes == []


def test_a_grey_photo_with_a_profile_for_colours():
    grey = np.arange(256, dtype=np.uint8)[None]
    wanted = expected(np.repeat(grey[..., None], 3, axis=2), SRGB, 1.0)
    assert np.abs(pixels(save(Image.fromarray(grey), icc_profile=icc(SRGB, 1.0))) - wanted).max() <= 1.5


@pytest.mark.parametrize("profile", [b"no profile", icc(P3)[:200]])
def test_a_broken_profile_is_noted(profile):
    picture = decode(save(Image.fromarray(LEVELS), icc_profile=profile))
    np.testing.assert_array_equal(np.asarray(picture.pixels), LEVELS)
    assert len(picture.notes) == 1 and "colour profile cannot be used" in picture.notes[0]


def test_a_profile_for_other_channels_is_noted():
    picture = decode(save(Image.fromarray(LEVELS).convert("CMYK"), "TIFF", icc_profile=icc(P3)))
    assert "is for RGB, the picture is CMYK" in picture.notes[0]


def test_cmyk_goes_through_its_profile():
    """A profile whose inks are all grey: each of C, M and Y takes a third of the lightness L*, K all."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    lightness = np.rint(255 * (1 - corners[:, :3].mean(axis=1)) * (1 - corners[:, 3])).astype(np.uint8)
    table = np.stack([lightness, *[np.full_like(lightness, 128)] * 2], axis=1).tobytes()
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(np.eye(3, dtype=int).ravel() << 16))
    lut += bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    profile = packed({b"A2B0": lut, b"A2B1": lut}, b"prtr", b"CMYK", b"Lab ")
    inks = Image.new("CMYK", (3, 1))
    for x, ink in enumerate([(255, 0, 0, 0), (0, 255, 255, 0), (255, 255, 255, 0)]):
        inks.putpixel((x, 0), ink)
    found = pixels(save(inks, "TIFF", icc_profile=profile))[0]
    luminance = ((100 * np.array([2 / 3, 1 / 3]) + 16) / 116) ** 3  # CIE 1976, both above its linear part
    greys = 255 * (1.055 * luminance ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(found[:2], np.repeat(greys[:, None], 3, axis=1), atol=2)
    assert found[2].max() <= 2
    assert pixels(save(inks, "TIFF"))[0, 0, 0] == 0  # cyan, without the profile


def test_a_face_goes_back_into_the_colours_of_its_photo():
    inside = LEVELS[:, [1, 3, 4]]  # of the gamut of sRGB
    back = from_srgb(decode(save(Image.fromarray(inside), icc_profile=icc(P3))).pixels, icc(P3))
    assert np.abs(np.asarray(back).astype(int) - inside).max() <= 2
    with pytest.raises(UserError, match="colour profile"):
        from_srgb(Image.new("RGB", (2, 2)), b"no profile")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_outputs_say_that_they_are_srgb(suffix):
    content = encode(np.zeros((8, 8, 3), np.uint8), suffix)
    assert content == encode(np.zeros((8, 8, 3), np.uint8), suffix)  # no time of day in it
    with Image.open(io.BytesIO(content)) as image:
        if suffix == ".png":
            assert image.info["srgb"] == 0
        else:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)


# Ranges

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
WANTED = np.rint(RAMP * 255)


def grey(content: bytes) -> tuple[np.ndarray, str]:
    picture = decode(content)
    return np.asarray(picture.pixels).astype(int)[..., 0], "; ".join(picture.notes)


def tiff(values: np.ndarray, low: float | None = None, high: float | None = None) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in ((340, low), (341, high)):
        if value is not None:
            tags[number] = value
            tags.tagtype[number] = 12
    return save(Image.fromarray(values), "TIFF", tiffinfo=tags)


def png(values: np.ndarray, bits: int | None = None) -> bytes:
    """A 16-bit grey PNG, with the chunk that says how many bits count."""
    content = save(Image.fromarray(values.astype(np.uint16)))
    if bits is None:
        return content
    chunk = b"sBIT" + bytes([bits])
    return content[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


def test_a_hot_pixel_does_not_blacken_a_float_picture():
    values = RAMP.astype(np.float32)
    values[5, 5] = 1.2
    found, notes = grey(tiff(values))
    values[5, 5] = 1
    np.testing.assert_array_equal(found, np.rint(values.astype(np.float64) * 255))
    assert "taken as 0 (black) to 1 (white)" in notes


@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_floats_in_other_ranges_are_told_apart(top):
    found, notes = grey(tiff((RAMP * top).astype(np.float32)))
    assert np.abs(found - WANTED).max() <= 1 and f"to {top} (white)" in notes


def test_a_declared_range_is_kept():
    found, notes = grey(tiff((RAMP * 3 - 1).astype(np.float32), -1, 2))
    assert np.abs(found - WANTED).max() <= 1 and notes == ""
    found, _ = grey(tiff(RAMP.astype(np.float32) / 2, 0, 1))
    assert abs(found.max() - 127.5) <= 1


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_few_bits_in_sixteen_are_noticed(bits):
    found, notes = grey(png(RAMP * (2**bits - 1)))
    assert np.abs(found - WANTED).max() <= 1 and f"to {2**bits - 1} (white)" in notes


def test_png_says_how_many_bits_count():
    """14 bits cannot be told from a dark photo of 16; the chunk tells, unless the values are scaled."""
    found, notes = grey(png(RAMP * (2**14 - 1), bits=14))
    assert np.abs(found - WANTED).max() <= 1 and notes == ""
    for bits in (14, 12):
        found, notes = grey(png(RAMP * 65535, bits=bits))
        assert np.abs(found - WANTED).max() <= 1 and notes == ""


def test_full_sixteen_bits_and_dark_photos_are_left_alone():
    found, notes = grey(png(RAMP * 65535))
    assert np.abs(found - WANTED).max() <= 1 and notes == ""
    found, notes = grey(png(RAMP * 16383))
    assert found.max() == 64 and notes == ""


def test_a_black_picture_of_sixteen_bits_and_colours_is_noted():
    """Pillow keeps the upper half of each value only, so that 12 bits cannot be brought back."""
    rows = b"".join(b"\0" + (np.ones((4, 3), np.uint16) * 4000).astype(">u2").tobytes() for _ in range(4))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    assert "nearly black" in "".join(decode(content + chunk(b"IEND", b"")).notes)


def test_notes_reach_the_user(tmp_path, capsys):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "twelve.png").write_bytes(png(RAMP * 4095))
    assert run_cli("invert", tmp_path / "twelve.png", "-m", bundle, "-o", tmp_path / "out.png") == 0
    assert "taken as 0 (black) to 4095 (white)" in capsys.readouterr().err
