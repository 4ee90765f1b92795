"""The page with `--faces`: whole photos in, their faces found and put back as `wagi-rt` does it.

Its arithmetic is Pillow's and numpy's, in Chromium; the page itself needs ONNX Runtime Web's files
(test_page_browser) and the face models too.
"""

import gzip
import io
import json
import re

import browser
import numpy as np
import pytest
from checkout import ROOT
from PIL import Image, ImageFilter
from test_page import bundle, packed, runtime  # noqa: F401  fixtures
from test_page_arithmetic import blank, evaluated, unpacked  # noqa: F401
from test_page_browser import ASSETS
from test_page_wording import settled, typed
from tiny_bundle import error_line, run_cli

from wagi_rt.faces import models
from wagi_rt.faces.alignment import Alignment, paste

PHOTO = ROOT / "runtime/wagi_rt/demo/photo/prints.jpg"
LEVELS = 3  # of 255, of which two are seen: rounding, and fp32 in two programs
QUADS = {
    "inside": [[325.8, 205.7], [234.5, 401.4], [430.2, 492.7], [521.5, 297.0]],
    "over the corner": [[-60, -30], [-60, 170], [140, 170], [140, -30]],
    "large": [[280, 20], [260, 520], [760, 540], [780, 40]],
}
needs_chromium = pytest.mark.skipif(browser.binary() is None, reason="Chromium is not installed")
GIVEN = """
const photo = { data: new Uint8ClampedArray(bytes(rgba).buffer), width, height };
const text3 = (planes) => {
  const all = new Float32Array(3 * planes[0].length);
  planes.forEach((plane, i) => all.set(plane, i * plane.length));
  return text(all);
};
"""


@pytest.fixture(scope="module")
def photo():
    return Image.open(PHOTO).convert("RGB")


def given(photo) -> dict[str, object]:
    width, height = photo.size
    rgba = np.dstack([np.asarray(photo), np.full((height, width), 255, np.uint8)])
    return {"rgba": rgba, "width": width, "height": height}


def planes(found: object, size: tuple[int, int]) -> np.ndarray:
    return unpacked(found, "f4", (3, size[1], size[0])).transpose(1, 2, 0)


@needs_chromium
@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("it.part(photo, [3, 2, 80, 60], 3)", lambda one: one.crop((3, 2, 80, 60)).reduce(3)),
        ("it.blurred(it.part(photo, [0, 0, width, height], 1), 2.7)",
         lambda one: one.filter(ImageFilter.GaussianBlur(2.7))),
        ("it.mirrored(it.part(photo, [0, 0, width, height], 1), [5, 130], [7, 9])",
         lambda one: Image.fromarray(np.pad(np.asarray(one), ((130, 9), (5, 7), (0, 0)), "reflect"))),
    ],
)  # fmt: skip
def test_the_operations_on_planes_are_pillows(blank, photo, script, wanted):  # noqa: F811
    small = photo.crop((300, 200, 390, 270))
    found = evaluated(blank, "planes", f"{GIVEN} return text3({script}.planes);", **given(small))
    expected = wanted(small)
    assert np.abs(planes(found, expected.size) - np.asarray(expected)).max() <= 1


@needs_chromium
@pytest.mark.parametrize("size", [32, 192])
@pytest.mark.parametrize("quad", QUADS.values(), ids=QUADS)
def test_a_face_is_cut_out_as_by_the_runtime(blank, photo, quad, size):  # noqa: F811
    script = f"{GIVEN} return text3(new it.Alignment(quad, size).cut(photo).planes);"
    found = evaluated(blank, "alignment", script, **given(photo), quad=quad, size=size)
    wanted = np.asarray(Alignment(quad, size).cut(photo))
    apart = np.abs(planes(found, (size, size)) - wanted)
    assert apart.max() <= 2 and apart.mean() < 0.05  # a blur rounded otherwise in a few places


