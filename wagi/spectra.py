"""Power spectra of images by spatial frequency, and the losses of appendix A.2.1 that compare them.

All forget the phase but `focal_frequency_loss`. Images are square, [N, C, S, S] in [-1, 1].
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

# Power of the rounding to 8 bit, a step of 2/255: spectra are not told apart below it.
FLOOR = (2 / 255) ** 2 / 12


def reduced_spectrum(images: Tensor) -> Tensor:  # N,C,S,S => N,floor(S / sqrt(2))
    """Azimuthal average of the power: mean |F|^2 over colours and over the frequencies of each whole radius.

    F is the orthonormal 2-D FFT; entry k averages the frequencies whose radius rounds to k cycles per image,
    k < S / sqrt(2), the corner of the spectrum. ValueError for images that are not square.
    """
    size = images.shape[-1]
    if images.shape[-2] != size:
        raise ValueError(f"spectra are of square images, got {images.shape[-2]}x{size}")
    wide = images if images.dtype == torch.float64 else images.float()
    power = torch.fft.fft2(wide, norm="ortho").abs().square().mean(1).flatten(1)
    frequency = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64, device=images.device)
    radius = torch.hypot(frequency[:, None], frequency[None]).round().long().flatten()
    bins = int(size / math.sqrt(2))
    inside = radius < bins
    sums = power.new_zeros(len(images), bins).index_add(1, radius[inside], power[:, inside])
    return sums / torch.bincount(radius[inside], minlength=bins)


# A.2.1 (Schwarz et al. 2021): 1 / (H / sqrt(2)) sum_k || log S(x)[k] - log S(y)[k] ||^2
def spectral_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of the log reduced spectra, a scalar; 1.92 between an image and its double."""
    first, second = (torch.log(reduced_spectrum(image) + FLOOR) for image in (x, y))
    return (first - second).square().mean()


# Durall et al. 2020, section 4: the binary cross entropy of the azimuthal integrals.
def azimuthal_loss(x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of x's reduced spectrum under y's, each divided by its largest entry; a scalar.

    Not zero for equal images: it is the entropy then, its least value.
    """
    first, second = (s / (s.amax(1, keepdim=True) + FLOOR) for s in map(reduced_spectrum, (x, y)))
    return binary_cross_entropy(first, second)


# Jiang et al. 2021, eqs. (8) and (9), alpha = 1: the errors of all frequencies, the large ones weighing more.
def focal_frequency_loss(x: Tensor, y: Tensor) -> Tensor:
    """mean w |F x - F y|^2 with w = |F x - F y|, divided by its largest per image and colour and held fixed.

    Amplitude and phase count; a scalar.
    """
    wide = x - y if x.dtype == torch.float64 else x.float() - y.float()
    error = torch.fft.fft2(wide, norm="ortho").abs()
    weight = error.detach()
    return (weight / (weight.amax((2, 3), keepdim=True) + 1e-12) * error.square()).mean()


SPECTRAL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "schwarz": spectral_loss,
    "durall": azimuthal_loss,
    "jiang": focal_frequency_loss,
}


def top_octave_error(images: Tensor, targets: Tensor) -> Tensor:  # N,C,S,S twice => N
    """Mean |difference| in dB between the reduced spectra above half the Nyquist frequency of an axis."""
    bels = [torch.log10(reduced_spectrum(x).clamp_min(1e-12)) for x in (images, targets)]
    first = images.shape[-1] // 4
    return 10 * (bels[0] - bels[1])[:, first:].abs().mean(1)
