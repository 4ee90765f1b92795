"""The page's own arithmetic, run in a real browser, is Pillow's and numpy's.

Needs Chromium, and nothing else: each module is run by itself in an empty page.
"""

import base64
import json

import browser
import numpy as np
import pytest
from PIL import Image

from wagi_rt import chain, decoding, pictures
from wagi_rt.commands import page

pytestmark = pytest.mark.skipif(browser.binary() is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """An empty page, in which modules are run by themselves."""
    tab = browser.Browser(tmp_path_factory.mktemp("blank") / "browser")
    yield tab
    tab.close()


# Bytes to and from a script.
WORDS = """
const bytes = (text) => Uint8Array.fromBase64(text);
const floats = (text) => new Float32Array(bytes(text).buffer);
const text = (array) => new Uint8Array(array.buffer).toBase64();
"""


def evaluated(blank, module: str, script: str, **values: object) -> object:
    """The result of a script that uses a module of the page as `it`. values: its constants."""
    given = "".join(
        f"const {name} = {json.dumps(packed(value) if isinstance(value, np.ndarray) else value)};\n"
        for name, value in values.items()
    )
    body = f"{page.joined(module)}\nconst it = from_{module};\n{WORDS}{given}{script}"
    return blank.run(f"(async () => {{ {body} }})()")


def packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def unpacked(text: object, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(str(text)), kind).reshape(shape)


@pytest.mark.parametrize(
    ("source", "target"), [((37, 53), (16, 16)), ((20, 9), (31, 40)), ((300, 300), (128, 7))]
)
def test_the_resize_is_pillows(blank, source, target):
    """Every value, for pictures that shrink, grow and both."""
    image = np.random.default_rng(0).integers(0, 256, (source[1], source[0], 3), np.uint8)
    image[: source[1] // 2] = np.where(image[: source[1] // 2] > 127, 255, 0)  # rings, which are clipped
    wanted = np.asarray(Image.fromarray(image).resize(target, Image.Resampling.LANCZOS))
    script = """
        const data = bytes(rgba);
        const rows = (y, count) => data.subarray(y * from.width * 4, (y + count) * from.width * 4);
        return text(it.resize(from, to, rows, 16));
    """
    rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    sizes = {
        name: {"width": width, "height": height}
        for name, (width, height) in (("from", source), ("to", target))
    }
    found = evaluated(blank, "resize", script, rgba=rgba, **sizes)
    assert np.array_equal(unpacked(found, "u1", wanted.shape), wanted)


@pytest.mark.parametrize("fit", pictures.FITS)
def test_squares_are_the_runtimes(blank, fit, tmp_path):
    """A PNG with transparency becomes the same square, laid on white; canvases keep colours premultiplied."""
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (91, 150, 4), np.uint8))
    image.save(tmp_path / "image.png")
    wanted = pictures.fit_square(decoding.decode(tmp_path / "image.png"), 64, fit)
    file = np.frombuffer((tmp_path / "image.png").read_bytes(), np.uint8)
    script = "return text(it.square(await it.decode(new Blob([bytes(file)]), 'x'), 64, fit).pixels);"
    found = evaluated(blank, "picture", script, file=file, fit=fit)
    found = unpacked(found, "u1", wanted.shape)
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", sorted(chain.GLUE))
def test_the_arithmetic_between_graphs_is_numpys(blank, name):
    size, large = 32, 128
    rng = np.random.default_rng(2)
    side = large if name in ("shrink", "shrink_pil", "low_fidelity", "sample") else size
    inputs = [rng.normal(0, 1, (1, 3, side, side)).astype(np.float32) for _ in chain.STEPS[name].inputs]
    if name == "fade":
        inputs[2] = inputs[1] + 0.1 * inputs[2]
    wanted = chain.GLUE[name](*inputs, size)
    script = """
        const tensors = inputs.map((one) => ({ data: floats(one), dims: [1, 3, side, side] }));
        const { data, dims } = it.GLUE[name](...tensors, size);
        return JSON.stringify([dims, text(data)]);
    """
    given = {"inputs": [packed(one) for one in inputs], "side": side, "name": name, "size": size}
    dims, values = json.loads(str(evaluated(blank, "chain", script, **given)))
    assert tuple(dims) == wanted.shape
    exact = name not in ("fade", "shrink_pil")  # which sum in another order
    near = {"rtol": 0} if exact else {"rtol": 2e-6, "atol": 1e-6}
    np.testing.assert_allclose(unpacked(values, "f4", wanted.shape), wanted, **near)


def test_an_early_naive_image_is_enlarged_as_in_numpy(blank):
    image = np.random.default_rng(3).normal(0, 1, (1, 3, 16, 16)).astype(np.float32)
    script = """
        const { data, dims } = it.enlarge({ data: floats(image), dims: [1, 3, 16, 16] }, 64);
        return JSON.stringify([dims, text(data)]);
    """
    dims, values = json.loads(str(evaluated(blank, "chain", script, image=image)))
    assert np.array_equal(unpacked(values, "f4", tuple(dims)), np.kron(image, np.ones((4, 4), np.float32)))


def test_floats_become_bytes_as_in_numpy(blank):
    """All bytes there and back, halves rounded to even, what lies outside clipped."""
    even = np.arange(3 * 256, dtype=np.uint8).reshape(1, 16, 16, 3)
    odd = (np.arange(3 * 256, dtype=np.float32) / 255 - 1.25).reshape(1, 3, 16, 16)
    script = "return JSON.stringify([text(it.toFloat(bytes(even))), text(it.toBytes(floats(odd)))]);"
    there, back = json.loads(str(evaluated(blank, "picture", script, even=even, odd=odd)))
    assert np.array_equal(unpacked(there, "f4", (3, 16, 16)), pictures.to_float(even)[0])
    assert np.array_equal(unpacked(back, "u1", (16, 16, 4))[..., :3], pictures.to_uint8(odd)[0])
