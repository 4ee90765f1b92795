"""Promise: the embedded model computes what PyTorch computed at export, and restores detail."""

import numpy as np
from tolerances import EXPORT_ATOL

import wagi_rt
from export.parity import compare_probes
from wagi_rt.metrics import l2, l_wave

DEMO = "runtime/wagi_rt/demo"


def test_parity_with_the_stored_pytorch_values(root):
    """Weights are stored in half precision, and still the images stay within the limit for float32."""
    rows = {row.name: row.difference for row in compare_probes(root / DEMO)}
    assert {"naive", "decode", "batch 1 = 3"} <= set(rows)
    assert all(difference < EXPORT_ATOL for difference in rows.values()), rows


def test_samples_are_restored(root):
    """Each sample: at most a quarter of the naive inversion's L2 and 45 % of its L_wave."""
    with wagi_rt.load() as session:
        results = session.invert(sorted((root / DEMO / "samples").glob("*.png")))
    assert len(results) == 8
    x, naive, image = (
        np.stack([getattr(r, part) for r in results]).transpose(0, 3, 1, 2) / np.float32(127.5) - 1
        for part in ("input", "naive_r", "image")
    )
    assert (l2(image, x) < 0.25 * l2(naive, x)).all()
    assert (l_wave(image, x) < 0.45 * l_wave(naive, x)).all()


def test_the_card_states_what_a_card_must(root):
    card = (root / DEMO / "MODEL_CARD.md").read_text()
    for heading in ("## Data", "## Recipe", "## Measured", "## Limits"):
        assert heading in card
    assert "@" not in card, "an unfilled field"
