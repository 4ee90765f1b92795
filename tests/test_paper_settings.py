"""The settings for what the paper leaves open compute what its text or HFGI's code says, by value."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from export_models import CONFIG, randomised, small_model
from paper_stages import make, pictures
from PIL import Image
from scipy.signal import correlate2d
from test_eq2 import Observed, mean_square
from test_swagan import reference
from tolerances import TOL

from wagi import checkpoint, config
from wagi.errors import UserError
from wagi.model import WaGI, resize
from wagi.networks.alignment import DistortionAligner
from wagi.networks.build import PARTS, build_part
from wagi.networks.fusion import ConsultationEncoder, Gates
from wagi.networks.small_encoder import SmallEncoder
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator
from wagi.training.setup import initialise
from wagi_rt import chain

CLOSE = dict(atol=1e-6, rtol=1e-6)
FUSION = dict(
    resolution=64, feature_channels={16: 16, 32: 16}, wavelet_levels=(32,), widths=(6, 8, 10), hidden=8
)  # fmt: skip


# --------------------------------------------------------------------------------------------- gates


@torch.no_grad()
def fused(**settings):
    """A random generator's image under random gates, and the arguments of `reference`: heads' raw outputs."""
    torch.manual_seed(0)
    generator = randomised(Generator(64, 16, 2, 0.125, 16)).double()
    fusion = ConsultationEncoder(**FUSION, zero_init=False, **settings).double().eval()
    raw = {}
    for name, head in fusion.named_children():
        head.register_forward_hook(lambda _, args, out, name=name: raw.update({name: out}))
    gates = fusion(torch.randn(2, 3, 64, 64).double())
    ws = torch.randn(2, generator.n_latent, 16).double()
    pairs = Gates(
        {16: (raw["condition_scale3"], raw["condition_shift3"]),
         32: (raw["condition_scale2"], raw["condition_shift2"])},
        {32: (raw["wavelet_scale2"], raw["wavelet_shift2"])},
    )  # fmt: skip
    return generator(ws, gates), (generator.state_dict(), ws, 3, True, pairs)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("post_skip", [False, True])
def test_gates_by_value(plain, post_skip):
    """Eq. (8) and (9): g x + h where plain, (1 + g) x + h else; wavelets with or without the skip in them."""
    image, arguments = fused(plain=plain, post_skip=post_skip)
    torch.testing.assert_close(image, reference(*arguments, 1 - plain, post_skip), **CLOSE)
    for other in ((plain, post_skip), (1 - plain, not post_skip)):
        assert (image - reference(*arguments, *other)).abs().mean() > 0.01, "too little to be seen"


@torch.no_grad()
@pytest.mark.parametrize("gate", ["residual", "plain"])
def test_where_heads_start(gate):
    """zero_init: at the identity, with either gate. Without: HFGI's heads, N(0, 1) weights and no bias."""
    fusion = build_part(dataclasses.replace(CONFIG, gate=gate), "fusion").eval()
    generator = build_part(CONFIG, "generator")
    ws = torch.randn(1, generator.n_latent, generator.style_dim)
    gates = fusion(torch.randn(1, 3, 32, 32))
    assert torch.equal(generator(ws, gates), generator(ws))
    fusion = build_part(dataclasses.replace(CONFIG, gate=gate, zero_init=False), "fusion")
    last = [head[2] for name, head in fusion.named_children() if "scale" in name or "shift" in name]
    assert len(last) == 6 and not any(layer.bias.any() for layer in last)
    weights = torch.cat([layer.weight.flatten() for layer in last])
    assert weights.std().item() == pytest.approx(1, rel=0.1)


# ------------------------------------------------------------------------------------- the wavelet loss


