"""The page in a real browser gives what wagi_rt gives, asks nobody for anything, and can be used.

Needs Chromium and ONNX Runtime Web's files: $WAGI_PAGE_ASSETS (a folder or tarball), else those that
`wagi-rt page --fetch` or `make page` has kept.
"""

import base64
import http.server
import io
import json
import os
import threading
from pathlib import Path

import browser
import numpy as np
import pytest
from checkout import ROOT
from PIL import Image
from tiny_bundle import run_cli, write_tiny_bundle

import wagi_rt
from wagi_rt.commands import assets

SAMPLES = sorted((ROOT / "runtime/wagi_rt/demo/samples").glob("*.png"))
KEPT = Path.home() / ".cache/wagi/npm" / f"onnxruntime-web-{assets.VERSION}.tgz"
ASSETS = os.environ.get("WAGI_PAGE_ASSETS") or (KEPT if KEPT.is_file() else None)
LEVELS = 1  # of 255: what rounding may differ by
INVERTED = "document.querySelector('[data-time=invert]').textContent != '–'"

pytestmark = [
    pytest.mark.skipif(browser.binary() is None, reason="Chromium is not installed"),
    pytest.mark.skipif(ASSETS is None, reason="no onnxruntime-web: make page, or set WAGI_PAGE_ASSETS"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """The page of the embedded bundle, opened from a file, with its first sample inverted."""
    folder = tmp_path_factory.mktemp("page")
    assert run_cli("page", "--assets", ASSETS, "-o", folder / "wagi.html") == 0
    tab = browser.Browser(folder / "browser")
    try:
        tab.resize(1400, 900)
        tab.open((folder / "wagi.html").as_uri())
        tab.wait(f"document.body?.classList.contains('ready') && {INVERTED}")
        yield tab
    finally:
        tab.close()


@pytest.fixture(scope="module")
def session():
    with wagi_rt.load(threads=1) as session:
        yield session


def saved(tab) -> np.ndarray:
    tab.click("#save")
    return np.asarray(Image.open(io.BytesIO(tab.downloaded())).convert("RGB"))


def open_photo(tab, path: Path) -> None:
    """A file is chosen, looked at and inverted."""
    tab.choose("#choose", path)
    tab.wait(f"document.querySelector('#status').textContent.startsWith('{path.name}: inverted')")


def far(x: np.ndarray, y: np.ndarray) -> int:
    """The largest difference in levels."""
    assert x.shape == y.shape
    return int(np.abs(x.astype(int) - y).max())


def test_an_inversion_is_the_runtimes(tab, session):
    assert far(saved(tab), session.invert(SAMPLES[0])[0].image) <= LEVELS


def test_a_slider_moved_by_keys_edits_as_the_runtime_does(tab, session):
    tab.run("document.querySelector('[data-direction=skin]').focus()")
    tab.press("End")
    tab.wait("document.querySelector('#right-tag').textContent == 'WaGI, edited'")
    wanted = session.open(SAMPLES[0]).edit(skin=session.direction("skin").range[1]).image
    assert far(saved(tab), wanted) <= LEVELS
    assert far(wanted, session.invert(SAMPLES[0])[0].image) > 50  # so that the edit is one
    tab.click("#reset")
    tab.wait("document.querySelector('#right-tag').textContent == 'WaGI'")
    assert far(saved(tab), session.invert(SAMPLES[0])[0].image) <= LEVELS


def test_a_photo_turned_by_exif_and_not_square(tab, session, tmp_path):
    """A JPEG that a phone would write; decoders of JPEG may differ by a level or two."""
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    photo = Image.open(SAMPLES[3]).resize((210, 160)).transpose(Image.Transpose.ROTATE_90)
    photo.save(tmp_path / "phone.jpg", exif=turned, quality=95)
    open_photo(tab, tmp_path / "phone.jpg")
    assert "its centre is used" in tab.run("document.querySelector('#status').textContent")
    wanted = session.invert(tmp_path / "phone.jpg")[0].image
    assert np.abs(saved(tab).astype(int) - wanted).mean() < 1


def test_the_square_is_chosen_in_the_photo(tab, session, tmp_path):
    """Moved to the top by keys, in a photo whose centre would cut the face."""
    photo = Image.new("RGB", (150, 220), "white")
    photo.paste(Image.open(SAMPLES[4]).resize((150, 150)))
    photo.save(tmp_path / "tall.png")
    open_photo(tab, tmp_path / "tall.png")
    before = saved(tab)
    tab.click("#reframe")
    tab.wait("document.querySelector('#framing').open")
    tab.run("document.querySelector('#photo').focus()")
    for _ in range(20):  # a fiftieth of its side each time, and no further than there is photo
        tab.press("ArrowUp")
    tab.run("document.querySelector('#status').textContent = ''")
    tab.click("#frame-use")
    tab.wait("document.querySelector('#status').textContent.startsWith('tall.png: inverted')")
    wanted = session.invert(photo.crop((0, 0, 150, 150)))[0].image
    assert far(saved(tab), wanted) <= LEVELS and far(before, wanted) > 50


def test_the_camera(tab):
    tab.click("#camera")
    tab.wait("document.querySelector('#booth').open && document.querySelector('#video').videoWidth")
    tab.click("#shoot")
    tab.wait("document.querySelector('#status').textContent.startsWith('camera-1.png: inverted')")
    assert tab.run("document.querySelector('#video').srcObject.active") is False


def test_what_is_no_picture_costs_one_line(tab, tmp_path):
    before = tab.run("document.querySelectorAll('#photos li').length")
    for name, content, said in (
        ("notes.txt", b"words", "not a picture that this browser reads"),
        ("empty.png", b"", "the file is empty"),
        ("phone.heic", b"\0\0\0\x18ftypheic" + bytes(40), "HEIC photos are not read"),
        ("cut.png", SAMPLES[0].read_bytes()[:40], "not a picture that this browser reads"),
    ):
        (tmp_path / name).write_bytes(content)
        tab.choose("#choose", tmp_path / name)
        tab.wait(f"document.querySelector('#fault').textContent.startsWith('{name}: ')")
        line = tab.run("document.querySelector('#fault').textContent")
        assert said in line and "\n" not in line
    tab.choose("#choose", tmp_path / "notes.txt", tmp_path / "empty.png", SAMPLES[5])  # the good one is done
    tab.wait(f"document.querySelector('#status').textContent.startsWith('{SAMPLES[5].name}: inverted')")
    lines = str(tab.run("document.querySelector('#fault').textContent")).split("\n")
    assert [line.split(":")[0] for line in lines] == ["notes.txt", "empty.png"]
    assert tab.run("document.querySelectorAll('#photos li').length") == before + 1
    assert tab.run("document.querySelector('#fault').getAttribute('role')") == "alert"


CARRIED = """{
const carried = new DataTransfer();
carried.items.add(new File([Uint8Array.fromBase64('%s')], '%s.png'));
document.dispatchEvent(new %s('%s', { %s: carried }));
}"""


def test_pasted_dropped_and_sampled_photos_come_into_the_strip(tab):
    count = "document.querySelectorAll('#photos li.done').length"
    before, file = tab.run(count), base64.b64encode(SAMPLES[1].read_bytes()).decode()
    tab.run(CARRIED % (file, "pasted", "ClipboardEvent", "paste", "clipboardData"))
    tab.run("document.querySelector('#text').dispatchEvent(new ClipboardEvent('paste', { bubbles: true }))")
    assert tab.run("document.querySelector('#fault').textContent") == ""  # where texts are pasted
    tab.run(CARRIED % (file, "dropped", "DragEvent", "drop", "dataTransfer"))
    tab.click("#samples li:nth-child(3) button")
    tab.wait(f"{count} == {before + 3}")
    tab.click("#photos li:last-child .remove")
    assert tab.run(count) == before + 2


ASK = "fetch('%s').then(() => 'left', () => 'refused')"
ASK_INSIDE = """new Promise((done) => {
const source = URL.createObjectURL(new Blob([%s]));
new Worker(source).onmessage = (event) => done(event.data);
})"""


def test_nobody_is_asked_for_anything(tab):
    """No request but the page and what it made itself; and one that is tried does not leave."""
    outside = [url for url in tab.requests if not url.startswith(("blob:", "data:"))]
    assert [url.rsplit("/", 1)[-1] for url in outside] == ["wagi.html"] and not tab.faults
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask = ASK % f"http://127.0.0.1:{server.server_port}/"
    assert tab.run(ask) == tab.run(ASK_INSIDE % json.dumps(f"{ask}.then(postMessage)")) == "refused"
    server.shutdown()
    server.server_close()
    assert not asked


BOXES = """JSON.stringify(Object.fromEntries(
['.sources', '#stage', '.toolbar', '#cards', '.controls'].map((name) => {
const { x, y, width, height } = document.querySelector(name).getBoundingClientRect();
return [name, [x, y, width, height]];
})))"""


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_the_layout(tab, width, height):
    """Nothing is wider than the screen, nothing covers anything else, the picture is whole."""
    tab.resize(width, height, phone=width < 500)
    tab.run("scrollTo(0, 0)")  # where it is, the picture stays when the page is scrolled
    boxes = json.loads(str(tab.run(BOXES)))
    assert tab.run("document.documentElement.scrollWidth") <= width
    for name, (x, y, w, h) in boxes.items():
        assert x >= 0 and x + w <= width + 0.5, name
        for other, (x2, y2, w2, h2) in boxes.items():
            apart = x + w <= x2 + 1 or x2 + w2 <= x + 1 or y + h <= y2 + 1 or y2 + h2 <= y + 1
            assert name == other or apart, f"{name} covers {other}"
    _, top, side, tall = boxes["#stage"]
    assert abs(side - tall) < 1 and side >= min(350, width - 40)
    if width > 1000:
        assert top + tall <= height
        shot = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
        x, y, w, h = (round(value) for value in boxes["#stage"])
        assert shot[y : y + h, x : x + w].std() > 20  # a picture, not an empty box


NAMELESS = """[...document.querySelectorAll('button, input, select, [role=img]')]
.filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim()))
.filter((one) => !one.querySelector('img')?.alt)
.map((one) => one.outerHTML).join()"""


def test_everything_has_a_name_and_keys_reach_it(tab):
    assert tab.run(NAMELESS) == ""
    tab.run("document.querySelector('#split').focus()")
    tab.press("ArrowRight")
    assert tab.run("document.querySelector('#stage').style.getPropertyValue('--split')") == "50.5%"
    tab.press("l")
    assert tab.run("document.querySelector('#zoom').ariaPressed") == "true"
    assert tab.run("!document.querySelector('#lens').hidden")
    tab.press("l")


def test_a_bundle_with_the_papers_aligner_and_no_directions(tmp_path):
    """Another model, of another size, whose residual is smaller than its pictures."""
    bundle = write_tiny_bundle(tmp_path / "bundle", size=128, resolution=64, external=True)
    assert run_cli("page", "-m", bundle, "--assets", ASSETS, "-o", tmp_path / "wagi.html") == 0
    tab = browser.Browser(tmp_path / "browser")
    try:
        tab.open((tmp_path / "wagi.html").as_uri())
        tab.wait("document.body?.classList.contains('ready')")
        open_photo(tab, SAMPLES[2])
        with wagi_rt.load(bundle, threads=1) as session:
            assert far(saved(tab), session.invert(SAMPLES[2])[0].image) <= LEVELS
        assert tab.run("getComputedStyle(document.querySelector('#wording')).display") == "none"
        assert "no directions" in str(tab.run("document.querySelector('#sliders').textContent"))
    finally:
        tab.close()
