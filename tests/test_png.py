"""PNG files hold every value and say sRGB, in fewer bytes than the fastest level of zlib has by itself."""

import io

import numpy as np
import pytest
from PIL import Image

from wagi_rt import manifest, pictures
from wagi_rt.decoding import decode

PHOTO = manifest.embedded() / "photo" / "prints.jpg"
NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
FLAT = np.full((64, 64, 3), 7, np.uint8)


def photo():
    return pictures.fit_square(decode(PHOTO), 256)


@pytest.mark.parametrize("pixels", [photo(), NOISE, FLAT], ids=["photo", "noise", "flat"])
def test_nothing_is_lost(pixels):
    image = Image.open(io.BytesIO(pictures.encode(pixels, ".png")))
    assert np.array_equal(np.asarray(image), pixels) and image.info["srgb"] == 0


def test_a_photo_takes_fewer_bytes():
    plain = io.BytesIO()
    Image.fromarray(photo()).save(plain, "PNG", compress_level=1)
    assert len(pictures.encode(photo(), ".png")) < 0.95 * len(plain.getvalue())
