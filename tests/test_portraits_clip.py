"""portraits-CLIP: captions say what is true of a portrait, and the shipped weights find portraits by them."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tiny_bundle import error_line
from training_helpers import write_portraits

from wagi.data import to_float
from wagi.portraits import captions, edit, render, sample
from wagi.portraits.captions import FACTS, VOCABULARY
from wagi.standins import __main__ as command
from wagi.standins import train, train_clip
from wagi.standins.clip import PortraitsCLIP, tokens
from wagi.standins.model import WEIGHTS, load

PLAIN = edit(
    sample(3), smile=1.0, glasses="round", hat="cap", hat_colour=(0.4, 0.05, 0.05), beard="full", yaw=-0.5,
    age=0.1, hair_style="short", hair_colour=(0.88, 0.76, 0.5), skin=0.9, pitch=0.0, mouth_open=0.0,
)  # fmt: skip


def said(portrait):
    return {
        f"{fact.slot} {fact.words}"
        for fact, true in zip(FACTS, captions.truth(portrait), strict=True)
        if true
    }


def test_facts_are_what_the_parameters_say():
    found = said(PLAIN)
    assert {"adjective smiling", "adjective young", "noun man", "with round glasses", "with a cap"} <= found
    assert {"with a red hat", "with a full beard", "with blond hair", "doing looking left"} <= found
    assert not found & {"adjective sad", "noun woman", "without glasses", "with sunglasses", "with a beanie",
                        "adjective bald", "with a blue hat", "doing looking right"}  # fmt: skip
    bare = said(edit(PLAIN, glasses="none", hat="none", beard="none", hair_style="bald", smile=-0.4))
    assert {"without glasses", "without a hat", "without a beard", "adjective bald", "adjective sad"} <= bare
    assert not any("hair" in fact or fact.endswith(" hat") and fact.startswith("with ") for fact in bare)


def test_sentences():
    numbers = {f"{fact.slot} {fact.words}": k for k, fact in enumerate(FACTS)}
    names = "adjective smiling/noun man/with round glasses/with a red hat/without a beard/doing looking left"
    chosen = [numbers[name] for name in names.split("/")]
    texts = {captions.sentence(chosen, np.random.default_rng(k)) for k in range(20)}
    assert "a smiling man with round glasses and a red hat without a beard looking left" in texts
    assert all(set(text.replace(",", "").split()) <= set(VOCABULARY) for text in texts)
    assert (
        captions.sentence([numbers["adjective old"], numbers["noun face"]], np.random.default_rng(0))
        == "an old face"
    )


def test_captions_state_one_fact_of_a_kind_and_only_true_ones():
    known = np.stack([captions.truth(sample(k)) for k in range(40)])
    texts, facts = train_clip.drawn(known, np.random.default_rng(0))
    assert not (facts & ~known).any() and all(texts)
    for row in facts:
        kinds = [FACTS[k].kind for k in np.flatnonzero(row)]
        assert len(kinds) == len(set(kinds)) >= 1


def test_every_caption_that_is_true_counts():
    known = np.array([[1, 1, 0], [1, 0, 0]], bool)
    facts = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
    assert train_clip.matches(known, facts).tolist() == [[True, True, False], [True, False, False]]


def test_shipped_weights_find_portraits_never_seen():
    network = load(PortraitsCLIP)
    portraits = [sample(60_000 + k) for k in range(30)]
    with torch.no_grad():
        images = network.image(to_float(np.stack([render(one, 128) for one in portraits])))
        assert torch.allclose(images.norm(dim=1), torch.ones(30), atol=1e-5)
        for text, true in (
            ("a person with glasses", [p.glasses != "none" for p in portraits]),
            ("a face with a hat", [p.hat != "none" for p in portraits]),
            ("smiling", [p.smile > 0.5 for p in portraits]),
            ("a person with dark skin", [p.skin > 0.5 for p in portraits]),
            ("looking right", [p.yaw > 0 for p in portraits]),
        ):
            score = (images @ network.text(tokens([text])).T)[:, 0].numpy()
            assert roc_auc_score(true, score) > 0.85, text


def test_with_and_without_are_far_apart():
    network = load(PortraitsCLIP)
    with torch.no_grad():
        first, second, third = network.text(
            tokens(["a man with a hat", "a man without a hat", "man with a hat"])
        )
    assert first @ third > 0.9 > 0.6 > first @ second


def test_training_resumes_to_the_same_bits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    data = write_portraits(tmp_path / "data", count=16, size=128, params=5)
    words = ["clip", "--data", str(data), "--steps", "4", "--batch", "4"]
    assert command.main([*words, "--out", str(tmp_path / "whole")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["held_out"] == 2 and {"text_to_image_at_1", "chance_at_1", "auc"} <= report.keys()
    saves, beside = [], train.beside

    def stopping(path):
        saves.append(path)
        if len(saves) == 2:
            raise KeyboardInterrupt
        return beside(path)

    with monkeypatch.context() as patch:
        patch.setattr(train, "beside", stopping)
        assert command.main([*words, "--out", str(tmp_path / "parts")]) == 1
    assert command.main([*words, "--out", str(tmp_path / "parts")]) == 0
    first, second = ((tmp_path / run / PortraitsCLIP.file).read_bytes() for run in ("whole", "parts"))
    assert first == second


@pytest.mark.parametrize("data, message", [("portraits:1:2", "needs a folder from"), ("missing", "missing")])
def test_mistakes_cost_one_line(data, message, tmp_path, capsys):
    assert command.main(["clip", "--data", data, "--out", str(tmp_path / "run")]) == 2
    assert message in error_line(capsys.readouterr().err)


def test_the_card_holds_the_measured_figures():
    report = json.loads((WEIGHTS / "portraits-clip.json").read_text())
    card = (WEIGHTS / "README.md").read_text()
    for key in ("text_to_image_at_1", "text_to_image_at_5", "chance_at_1", "chance_at_5"):
        assert f"{report[key]:.3f}"[:4] in card or f"{report[key]:.2f}" in card, key
