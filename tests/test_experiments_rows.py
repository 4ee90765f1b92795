"""Rows of the paper's tables as settings at every size, and the windows that its figures enlarge."""

import itertools

import pytest
import torch

from wagi import config
from wagi.experiments import rows, zooms
from wagi.networks.build import build_part
from wagi.presets import CONFIGURATIONS

PRESET = "smoke"


@pytest.mark.parametrize("preset", ["ffhq256", "ffhq1024"])
def test_layers_are_those_of_the_paper_at_its_size(preset):
    """l_f = 7, 9, 11 are 64, 128, 256 px and l_w = 7, 9, 11, 13 are 32, 64, 128, 256 px."""
    model, _ = config.settings(preset, "inversion")
    row = rows.layers("x", model, "swagan", (7, 9, 11), (7, 9, 11, 13))
    assert (row.features, row.wavelets) == ((64, 128, 256), (32, 64, 128, 256))
    main = rows.layers("(g)", model, "swagan", (7, 9), (11,))
    assert rows.relabelled(main, "D") == rows.configuration("D", model)
    assert (model.feature_levels, model.wavelet_levels) == (main.features, main.wavelets)


@pytest.mark.parametrize("preset", ["ffhq1024", "portraits-64", "portraits-128"])
def test_a_layer_is_one_share_of_r_everywhere(preset):
    """l_w = 11 is R/2 in every table and preset, and is called so with the pixels beside it."""
    model, _ = config.settings(preset, "inversion", {"residual_resolution": "64", "feature_levels": "16",
                                                     "wavelet_levels": "32"})  # fmt: skip
    row = rows.layers("x", model, "swagan", (7, 9), (11,))
    assert (row.features, row.wavelets) == ((16, 32), (32,))
    assert rows.shares(row.features, 64) == "R/4, R/2 (16, 32 px)" and rows.shares((64,), 64) == "R (64 px)"
    assert rows.shares(rows.configuration("A", model).wavelets, 64) == "-"


def test_rows_that_need_a_larger_generator_are_named():
    """Wavelets at R exist in a generator larger than R only (l_w = 13)."""
    for preset, exists in (("ffhq1024", True), ("ffhq256", False), ("portraits-64", False)):
        model, _ = config.settings(preset, "inversion")
        row = rows.layers("(d)", model, "swagan", (7,), (13,))
        found, notes = rows.possible([row], model)
        assert found == ([row] if exists else []) and len(notes) == (not exists)
    assert "no wavelets at 64 px" in notes[0]
    assert not rows.layers("HFGI", model, "stylegan2", (7, 9, 11)).missing(model)


@pytest.mark.parametrize("preset", ["ffhq256", "portraits-128", "portraits-64", "smoke"])
def test_every_possible_row_is_a_valid_model(preset):
    """wagi.train accepts the settings, and the fusion network can be built."""
    pairs = [(f, w) for f in ((7,), (7, 9)) for w in ((7,), (9,), (11,), (13,))]
    base, train = config.settings(preset, "inversion")
    wanted = [rows.layers("x", base, "swagan", *pair) for pair in pairs]
    wanted += [rows.configuration(letter, base) for letter in CONFIGURATIONS]
    for row in rows.possible(wanted, base)[0]:
        model, _ = config.settings(preset, "inversion", row.overrides(base, train))
        assert (model.generator, model.feature_levels) == (row.generator, row.features)
        with torch.device("meta"):
            fusion = build_part(model, "fusion")
        assert fusion.levels[0] == min(row.features + row.wavelets)


def test_configurations_add_one_thing_at_a_time():
    model, _ = config.settings(PRESET, "inversion")
    found = [rows.configuration(letter, model) for letter in CONFIGURATIONS]
    settings = [(r.generator, r.wave_loss, len(r.features), len(r.wavelets)) for r in found]
    assert settings[0] == ("stylegan2", False, 1, 0) and settings[-1] == ("swagan", True, 2, 1)
    for before, after in itertools.pairwise(settings):
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_a_zoom_is_where_most_was_lost():
    lost = torch.zeros(2, 3, 32, 32)
    lost[0, :, 10:14, 24:30], lost[1, 0, 0, 0] = 1, 1
    zoom = zooms.worst(lost)
    assert zoom.side == 8 and (zoom.tops[1], zoom.lefts[1]) == (0, 0)
    assert zoom.tops[0] <= 10 < 14 <= zoom.tops[0] + 8 and zoom.lefts[0] <= 24 < 30 <= zoom.lefts[0] + 8
    shown = zoom(lost)
    assert shown.shape == lost.shape and float(shown[0].mean()) == 24 / 64
