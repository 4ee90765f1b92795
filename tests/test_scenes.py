"""Scenes of edits: five pictures of one person, of which any two are an edit and its source."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from wagi.errors import UserError
from wagi.networks.flow_alignment import warp
from wagi.portraits import __main__ as command
from wagi.portraits import render
from wagi.portraits.dataset import portrait
from wagi.portraits.edits import BASE, GROUPS, PER_SCENE, TURNED, parse_edit, scene
from wagi.portraits.motion import motion
from wagi.portraits.parameters import CONTINUOUS
from wagi.portraits.scene import render_both
from wagi.training.scenes import PAIRS, ScenePairs

TURN = {"yaw", "pitch"}


def changed(a, b):
    return {f.name for f in dataclasses.fields(a) if getattr(a, f.name) != getattr(b, f.name)}


def test_a_scene_is_two_views_of_three_appearances():
    seen = set()
    for index in range(60):
        source = portrait(4, index)
        pictures = scene(source)
        assert pictures == scene(source) and pictures[0] == source and len(pictures) == PER_SCENE
        turn = changed(pictures[0], pictures[3])
        assert turn and turn <= TURN
        for k, picture in enumerate(pictures):
            assert not changed(picture, pictures[3 if TURNED[k] else 0]) & TURN
            assert bool(changed(picture, pictures[BASE[k]])) == (k not in (0, 3))
            for name, span in CONTINUOUS.items():
                assert min(span.low, 0) <= getattr(picture, name) <= span.high
        assert changed(pictures[1], pictures[4]) == turn
        seen |= set.union(*(changed(a, b) for a, b in itertools.combinations(pictures, 2)))
    assert seen >= {"yaw", "pitch", "smile", "glasses", "hat", "beard", "hair_colour", "hair_style", "skin"}
    assert seen >= {"background_colour", "light_azimuth", "age"}


def test_accessories_come_and_go():
    switched = set()
    for index in range(120):
        pictures = scene(portrait(5, index))
        for name in ("glasses", "hat", "beard"):
            values = [getattr(picture, name) for picture in pictures[:3]]
            if len(set(values)) > 1:
                switched.add((name, values[0] == "none"))
    assert switched == {(name, off) for name in ("glasses", "hat", "beard") for off in (True, False)}


def test_edits_by_text():
    off, other, hat = parse_edit("hat=none"), parse_edit("light=other"), parse_edit("hat=cap")
    for index in range(30):
        source = portrait(6, index)
        assert (off.apply(source) is None) == (source.hat == "none") == (hat.apply(source) is not None)
        if (bare := off.apply(source)) is not None:
            assert changed(source, bare) == {"hat"}
        lit = other.apply(source)
        assert lit == other.apply(source) and changed(source, lit) == set(GROUPS["light"])
    for text in ("light=none", "hat=other", "yaw=other", "light=cap"):
        with pytest.raises(UserError, match=f"^{text}: write"):
            parse_edit(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two scenes of 32 px."""
    out = tmp_path_factory.mktemp("scenes") / "s"
    options = ["--out", str(out), "--count", "2", "--size", "32", "--seed", "7", "--quiet"]
    assert command.main([*options, "--scenes", "--memmap"]) == 0
    return out


@pytest.fixture
def pairs(folder, monkeypatch):
    monkeypatch.setattr("wagi.training.scenes.GROUP", 2)
    return ScenePairs(folder, 32)


def test_every_ordered_pair_once(pairs):
    numbers = [tuple(pairs.get(i)["pictures"].tolist()) for i in range(len(pairs))]
    assert len(set(numbers)) == len(numbers) == 2 * len(PAIRS)
    assert all(a // PER_SCENE == b // PER_SCENE for a, b in numbers)
    assert {a // PER_SCENE for a, _ in numbers[:2]} == {0, 1}  # all scenes of a group in turn


def test_a_pair_is_of_the_renderers_pictures(pairs):
    """Pictures and labels; bases in the views of the two; the flow of what was turned."""
    seen = set()
    for index in range(0, len(pairs), 7):
        item = pairs.get(index)
        before, after = (int(n) for n in item["pictures"])
        seen.add((TURNED[before % PER_SCENE], TURNED[after % PER_SCENE]))
        portraits = scene(portrait(7, before // PER_SCENE))
        a, b = before % PER_SCENE, after % PER_SCENE
        shown = {"image": a, "edited": b, "base": BASE[a], "edited_base": BASE[b]}
        for name, k in shown.items():
            pixels, labels = render_both(portraits[k], 32)
            np.testing.assert_allclose(item[name].permute(1, 2, 0), pixels / 127.5 - 1, atol=1e-6)
            if name in ("image", "edited"):
                np.testing.assert_array_equal(item["mask" if name == "image" else "edited_mask"], labels)
        flow, visible = motion(portraits[b], portraits[a], 16)
        if TURNED[a] == TURNED[b]:
            assert not item["flow"].any() and item["seen"].all()
        else:
            np.testing.assert_allclose(item["flow"], flow, atol=0.02)
            np.testing.assert_array_equal(item["seen"][0], visible)
    assert {a == b for a, b in seen} == {True, False}


def test_the_true_flow_finds_what_a_turn_moved():
    """Where it is seen, the other view under the flow is the picture; elsewhere it is not."""
    for index in (1, 3, 5):
        before, after = (scene(portrait(21, index))[k] for k in (0, 3))
        flow, seen = motion(after, before, 64)
        pictures = [render(p, 64) / 127.5 - 1 for p in (before, after)]
        first, second = (torch.from_numpy(one).permute(2, 0, 1) for one in pictures)
        found = warp(first[None].float(), torch.from_numpy(flow)[None])[0]
        error, without = ((x - second).square().mean(0) for x in (found, first))
        moved = torch.from_numpy(seen & (np.abs(flow).sum(0) > 1))
        assert error[moved].mean() < 0.5 * without[moved].mean()
        assert error[torch.from_numpy(~seen)].mean() > 2 * error[moved].mean()
    same, visible = motion(before, before, 64)
    assert np.abs(same).max() < 1  # strands are sampled along their length
    assert visible.mean() > 0.97


def test_other_folders_are_refused(tmp_path):
    options = ["--out", str(tmp_path / "p"), "--count", "1", "--size", "16", "--quiet", "--memmap"]
    assert command.main(options) == 0
    with pytest.raises(UserError, match="--scenes"):
        ScenePairs(tmp_path / "p", 16)


def test_too_few_scenes_are_refused_by_their_number(folder):
    with pytest.raises(UserError, match="2 scenes, and pairs are taken from 25 at a time"):
        ScenePairs(folder, 32)
