"""Presets of `python -m wagi.train`: changes of the defaults in `wagi.config`, which are the paper's."""

from typing import Any

# Weights of background, clothes, skin, eyes, mouth, hair, hat, letters, accessories.
_REGIONS = (0.5, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0)

# 15 in place of 115 GMAC for encoder, consultation encoder and heads (tests/test_fast_presets.py).
_FAST: dict[str, Any] = dict(
    encoder="small", encoder_input=256, encoder_width=192, aligner="flow", naive="early",
    fusion_widths=(24, 32, 48), fusion_hidden=48)  # fmt: skip


def _stages(generator_kimg: float, kimg: float, batch: int, holdout: int, ada_steps: int) -> dict[str, Any]:
    """The stages of a small model of portraits, without the losses that need weight files."""
    run = dict(batch=batch, lr_rampdown=0.3, ema_kimg=5.0, flip=False, holdout=holdout, save_every=500)
    later = dict(run, kimg=kimg, optimizer="adam", lambda_lpips=0.0, lambda_id=0.0)
    return dict(
        generator=dict(
            run, mode="distill", kimg=generator_kimg, lr=2e-3, latent_avg_beta=0.998, r1_gamma=1.0,
            region_weights=_REGIONS),
        encoder=dict(
            later, lr=5e-4, lambda_wave=0.1, lambda_adv=0.0, progressive_start=0, region_weights=_REGIONS),
        inversion=dict(later, lr=1e-3, ada_steps=ada_steps),
        hypernetwork=dict(later, lr=1e-3),
    )  # fmt: skip


_PORTRAITS = _stages(generator_kimg=1000.0, kimg=200.0, batch=16, holdout=512, ada_steps=2000)
_SMOKE = _stages(generator_kimg=0.04, kimg=0.04, batch=4, holdout=4, ada_steps=3)

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "portraits-64": dict(
        model=dict(
            size=64, style_dim=160, n_mlp=4, channel_multiplier=0.125, max_channels=128,
            encoder="small", encoder_input=64, encoder_width=48, aligner_channels=(12, 24, 32, 48),
            feature_levels=(16, 32), wavelet_levels=(32,), fusion_widths=(24, 32, 48), fusion_hidden=48,
            hyper_width=16),
        **_PORTRAITS),
    "portraits-128": dict(
        model=dict(
            size=128, style_dim=160, n_mlp=4, channel_multiplier=0.125, max_channels=128,
            encoder="small", encoder_input=64, encoder_width=48, aligner_channels=(8, 16, 24, 32),
            feature_levels=(16, 32), wavelet_levels=(64,), fusion_widths=(16, 24, 32, 48), fusion_hidden=32,
            hyper_width=16),
        **_PORTRAITS),
    "smoke": dict(
        model=dict(
            size=32, style_dim=160, n_mlp=2, channel_multiplier=0.125, max_channels=16,
            encoder="small", encoder_input=32, encoder_width=8, aligner_channels=(4, 6, 8, 10),
            feature_levels=(8, 16), wavelet_levels=(16,), fusion_widths=(6, 8, 10), fusion_hidden=8,
            hyper_width=2),
        **_SMOKE),
    # Large enough for all rows of table 3.
    "smoke-128": dict(
        model=dict(
            size=128, residual_resolution=64, style_dim=160, n_mlp=2, channel_multiplier=0.125,
            max_channels=16, encoder="small", encoder_input=32, encoder_width=8,
            aligner_channels=(4, 6, 8, 10), feature_levels=(16, 32), wavelet_levels=(32,),
            fusion_widths=(6, 8, 10), fusion_hidden=8, hyper_width=2),
        **_SMOKE),
    "ffhq1024": dict(model=dict(size=1024), generator={}, encoder={}, inversion={}, hypernetwork={}),
    "ffhq256": dict(model=dict(size=256), generator={}, encoder={}, inversion={}, hypernetwork={}),
    "ffhq1024-fast": dict(
        model=dict(size=1024, **_FAST), generator={}, encoder={}, inversion={}, hypernetwork={}),
    "ffhq256-fast": dict(
        model=dict(size=256, **_FAST), generator={}, encoder={}, inversion={}, hypernetwork={}),
}  # fmt: skip

# The paper's ablation (table 2, decision 37): A is HFGI, B changes the generator, C adds the wavelet loss, C+
# (ours: the paper takes both steps at once) the second feature level, D the wavelets.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "A": dict(generator="stylegan2", features=1, wavelets=False, wave_loss=False),
    "B": dict(generator="swagan", features=1, wavelets=False, wave_loss=False),
    "C": dict(generator="swagan", features=1, wavelets=False, wave_loss=True),
    "C+": dict(generator="swagan", features=2, wavelets=False, wave_loss=True),
    "D": dict(generator="swagan", features=2, wavelets=True, wave_loss=True),
}
