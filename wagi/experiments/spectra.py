"""Power spectra of images by spatial frequency."""

import torch
from torch import Tensor


def radial_spectrum(images: Tensor) -> Tensor:  # N,C,S,S => N,S/2+1
    """Azimuthally averaged power: mean |F|^2 over colours and over the frequencies of each whole radius.

    F is the orthonormal 2-D FFT; entry k averages the frequencies whose radius rounds to k cycles per image,
    k = 0 .. S/2 (the Nyquist frequency of an axis). Images are square.
    """
    size = images.shape[-1]
    power = torch.fft.fft2(images.double(), norm="ortho").abs().square().mean(1).flatten(1)
    frequency = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency[None]).round().long().flatten()
    bins = size // 2 + 1
    inside = radius < bins
    sums = torch.zeros(len(images), bins, dtype=torch.float64)
    sums.index_add_(1, radius[inside], power[:, inside])
    return sums / torch.bincount(radius[inside], minlength=bins)


def top_octave_error(images: Tensor, targets: Tensor) -> Tensor:  # N,C,S,S twice => N
    """Mean |difference| in dB between the radial spectra above half the Nyquist frequency."""
    bels = [torch.log10(radial_spectrum(x).clamp_min(1e-12)) for x in (images, targets)]
    first = images.shape[-1] // 4
    return 10 * (bels[0] - bels[1])[:, first:].abs().mean(1)
