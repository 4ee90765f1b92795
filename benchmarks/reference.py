"""The baseline: WaGI's inversion in plain PyTorch eager, formulated as public code does it.

Convolution weights are modulated per sample and run as one grouped convolution, every resampling is written
out (zero insertion, padding, FIR, subsampling), wavelets are four such filters, the skip path is IDWT,
upsampling and DWT, batch norms are layers of their own, and the generator runs twice from its constant input.
The weights are those of a `wagi` model, whose results these functions reproduce (tests/test_benchmarks.py).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.model import Inversion, WaGI
from wagi.networks.flow_alignment import FlowAligner
from wagi.networks.full_detail import keep_detail
from wagi.networks.fusion import Gates, gate
from wagi.networks.layers import ModulatedConv2d, StyledConv
from wagi.networks.swagan import NO_GATES, Generator, ToWavelets


def upfirdn(
    x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:  # N,C,H,W => N,C,H',W'
    """Insert up - 1 zeros behind every pixel, pad, convolve with the FIR `kernel`, keep every down-th."""
    n, c, height, width = x.shape
    spread = F.pad(x.reshape(n * c, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
    padded = F.pad(spread.reshape(n * c, 1, height * up, width * up), (*pad, *pad))
    y = F.conv2d(padded, kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return y.reshape(n, c, *y.shape[2:])


# StyleGAN2, appendix B: W' = d * scale * W * s, one set of weights per sample.
def modulated_convolution(layer: ModulatedConv2d, x: Tensor, w: Tensor) -> Tensor:
    """x [N, C, H, W], w [N, style_dim] => [N, C', H, W], or [N, C', 2H, 2W] of an upsampling layer."""
    n, c, height, width = x.shape
    style = layer.modulation(w)
    weight = layer.scale * layer.weight * style[:, None, :, None, None]  # N,C',C,k,k
    if layer.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    out, kernel = weight.shape[1], weight.shape[3:]
    x = x.reshape(1, n * c, height, width)
    if layer.upsample:
        swapped = weight.transpose(1, 2).reshape(n * c, out, *kernel)
        y = F.conv_transpose2d(x, swapped, stride=2, groups=n)
        return upfirdn(y.reshape(n, out, *y.shape[2:]), layer.blur.kernel, pad=layer.blur.pad)
    y = F.conv2d(x, weight.reshape(n * out, c, *kernel), padding=layer.padding, groups=n)
    return y.reshape(n, out, *y.shape[2:])


def styled_convolution(layer: StyledConv, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    y = modulated_convolution(layer.conv, x, w)
    y = y + layer.noise.weight * noise
    return F.leaky_relu(y + layer.activate.bias[:, None, None], 0.2) * math.sqrt(2)


def inverse_wavelet(bank: nn.Module, y: Tensor) -> Tensor:  # N,4C,H,W => N,C,2H,2W
    kernels = (bank.ll, bank.lh, bank.hl, bank.hh)
    bands = zip(y.chunk(4, dim=1), kernels, strict=True)
    return sum(upfirdn(band, kernel, up=2, pad=(1, 0)) for band, kernel in bands)  # type: ignore[return-value]


def wavelet(bank: nn.Module, x: Tensor) -> Tensor:  # N,C,H,W => N,4C,H/2,W/2
    return torch.cat([upfirdn(x, kernel, down=2) for kernel in (bank.ll, bank.lh, bank.hl, bank.hh)], dim=1)


def coefficients(layer: ToWavelets, x: Tensor, w: Tensor) -> Tensor:
    return modulated_convolution(layer.conv, x, w) + layer.bias


def resample(layer: ToWavelets, skip: Tensor) -> Tensor:  # N,12,H,W => N,12,2H,2W
    image = inverse_wavelet(layer.iwt, skip)
    return wavelet(layer.dwt, upfirdn(image, layer.upsample.kernel, up=2, pad=(2, 1)))


def generate(generator: Generator, ws: Tensor, gates: Gates = NO_GATES, shown: int = 0) -> Tensor:
    """One whole pass: ws [N, n_latent, style_dim] => images [N, 3, S, S]. Gates: wagi.networks.swagan.

    shown: > 0: the image that the block of this many pixels draws, [N, 3, shown, shown]; every block runs.
    """
    noises = dict(generator.noises.named_buffers())
    x = generator.input.input.repeat(len(ws), 1, 1, 1)
    x = styled_convolution(generator.conv1, x, ws[:, 0], noises["noise_0"])
    skip = coefficients(generator.to_rgb1, x, ws[:, 1])
    drawn = skip
    for i, res in enumerate(generator.resolutions):
        for j in (2 * i, 2 * i + 1):
            x = styled_convolution(generator.convs[j], x, ws[:, j + 1], noises[f"noise_{j + 1}"])
            if j % 2 == 0:
                x = gate(x, gates.features.get(res))
        details = coefficients(generator.to_rgbs[i], x, ws[:, 2 * i + 3])
        pair, skip = gates.wavelets.get(res), resample(generator.to_rgbs[i], skip)
        skip = gate(details + skip, pair) if gates.post_skip else gate(details, pair) + skip
        drawn = skip if not shown or 2 * res <= shown else drawn
    return inverse_wavelet(generator.iwt, drawn)


@torch.no_grad()
def invert(model: WaGI, images: Tensor) -> Inversion:  # N,3,S,S in [-1, 1]
    """The whole inversion (paper, section 3.2) of a model with a SWAGAN generator, in eval mode."""
    ws = model.encode(images)
    naive = generate(model.generator, ws, shown=model.resolution if model.early else 0)
    residual = model.residual(images, naive)
    flow = isinstance(model.aligner, FlowAligner)
    aligned = residual if flow else model.aligner(residual, model.low_fidelity(naive))
    image = generate(model.generator, ws, model.fusion(aligned))
    if model.full_detail:
        image = keep_detail(image, images, model.resolution)
    return Inversion(ws, naive, residual, aligned, image, images)
