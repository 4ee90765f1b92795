"""An edit said in words in the page is `wagi-rt edit --text`; what cannot be is one line by its field.

Needs what test_page_browser needs.
"""

import json

import numpy as np
import pytest
from PIL import Image
from test_page_browser import LEVELS, SAMPLES, far, pytestmark, saved, session, tab  # noqa: F401
from tiny_bundle import run_cli


def typed(tab, text: str, neutral: str = "") -> None:  # noqa: F811
    """Both fields filled in, and Enter."""
    for selector, words in (("#neutral", neutral), ("#text", text)):
        tab.run(f"{{ const field = document.querySelector('{selector}'); field.focus(); field.select(); }}")
        tab.call("Input.insertText", text=words) if words else tab.press("Delete")
    tab.press("Enter")


def settled(tab, tag: str) -> np.ndarray:  # noqa: F811
    tab.wait(f"document.querySelector('#right-tag').textContent == '{tag}'")
    tab.wait("!document.querySelector('#stage').classList.contains('busy')")
    return saved(tab)


TEXT, NEUTRAL = "a smiling man with a beard", "a man"


def test_an_edit_by_text_is_the_commands(tab, session, tmp_path):  # noqa: F811
    """Typed, then stronger by keys, together with a slider; then cleared away."""
    typed(tab, TEXT, NEUTRAL)
    wanted = session.open(SAMPLES[0]).edit(text=TEXT, neutral=NEUTRAL).image
    assert far(settled(tab, "WaGI, edited"), wanted) <= LEVELS
    for name in ("strength", "yaw"):
        tab.run(f"document.querySelector('[data-direction={name}]').focus()")
        tab.press("End")
    out, most = tmp_path / "out.png", session.direction("yaw").range[1]
    options = ("--text", TEXT, "--neutral", NEUTRAL, "--text-strength", "2", "--set", f"yaw={most}")
    assert run_cli("edit", SAMPLES[0], "-o", out, "--threads", 1, *options) == 0
    wanted = np.asarray(Image.open(out))
    assert far(settled(tab, "WaGI, edited"), wanted) <= LEVELS
    tab.click("#wording-clear")
    turned = session.open(SAMPLES[0]).edit(yaw=most).image
    assert far(settled(tab, "WaGI, edited"), turned) <= LEVELS and far(wanted, turned) > 50
    assert tab.run("document.activeElement.id + document.activeElement.value") == "text"
    tab.click("#reset")
    assert far(settled(tab, "WaGI"), session.invert(SAMPLES[0])[0].image) <= LEVELS


@pytest.mark.parametrize(
    ("text", "neutral", "said", "field"),
    [("a smilling man", "", "'smilling' is no word of this model; did you mean smiling?", "text"),
     ("a man", "a rhinoceros", "'rhinoceros' is no word of this model; it knows those below", "neutral"),
     ("a hat", "a hat", "text: 'a hat' and 'a hat' mean the same to this model", None)],
)  # fmt: skip
def test_a_text_that_cannot_be_costs_one_line(tab, session, text, neutral, said, field):  # noqa: F811
    typed(tab, text, neutral)
    tab.wait(f"document.querySelector('#wording-fault').textContent == {json.dumps(said)}")
    assert tab.run("document.querySelector('#wording-fault').getAttribute('role')") == "alert"
    assert tab.run("document.querySelector('[aria-invalid=true]')?.id") == field
    assert tab.run("document.querySelector('#wording-known').open") == (text != "a smilling man")
    assert far(settled(tab, "WaGI"), session.invert(SAMPLES[0])[0].image) <= LEVELS
    tab.click("#wording-clear")
    assert tab.run("document.querySelector('#wording-fault').textContent") == ""


FIELDS = "[...document.querySelectorAll('#wording-form input')].map(({ value }) => value).join()"


def test_a_text_belongs_to_its_photo_and_is_at_hand_for_the_next(tab, session):  # noqa: F811
    typed(tab, TEXT, NEUTRAL)
    settled(tab, "WaGI, edited")
    tab.click("#samples li:nth-child(5) button")
    tab.wait("document.querySelectorAll('#photos li.done').length == 2")
    assert far(settled(tab, "WaGI"), session.invert(SAMPLES[4])[0].image) <= LEVELS
    assert tab.run(FIELDS) == f"{TEXT},{NEUTRAL}"
    tab.click("#wording-use")
    wanted = session.open(SAMPLES[4]).edit(text=TEXT, neutral=NEUTRAL).image
    assert far(settled(tab, "WaGI, edited"), wanted) <= LEVELS
    typed(tab, "a hat")
    settled(tab, "WaGI, edited")
    tab.click("#photos li:first-child input")
    assert tab.run(FIELDS) == f"{TEXT},{NEUTRAL}"
    tab.click("#photos li:nth-child(2) input")
    assert tab.run(FIELDS) == "a hat,"
    outside = [url for url in tab.requests if not url.startswith(("blob:", "data:"))]
    assert [url.rsplit("/", 1)[-1] for url in outside] == ["wagi.html"] and not tab.faults