@needs_chromium
@pytest.mark.parametrize("difference", [True, False])
def test_faces_are_put_back_as_by_the_runtime(blank, photo, difference):  # noqa: F811
    """Two that overlap, one of them beyond the photo's border."""
    size, quads = 48, [QUADS["inside"], QUADS["large"]]
    squares = np.random.default_rng(0).integers(0, 256, (4, size, size, 4), np.uint8)
    after, before = [*squares[:2]], [*squares[2:]] if difference else [None, None]
    wanted = np.array(photo)
    rgb = [one[..., :3] for one in squares]
    paste(wanted, [Alignment(quad, size) for quad in quads], rgb[:2], rgb[2:] if difference else None)
    script = f"""{GIVEN}
        const made = (one) => one && bytes(one);
        const face = (quad, after, before) => ({{ quad, after: made(after), before: made(before) }});
        it.paste(photo, [face(quads[0], a, c), face(quads[1], b, d)], size);
        return text(photo.data);
    """
    names = dict(zip("abcd", [*after, *before], strict=True))
    found = evaluated(blank, "alignment", script, **given(photo), **names, quads=quads, size=size)
    assert np.abs(unpacked(found, "u1", (*wanted.shape[:2], 4))[..., :3].astype(int) - wanted).max() <= 1


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes files that take the place of the face models."""
    monkeypatch.setenv("WAGI_DATA", str(tmp_path / "data"))

    def install():
        models.folder().mkdir(parents=True)
        for model in models.MODELS:
            models.path(model).write_bytes(model.name.encode())

    return install


def test_without_the_models_it_costs_one_line(install, bundle, runtime, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "made.html"
    arguments = ("page", "-m", bundle, "--assets", runtime, "-o", out, "--faces")
    assert run_cli(*arguments) == 2
    line = error_line(capsys.readouterr().err)
    assert "--faces" in line and "wagi-rt faces install" in line and not out.exists()
    install()
    assert run_cli(*arguments) == 0


def test_the_models_are_in_the_page_that_asks_for_them(install, bundle, runtime, tmp_path):  # noqa: F811
    install()
    for options, wanted in (((), False), (("--faces",), True)):
        out = tmp_path / "made.html"
        assert run_cli("page", "-m", bundle, "--assets", runtime, "-o", out, "--overwrite", *options) == 0
        files = packed(out.read_text(), "file")
        description = json.loads(re.search(r'id="model">(.*?)</script>', out.read_text(), re.S)[1])
        assert ("finder" in description) == wanted
        for model in models.MODELS:
            name = models.path(model).name
            assert (name in files) == wanted
            assert not wanted or gzip.decompress(files[name]) == model.name.encode()


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """The page with the demo photo in it."""
    if browser.binary() is None or ASSETS is None or not models.installed():
        pytest.skip("needs Chromium, onnxruntime-web (make page), and: wagi-rt faces install")
    folder = tmp_path_factory.mktemp("page")
    assert run_cli("page", "--faces", "--assets", ASSETS, "-o", folder / "wagi.html") == 0
    tab = browser.Browser(folder / "browser")
    try:
        tab.resize(1400, 900)
        tab.open((folder / "wagi.html").as_uri())
        tab.wait("document.body?.classList.contains('ready')")
        tab.choose("#choose", PHOTO)
        tab.wait("document.querySelector('#status').textContent == 'prints.jpg: faces put back: 3'")
        yield tab
    finally:
        tab.close()


def saved(tab) -> np.ndarray:
    tab.click("#save")
    return np.asarray(Image.open(io.BytesIO(tab.downloaded())).convert("RGB")).astype(int)


def by_runtime(command: str, out, *options: str) -> np.ndarray:
    assert run_cli(command, PHOTO, "--fit", "face", "--threads", 1, "-o", out, *options) == 0
    return np.asarray(Image.open(out)).astype(int)


def test_a_photo_is_inverted_and_edited_as_by_the_runtime(tab, photo, tmp_path):
    """Every face by one slider, then one face less."""
    assert np.abs(saved(tab) - by_runtime("invert", tmp_path / "a.png")).max() <= LEVELS
    tab.run("document.querySelector('[data-direction=skin]').focus()")
    tab.press("End")
    tab.wait("document.querySelector('#right-tag').textContent == 'WaGI, edited'")
    tab.wait("!document.querySelector('#stage').classList.contains('busy')")
    strength = tab.run("document.querySelector('[data-direction=skin]').value")
    edited = saved(tab)
    assert (
        np.abs(edited - by_runtime("edit", tmp_path / "b.png", "--set", f"skin={strength}")).max() <= LEVELS
    )
    assert np.abs(edited - np.asarray(photo)).max() > 50  # so that the edit is one
    tab.click("#photos li:last-child .remove")
    tab.wait("document.querySelector('#status').textContent == 'prints.jpg: faces put back: 2'")
    two = by_runtime("edit", tmp_path / "c.png", "--set", f"skin={strength}", "--faces", "2")
    assert np.abs(saved(tab) - two).max() <= LEVELS


def test_all_faces_are_edited_by_a_text(tab, tmp_path):
    """One is not in the photo any more."""
    tab.click("#reset")
    typed(tab, "a smiling woman", "a woman")
    options = ("--text", "a smiling woman", "--neutral", "a woman", "--faces", "2")
    wanted = by_runtime("edit", tmp_path / "a.png", *options)
    assert np.abs(settled(tab, "WaGI, edited").astype(int) - wanted).max() <= LEVELS
    assert np.abs(wanted - np.asarray(Image.open(PHOTO).convert("RGB"))).max() > 50


def test_one_face_is_looked_at_and_edited_by_itself(tab):
    """Chosen in the strip beside its neighbour; then the photo again, in which only it changed."""
    size = tab.run("JSON.parse(document.querySelector('#model').textContent).size")
    whole = saved(tab)
    tab.click("#photos li:nth-last-child(1) input")
    assert tab.run("document.querySelector('#whole').ariaPressed") == "false"
    assert saved(tab).shape == (size, size, 3)
    tab.click("#reset")
    tab.wait("document.querySelector('#right-tag').textContent == 'WaGI'")
    tab.click("#whole")
    tab.wait("!document.querySelector('#stage').classList.contains('busy')")
    change = np.abs(saved(tab) - whole).max(-1)
    assert change[:, :200].max() <= 1 or change[:, 500:].max() <= 1
    assert change.max() > 50


def test_a_photo_without_faces_is_taken_from_its_centre(tab, tmp_path):
    Image.new("RGB", (200, 120), "grey").save(tmp_path / "wall.png")
    tab.choose("#choose", tmp_path / "wall.png")
    tab.wait("document.querySelector('#status').textContent.startsWith('wall.png: inverted')")
    status = tab.run("document.querySelector('#status').textContent")
    assert "no face found" in status and "its centre is used" in status
    assert tab.run("document.querySelector('#whole').disabled") and not tab.faults


def test_nothing_is_asked_of_anybody(tab):
    outside = [url for url in tab.requests if not url.startswith(("blob:", "data:"))]
    assert [url.rsplit("/", 1)[-1] for url in outside] == ["wagi.html"]
