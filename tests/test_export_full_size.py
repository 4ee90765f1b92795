"""Random weights at full size, ONNX Runtime against PyTorch: SWAGAN-256 with e4e, full detail at 1024 px."""

import onnx
import pytest
import torch

from benchmarks import floor, models
from export.bundle import export_model
from export.rows import table
from tests.tolerances import EXPORT_ATOL
from wagi.model import WaGI
from wagi.networks.alignment import DistortionAligner
from wagi.networks.e4e import Encoder4Editing
from wagi.networks.fusion import ConsultationEncoder
from wagi.networks.swagan import Generator
from wagi_rt.manifest import read


@pytest.mark.slow
def test_full_size_256(tmp_path) -> None:
    """Minutes and gigabytes: the whole network of the paper at 256 px, gates not neutral."""
    torch.manual_seed(0)
    generator = Generator(256)
    levels = {res: generator.channels(res) for res in (64, 128)}
    fusion = ConsultationEncoder(256, levels, wavelet_levels=(128,), zero_init=False)
    model = WaGI(generator, Encoder4Editing(generator.n_latent), DistortionAligner(), fusion).eval()
    with torch.no_grad():
        generator.latent_avg.copy_(generator.mean_latent(1000))
        for name, weight in generator.named_parameters():
            if name.endswith("noise.weight"):
                weight.fill_(0.1)

    out = tmp_path / "full"
    found = export_model(model, out, "full-256", report=print)
    print("\n" + table(*found))
    assert all(row.difference < EXPORT_ATOL for row in found.rows)
    for path in sorted(out.glob("*.onnx")):
        onnx.checker.check_model(str(path), full_check=True)
        assert path.stat().st_size < 2e6, "weights belong into the weights file"
    # Generator and encoder once each, although two graphs hold the generator and a third one everything: a
    # second copy of the generator would add 90 MB.
    parameters = sum(p.numel() for p in model.parameters())
    assert (out / "weights.bin").stat().st_size < 4 * parameters * 1.03


@pytest.mark.slow
def test_full_detail_at_1024(tmp_path) -> None:
    """R = 256 of 1024 px in a narrow network: parity of inversion and edit, and what the detail costs."""
    narrow = ("channel_multiplier=0.125", "max_channels=64", "style_dim=64", "n_mlp=2", "fusion_hidden=16")
    small = ("encoder_width=16", "encoder_input=64", "feature_levels=32,64", "wavelet_levels=64")
    flow = ("fusion_widths=8,8,12,16", "aligner=flow", "full_detail=true")
    model = models.random_model(models.config(1024, "small", (*narrow, *small, *flow)))
    found = export_model(model, tmp_path / "large", "large", report=print)
    print("\n" + table(*found))
    (unchanged,) = (row for row in found.rows if row.name == "no change")
    assert unchanged.difference == 0 and all(row.passed for row in found.rows)
    manifest = read(tmp_path / "large")
    for name, most in (("keep_detail", 0.15e9), ("move_detail", 0.2e9)):
        assert manifest.graphs[name].outputs == {"result": (3, 1024, 1024)}
        layers = floor.layers(manifest.folder / manifest.graphs[name].file, 1)
        assert sum(layer.macs for layer in layers) < most
