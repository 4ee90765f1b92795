"""Promise: the embedded model computes what PyTorch computed at export, and restores detail."""

import re

import numpy as np
import pytest
from tolerances import EXPORT_ATOL

import wagi_rt
from export.comparison import compare_probes
from wagi_rt import manifest as manifests
from wagi_rt.engines.ort import OrtEngine
from wagi_rt.metrics import l2, l_wave, psnr

DEMO = "runtime/wagi_rt/demo"


def test_parity_with_the_stored_pytorch_values(root):
    """Weights are stored in half precision, and still the images stay within the limit for float32."""
    with OrtEngine(manifests.read(root / DEMO)) as engine:
        rows = {row.name: row.difference for row in compare_probes(engine)}
    assert {"naive", "decode", "batch 1 = 3"} <= set(rows)
    assert all(difference < EXPORT_ATOL for difference in rows.values()), rows


def card(root) -> str:
    return (root / DEMO / "MODEL_CARD.md").read_text()


def stated(text: str, row: str) -> list[float]:
    """L2, L_wave and PSNR of one row of the card's table of means."""
    (line,) = re.findall(rf"^\| {row} \|(.*)\|$", text, re.MULTILINE)
    return [float(cell.split()[0]) for cell in line.split("|")[:3]]


def test_samples_are_restored_as_the_card_says(root):
    """The samples against the card's 500 portraits: means within a quarter, each within a factor of 2.2."""
    with wagi_rt.load() as session:
        results = session.invert(sorted((root / DEMO / "samples").glob("*.png")))
    assert len(results) == 8
    x, naive, image = (
        np.stack([getattr(r, part) for r in results]).transpose(0, 3, 1, 2) / np.float32(127.5) - 1
        for part in ("input", "naive_r", "image")
    )
    for row, found, share in (("naive inversion", naive, 0.3), ("WaGI", image, 0.25)):
        *means, decibels = stated(card(root), row)
        for function, mean in zip((l2, l_wave), means, strict=True):
            values = function(found, x)
            assert values.mean() == pytest.approx(mean, rel=share), (row, function.__name__)
            assert (values < 2.2 * mean).all() and (values > mean / 2.2).all(), (row, function.__name__)
        assert psnr(found, x).mean() == pytest.approx(decibels, abs=1.5), row
    assert (l2(image, x) < 0.05 * l2(naive, x)).all() and (l_wave(image, x) < 0.05 * l_wave(naive, x)).all()


def test_the_card_states_what_a_card_must(root):
    text = card(root)
    for heading in ("## Data", "## Recipe", "## Measured", "## Limits"):
        assert heading in text
    assert "@" not in text, "an unfilled field"
