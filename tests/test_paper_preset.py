"""Promise: preset ffhq1024 is the paper's model and HFGI's recipe, layer for layer and number for number."""

import published
import pytest
import torch
from paper_stages import make, pictures

from wagi.config import settings
from wagi.networks.build import build_part
from wagi.networks.swagan import Generator


def built(part: str, configuration: str = ""):
    with torch.device("meta"):
        return build_part(settings("ffhq1024", "inversion", configuration=configuration)[0], part)


@pytest.mark.parametrize(
    ("part", "configuration", "listing"),
    [
        ("generator", "", "swagan_generator_1024"), ("encoder", "", "e4e_encoder_16styles"),
        ("aligner", "", "hfgi_ada"), ("generator", "A", "stylegan2_generator_1024"),
        ("encoder", "A", "e4e_encoder_1024"), ("fusion", "A", "hfgi_residue"),
        ("fusion", "B", "hfgi_residue"), ("fusion", "C", "hfgi_residue"),
    ],
)  # fmt: skip
def test_parts_are_the_published_networks(part, configuration, listing):
    """A is HFGI with StyleGAN2; B and C keep its fusion; D is the paper's own, below."""
    lines = published.difference(built(part, configuration), published.state_dict(listing))
    assert not lines, "\n".join(lines[:20])


@pytest.mark.parametrize("configuration", ["", "D"])
def test_the_papers_fusion_adds_a_level_and_the_wavelets(configuration):
    """HFGI's consultation encoder with features at 128 px and 12 coefficients at 128 px besides."""
    fusion = built("fusion", configuration)
    lines = published.difference(fusion, published.state_dict("hfgi_residue"))
    added = {f"{kind}_{part}2" for kind in ("condition", "wavelet") for part in ("scale", "shift")}
    assert {line.split()[2].split(".")[0] for line in lines} == added
    assert all(line.startswith("only ours") for line in lines)
    for name, width in (("condition_scale2", 256), ("condition_shift2", 256), ("wavelet_scale2", 12)):
        assert getattr(fusion, name)[2].weight.shape[0] == width
    assert fusion.levels == (64, 128)


def latents_behind(x: torch.Tensor, ws: torch.Tensor) -> list[int]:
    """The latents on which x depends."""
    (gradient,) = torch.autograd.grad(x.square().sum(), ws, retain_graph=True)
    return gradient.abs().amax((0, 2)).nonzero().flatten().tolist()


def test_the_fused_layers_are_the_papers():
    """l_f = 7 and 9, l_w = 11: the last latent behind what is gated; 64, 128 and 12 x 128 x 128."""
    model, _ = settings("ffhq1024", "inversion")
    torch.manual_seed(0)
    generator = Generator(model.size, style_dim=4, n_mlp=1, max_channels=4)
    ws = torch.randn(1, generator.n_latent, 4, requires_grad=True)
    assert generator.n_latent == 16
    for level, last in zip(model.feature_levels, (7, 9), strict=True):
        # The second convolution's input; tWavelets of the block before do not reach features.
        behind = latents_behind(generator.prefix(ws, level).x, ws)
        assert behind[-1] == last and generator.prefix(ws, level).x.shape[-1] == level
    (level,) = model.wavelet_levels
    coefficients = generator.prefix(ws, 2 * level).skip
    assert coefficients.shape[1:] == (12, 128, 128) and latents_behind(coefficients, ws)[-1] == 11


def test_hfgis_training_settings():
    """Ranger at 1e-4, batch 8, 100 000 steps, mirrored images, no fall of the rate."""
    _, config = settings("ffhq1024", "inversion")
    assert (config.optimizer, config.lr, config.batch, config.flip) == ("ranger", 1e-4, 8, True)
    assert config.steps == 100_000 and config.lr_rampdown == 0 and config.ada_steps == 0
    assert config.recolour == 0 and config.region_weights == ()


def test_swagans_training_settings():
    """25 million images in batches of 16; the average forgets half in 10 000 images; mirrored."""
    _, config = settings("ffhq1024", "generator")
    assert (config.mode, config.flip) == ("gan", True)
    assert (config.kimg, config.batch, config.ema_kimg) == (25000, 16, 10)


def test_nine_residuals_in_ten_are_warped_each_in_its_own_way():
    stage = make("inversion", {"ada_steps": "1"})  # the cheaper phase
    generator, encoder = stage.frozen["generator"], stage.frozen["encoder"]
    given = []
    stage.models["aligner"].register_forward_hook(lambda _, args, out: given.append(args[0]))
    x, rng = pictures(1)["image"], torch.Generator().manual_seed(0)
    with torch.no_grad():
        residual = x - generator(encoder(x) + generator.latent_avg).clamp(-1, 1)
        for _ in range(10):
            stage.phases(0)[0].loss({"image": x.expand(20, -1, -1, -1)}, rng)
    moved = torch.cat(given)
    warped = moved[(moved - residual).abs().amax((1, 2, 3)) > 1e-4]
    assert len(moved) == 200 and 0.84 < len(warped) / 200 < 0.96
    assert len(torch.unique(warped.flatten(1), dim=0)) > 0.95 * len(warped)
