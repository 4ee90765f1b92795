"""Whatever picture a user gives: a result or one clear line, and never a partial file."""

import io
import zlib

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageCms
from tiny_bundle import error_line, run_cli, write_tiny_bundle

import wagi_rt
from wagi_rt.decoding import decode
from wagi_rt.errors import UserError
from wagi_rt.pictures import encode, fit_square, to_float, to_uint8

PHOTO = Image.fromarray(skimage.data.astronaut())
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo_16_bit() -> Image.Image:
    grey = np.asarray(PHOTO.convert("L")).astype(np.uint16)
    return Image.fromarray(grey * 257)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return save(PHOTO.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def animated(kind: str) -> bytes:
    red, green = (Image.new("RGB", (80, 80), colour) for colour in ("#ff0000", "#00ff00"))
    return save(red, kind, save_all=True, append_images=[green])


def see_through() -> Image.Image:
    image = PHOTO.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


GOOD = {
    "rgb.png": save(PHOTO, "PNG"),
    "rgb.jpg": save(PHOTO, "JPEG"),
    "rgb.webp": save(PHOTO.resize((64, 64)), "WEBP"),
    "one_pixel.png": save(Image.new("RGB", (1, 1), "red"), "PNG"),
    "one_pixel.jpg": save(Image.new("L", (1, 1), 7), "JPEG"),
    "wide.png": save(PHOTO.resize((8000, 200)), "PNG"),
    "tall.jpg": save(PHOTO.resize((200, 8000)), "JPEG"),
    "line.png": save(PHOTO.resize((4000, 1)), "PNG"),
    "grey.png": save(PHOTO.convert("L"), "PNG"),
    "grey_alpha.png": save(PHOTO.convert("LA"), "PNG"),
    "black_and_white.png": save(PHOTO.convert("1"), "PNG"),
    "cmyk.jpg": save(PHOTO.convert("CMYK"), "JPEG"),
    "cmyk.tiff": save(PHOTO.convert("CMYK"), "TIFF"),
    "ycbcr.tiff": save(PHOTO.convert("YCbCr"), "TIFF"),
    "alpha.png": save(see_through(), "PNG"),
    "palette.png": save(PHOTO.convert("P"), "PNG"),
    "palette_alpha.png": save(PHOTO.convert("P"), "PNG", transparency=3),
    "sixteen_bit.png": save(photo_16_bit(), "PNG"),
    "float.tiff": save(Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.float32) / 255), "TIFF"),
    "rotated.jpg": rotated(),
    "broken_exif.jpg": save(PHOTO, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"),
    "animated.gif": animated("GIF"),
    "animated.png": animated("PNG"),
    "animated.webp": animated("WEBP"),
    "profile.jpg": save(
        PHOTO, "JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
}


def bomb() -> bytes:
    """A PNG that claims 60000x60000 pixels."""
    content = bytearray(save(Image.new("L", (8, 8)), "PNG"))
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


BAD = {
    "empty.png": (b"", "the file is empty"),
    "text.png": (b"this is not a picture\n" * 20, "not an image"),
    "truncated.jpg": (GOOD["rgb.jpg"][:9000], "damaged or truncated"),
    "truncated.png": (GOOD["rgb.png"][:9000], "damaged or truncated"),
    "header_only.jpg": (GOOD["rgb.jpg"][:12], "damaged or truncated"),
    "bomb.png": (bomb(), "too many pixels"),
    "nan.tiff": (save(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "not numbers"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_input_gives_an_image(name, bundle, tmp_path, capsys):
    (tmp_path / name).write_bytes(GOOD[name])
    assert run_cli("invert", tmp_path / name, "-m", bundle, "-o", tmp_path / "out.png") == 0
    with Image.open(tmp_path / "out.png") as out:
        assert (out.size, out.mode) == ((64, 64), "RGB")
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_others_are_done(name, bundle, tmp_path, capsys):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    for good in ("a.png", "z.png"):
        (tmp_path / good).write_bytes(GOOD["rgb.png"])
    inputs = [tmp_path / "a.png", tmp_path / name, tmp_path / "z.png"]
    assert run_cli("invert", *inputs, "-m", bundle, "-o", tmp_path / "out", "--batch", 2) == 1
    line = error_line(capsys.readouterr().err)
    assert str(tmp_path / name) in line and reason in line
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "z.png"]


def test_a_missing_file_is_one_line_and_others_are_done(bundle, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(GOOD["rgb.png"])
    missing = tmp_path / "missing.png"
    assert run_cli("invert", missing, tmp_path / "a.png", "-m", bundle, "-o", tmp_path / "out") == 1
    assert f"{missing}: no such file" in error_line(capsys.readouterr().err)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", BAD)
def test_a_single_bad_input_leaves_nothing(name, bundle, tmp_path, capsys):
    (tmp_path / name).write_bytes(BAD[name][0])
    assert run_cli("invert", tmp_path / name, "-m", bundle, "-o", tmp_path / "out" / "x.png") == 1
    error_line(capsys.readouterr().err)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_given_to_the_library_as_an_image(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        decode(tmp_path)


# What the pixels must be.


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode(content).pixels).astype(int)


def test_sixteen_bit_is_scaled_not_clipped():
    np.testing.assert_array_equal(pixels(GOOD["sixteen_bit.png"])[..., 0], np.asarray(PHOTO.convert("L")))


def test_float_grey_is_scaled():
    np.testing.assert_array_equal(pixels(GOOD["float.tiff"])[..., 0], np.asarray(PHOTO.convert("L")))


def test_exif_orientation_is_applied():
    assert np.abs(pixels(GOOD["rotated.jpg"]) - np.asarray(PHOTO).astype(int)).mean() < 3


def test_transparency_lies_on_white():
    alpha = np.asarray(see_through()).astype(float)
    opacity = alpha[..., 3:] / 255
    expected = alpha[..., :3] * opacity + 255 * (1 - opacity)
    assert np.abs(pixels(GOOD["alpha.png"]) - expected).max() <= 1


def test_cmyk_keeps_its_colours():
    assert np.abs(pixels(GOOD["cmyk.tiff"]) - np.asarray(PHOTO)).mean() < 3


@pytest.mark.parametrize("name", ["animated.gif", "animated.png", "animated.webp"])
def test_first_frame_is_used_and_noted(name):
    picture = decode(GOOD[name])
    red = np.asarray(picture.pixels).astype(int).mean(axis=(0, 1))
    assert red[0] > 240 and red[1] < 15
    assert "first of 2 frames" in " ".join(picture.notes)


def stripes() -> bytes:
    """600x200: red, green, blue squares side by side."""
    image = np.zeros((200, 600, 3), np.uint8)
    for channel in range(3):
        image[:, channel * 200 : (channel + 1) * 200, channel] = 255
    return save(Image.fromarray(image), "PNG")


def test_crop_takes_the_centre():
    picture = decode(stripes())
    fitted = fit_square(picture, 64, "crop")
    np.testing.assert_array_equal(fitted, np.broadcast_to([0, 255, 0], (64, 64, 3)))
    assert "not square" in picture.notes[0]


def test_pad_keeps_everything_on_white():
    fitted = fit_square(decode(stripes()), 96, "pad")
    np.testing.assert_array_equal(fitted[[0, -1]], 255)
    np.testing.assert_array_equal(fitted[48, [8, 48, 88]], np.eye(3) * 255)


def test_stretch_keeps_everything():
    np.testing.assert_array_equal(
        fit_square(decode(stripes()), 96, "stretch")[0, [8, 48, 88]], np.eye(3) * 255
    )


def test_a_line_can_be_padded():
    assert fit_square(decode(GOOD["line.png"]), 64, "pad").shape == (64, 64, 3)


def test_reduction_is_antialiased():
    """A one-pixel checkerboard is grey at an eighth of its size, not black or white."""
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    fitted = fit_square(decode(save(Image.fromarray(board), "PNG")), 64)
    assert np.abs(fitted.astype(int) - 128).max() <= 4


def test_an_image_of_the_right_size_is_untouched_up_to_the_engine_and_back():
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    fitted = fit_square(decode(save(Image.fromarray(values), "PNG")), 64)
    np.testing.assert_array_equal(to_uint8(to_float(fitted[None]))[0], values)
    assert to_float(fitted[None]).min() >= -1 and to_float(fitted[None]).max() <= 1


def test_values_are_rounded_and_clipped():
    values = np.array([-1.5, -1.0, 0.6 / 127.5 - 1, 0.4 / 127.5 - 1, 1.0, 7.0], np.float32)
    images = np.broadcast_to(values, (1, 3, 1, 6))
    np.testing.assert_array_equal(to_uint8(images)[0, 0, :, 0], [0, 0, 1, 0, 255, 255])


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP")])
def test_written_formats(suffix, kind):
    with Image.open(io.BytesIO(encode(np.asarray(PHOTO), suffix))) as image:
        assert image.format == kind
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(PHOTO)).mean() < 3


# What the library takes besides files.


@pytest.fixture(scope="module")
def session(bundle):
    with wagi_rt.load(bundle, threads=1) as session:
        yield session


def test_bytes_arrays_and_tensors_are_images(session):
    """The same picture in every form that Python users have it in."""
    small = PHOTO.resize((64, 64))
    content, values = save(small, "PNG"), np.asarray(small)
    floats = to_float(values[None])[0]
    forms = [content, bytearray(content), memoryview(content), small, values, floats]
    forms += [torch.from_numpy(values.copy()), torch.from_numpy(floats)]
    expected = session.invert(forms[0])[0].image
    for form in forms:
        (found,) = session.invert(form)
        np.testing.assert_array_equal(found.image, expected)
    assert len(session.invert(torch.from_numpy(np.stack([floats] * 3)), batch=2)) == 3


@pytest.mark.parametrize("item", [None, 3, object(), [None], {"a": 1}.items()])
def test_other_things_are_refused_by_name(item, session):
    with pytest.raises(UserError, match="an image must be a path, bytes, a PIL image or an array, this is"):
        session.invert(item)


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_threads_are_a_small_multiple_of_the_cores(threads, bundle):
    with pytest.raises(UserError, match=f"threads {threads}: (must be|more than)"):
        wagi_rt.load(bundle, threads=threads)
