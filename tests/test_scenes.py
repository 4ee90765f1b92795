"""Scenes of edits: five pictures of one person, of which any two are an edit and its source."""

import dataclasses
import itertools

import numpy as np
import pytest

from wagi.errors import UserError
from wagi.portraits import __main__ as command
from wagi.portraits.dataset import portrait
from wagi.portraits.edits import BASE, GROUPS, PER_SCENE, TURNED, parse_edit, scene
from wagi.portraits.parameters import CONTINUOUS
from wagi.portraits.scene import render_both
from wagi.scenes import GROUP, PAIRS, ScenePairs

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
    for index in range(300):
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
        with pytest.raises(UserError, match="--edits"):
            parse_edit(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "s"
    options = ["--out", str(out), "--count", str(GROUP), "--size", "16", "--seed", "7", "--quiet"]
    assert command.main([*options, "--scenes", "--memmap"]) == 0
    return out


def test_the_pairs_of_a_folder(folder):
    """Every ordered pair of every scene once; pictures are the renderer's; bases are of the pair's views."""
    pairs = ScenePairs(folder, 16)
    assert len(pairs) == GROUP * len(PAIRS)
    numbers = [tuple(pairs.get(i)["pictures"].tolist()) for i in range(len(pairs))]
    assert len(set(numbers)) == len(numbers)
    assert all(a // PER_SCENE == b // PER_SCENE for a, b in numbers)
    assert len({a // PER_SCENE for a, _ in numbers[:GROUP]}) == GROUP
    item = pairs.get(137)
    names = ("image", "edited", "base", "edited_base")
    shown = [*numbers[137], *(n - n % PER_SCENE + BASE[n % PER_SCENE] for n in numbers[137])]
    for name, number in zip(names, shown, strict=True):
        pixels, labels = render_both(scene(portrait(7, number // PER_SCENE))[number % PER_SCENE], 16)
        np.testing.assert_allclose(item[name].permute(1, 2, 0), pixels / 127.5 - 1, atol=1e-6)
        if name in ("image", "edited"):
            np.testing.assert_array_equal(item["mask" if name == "image" else "edited_mask"], labels)


def test_other_folders_are_refused(tmp_path):
    options = ["--out", str(tmp_path / "p"), "--count", "1", "--size", "16", "--quiet", "--memmap"]
    assert command.main(options) == 0
    with pytest.raises(UserError, match="--scenes"):
        ScenePairs(tmp_path / "p", 16)
