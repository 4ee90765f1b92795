"""The fast presets need less than half of the arithmetic of the paper's, as torch counts it."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from wagi.config import STAGE_CONFIGS, settings
from wagi.model import WaGI
from wagi.networks.build import PARTS, build_part

R = 256


def multiplications(preset):
    """Of the encoder, of the consultation encoder with its heads, and of a whole inversion; batch 1."""
    config, _ = settings(preset, "inversion")

    def count(run, *inputs):
        with FlopCounterMode(display=False) as counter:
            run(*inputs)
        return counter.get_total_flops() / 2

    with FakeTensorMode():
        model = WaGI(**{part: build_part(config, part) for part in PARTS}, **config.ways).eval()
        model.requires_grad_(False)
        at_r, image = torch.zeros(1, 3, R, R), torch.zeros(1, 3, config.size, config.size)
        return count(model.encoder, at_r), count(model.fusion, at_r), count(model.invert, image)


@pytest.mark.parametrize("size", [1024, 256])
def test_they_need_less_than_half(size):
    *_, wide = multiplications(f"ffhq{size}")
    encoder, fusion, whole = multiplications(f"ffhq{size}-fast")
    assert encoder <= 8e9 and fusion <= 10e9
    assert whole <= 0.45 * wide


@pytest.mark.parametrize("size", [1024, 256])
def test_everything_else_is_the_papers(size):
    for stage in STAGE_CONFIGS:
        (wide, trained), (fast, alike) = (settings(f"ffhq{size}{kind}", stage) for kind in ("", "-fast"))
        assert trained == alike
        changed = {f.name for f in dataclasses.fields(wide) if getattr(wide, f.name) != getattr(fast, f.name)}
        assert changed == {
            "encoder", "encoder_width", "aligner", "naive", "fusion_widths", "fusion_hidden",
        }  # fmt: skip
    assert fast.feature_levels == (64, 128) and fast.wavelet_levels == (128,)