def paper_wavelet_loss(x, y, power, levels=3):
    """Eq. (6) with the +-1 filters of eq. (1), each applied by scipy with stride 2; means over all places."""
    low, high = np.array([[1.0, 1.0]]), np.array([[-1.0, 1.0]])
    planes = list((x - y).detach().double().numpy().reshape(-1, *x.shape[2:]))
    total = 0.0
    for _ in range(levels):
        for f in (low.T @ high, high.T @ low, high.T @ high):
            found = [correlate2d(plane, f, mode="valid")[::2, ::2] for plane in planes]
            total += float((np.abs(found) ** power).mean())
        planes = [correlate2d(plane, low.T @ low, mode="valid")[::2, ::2] for plane in planes]
    return total


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_the_wavelet_losses_of_a_stage(norm, power):
    """Both terms of eq. (2) in the norm of appendix A.2.1 or of eq. (6), with the filters of eq. (1)."""
    seen = Observed(make("inversion", {"wave_norm": norm, "haar_scale": "2"}), pictures())
    x, y, delta = seen.batch["image"], seen.image(), seen.residual()
    wave, wave_ada = paper_wavelet_loss(y, x, power), paper_wavelet_loss(seen.aligned, delta, power)
    assert seen.scalars["wave"].item() == pytest.approx(wave, rel=1e-4)
    l1 = float((seen.aligned - delta).detach().abs().mean())
    assert seen.scalars["ada"].item() == pytest.approx(l1 + 0.1 * wave_ada, rel=1e-4)
    total = mean_square(y, x) + 0.1 * wave + l1 + 0.1 * wave_ada
    assert seen.loss.item() == pytest.approx(total, rel=1e-4)
    with torch.no_grad():
        stage = make("encoder", {"lambda_wave": "1", "lambda_adv": "0", "wave_norm": norm, "haar_scale": "2"})
        scalars = stage.encode(pictures(), torch.Generator())[1]
        image = stage.naive.image(pictures()["image"])
    assert scalars["wave"].item() == pytest.approx(paper_wavelet_loss(image, x, power), rel=1e-4)


# ------------------------------------------------------------------------------------------ smaller images


def pillow(images, size):
    """Pillow's bilinear resize of each plane in floating point."""
    planes = images.reshape(-1, *images.shape[2:]).numpy()
    found = [Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR) for p in planes]
    return torch.from_numpy(np.stack([np.asarray(p) for p in found])).view(*images.shape[:2], size, size)


@pytest.mark.parametrize("size", [64, 32, 16])
def test_ways_to_make_images_smaller(size):
    """Against Pillow, and against the samples that bilinear interpolation without antialiasing reads."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    found = {way: resize(images, size, way) for way in ("area", "bilinear", "pil")}
    torch.testing.assert_close(found["pil"], pillow(images, size), **TOL[torch.float32])
    eight = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    assert np.abs((found["pil"][0].permute(1, 2, 0).numpy() + 1) * 127.5 - eight).max() < 1.01
    factor = 64 // size
    if factor > 1:
        a, b = factor // 2 - 1, factor // 2
        middle = sum(images[..., i::factor, j::factor] for i in (a, b) for j in (a, b)) / 4
        torch.testing.assert_close(found["bilinear"], middle, **TOL[torch.float32])
    else:
        assert torch.equal(found["bilinear"], images)
    glue = {"area": "shrink", "bilinear": "sample", "pil": "shrink_pil"}
    for way, name in glue.items():
        runtime = chain.GLUE[name](images.numpy(), size)
        np.testing.assert_allclose(runtime, found[way], **TOL[np.float32], err_msg=way)


@torch.no_grad()
def test_hfgi_by_its_own_formulas():
    """Inversion and edit as HFGI's code has them, at its ratio of 4 between G and everything else.

    Its input by Pillow; the naive image clamped and sampled; ADA of the residual and that image; after the
    first convolution of one block x (1 + scale) + shift.
    """
    torch.manual_seed(1)
    settings = dataclasses.replace(CONFIG, naive="bilinear", image_resize="pil")  # as wagi.convert sets them
    generator = randomised(StyleGAN2Generator(128, 16, 2, 0.125, 8))
    encoder = randomised(SmallEncoder(generator.n_latent, 16, input_size=32, width=8)).eval()
    aligner = randomised(DistortionAligner((4, 6, 8, 10))).eval()
    fusion = ConsultationEncoder(32, {8: 8}, (), (6, 8, 10), zero_init=False).eval()
    model = WaGI(generator, encoder, aligner, fusion, **settings.ways).eval()
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    x = pillow(images, 32)

    def small(ws):
        return F.interpolate(generator(ws).clamp(-1, 1), (32, 32), mode="bilinear", align_corners=False)

    def final(ws, delta, shown):
        aligned = aligner(delta, shown)
        trunk = fusion.conv_layer3(fusion.conv_layer2(fusion.conv_layer1(aligned)))
        pair = fusion.condition_scale3(trunk).double(), fusion.condition_shift3(trunk).double()
        weights = {name: value.double() for name, value in generator.state_dict().items()}
        return reference(weights, ws.double(), 5, False, Gates({8: pair}))

    ws = encoder(x) + generator.latent_avg
    delta = x - small(ws)
    found = model.invert(images)
    torch.testing.assert_close(found.residual, delta, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.image.double(), final(ws, delta, small(ws)), atol=1e-3, rtol=1e-3)
    moved = ws + 0.3 * torch.randn(ws.shape)
    edited = model.edit(found, moved, faded=False).image
    torch.testing.assert_close(edited.double(), final(moved, delta, small(moved)), atol=1e-3, rtol=1e-3)
    default = WaGI(generator, encoder, aligner, fusion).eval().invert(images)
    assert (default.residual - delta).abs().mean() > 0.01


# ------------------------------------------------------------------------------------------- what is kept


def test_settings_are_kept(tmp_path):
    changes = dict(
        size=128, residual_resolution=32, gate="plain", post_skip=True, zero_init=False, naive="bilinear",
        image_resize="pil",
    )  # fmt: skip
    model, settings = small_model(**changes), dataclasses.replace(CONFIG, **changes)
    states = {part: checkpoint.state_of(getattr(model, part)) for part in PARTS}
    checkpoint.save(tmp_path / "m.pt", "inversion", settings, states)
    checkpoint.release(tmp_path / "m.safetensors", "inversion", settings, states, {}, half=False)
    x = torch.rand(1, 3, 128, 128) * 2 - 1
    for name in ("m.pt", "m.safetensors"):
        loaded = checkpoint.load_model(tmp_path / name)
        assert torch.equal(loaded.invert(x).image, model.invert(x).image)
    older = {name: value for name, value in config.to_dict(CONFIG).items() if name not in changes}
    assert config.model_from_dict(older, "older") == dataclasses.replace(
        CONFIG, size=256, residual_resolution=0
    )
    assert not any(CONFIG.ways.values()) and CONFIG.gate == "residual" and not CONFIG.post_skip


def test_weights_for_other_gates_are_refused(tmp_path):
    states = {"fusion": checkpoint.state_of(build_part(CONFIG, "fusion"))}
    checkpoint.save(tmp_path / "m.pt", "inversion", CONFIG, states)
    for setting, said in (({"gate": "plain"}, "gate=residual"), ({"post_skip": "true"}, "post_skip=false")):
        with pytest.raises(UserError, match=f"trained with .*; add --set {said}, or leave it out"):
            initialise(make("inversion", setting), str(tmp_path / "m.pt"), "fusion")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"gate": "none"}, "gate=none: choose from residual, plain"),
        ({"naive": "late"}, "naive=late: choose from full, bilinear, early"),
        ({"image_resize": "lanczos"}, "image_resize=lanczos: choose from area, pil"),
        ({"wave_norm": "l3"}, "wave_norm=l3: choose from l2, l1"),
        ({"haar_scale": "0"}, "haar_scale=0.0: must be greater than 0"),
    ],
)
def test_other_values_are_refused(setting, said):
    with pytest.raises(UserError, match=said):
        config.settings("smoke", "inversion", setting)
