"""Evaluation protocols: what is measured, at which size, in which range, with which settings.

Sources: the paper (decisions 33 to 37), the published evaluation code of HyperStyle and StyleFeatureEditor.
"""

from dataclasses import dataclass, field
from typing import Literal

from wagi.errors import UserError


@dataclass(frozen=True)
class Measure:
    """One metric: its name in tables, which way is better, its settings, and what it needs."""

    label: str
    better: Literal["lower", "higher"]
    settings: str
    needs: str = ""  # said where the metric could not be measured for want of it


MEASURES: dict[str, Measure] = {
    "l2": Measure("L2", "lower", "mean squared error"),
    "l_wave": Measure(
        "L_wave", "lower", "eq. (6), K = 2: three levels, orthonormal Haar, mean squares of LH, HL, HH, sum"
    ),
    "psnr": Measure("PSNR", "higher", "dB, peak 2 (peak squared 4), mean over images"),
    "ssim": Measure("SSIM", "higher", "Gaussian 11x11, sigma 1.5, no border, RGB mean, data range 2"),
    "ms_ssim": Measure("MS-SSIM", "higher", "five scales by 2x2 means, Gaussian 11x11, data range 2"),
    "lpips": Measure("LPIPS", "lower", "v0.1, AlexNet", "--lpips-trunk FILE and --lpips-linear FILE"),
    "identity": Measure(
        "ID (ArcFace)", "higher",
        "cosine of ArcFace IR-SE50; rows 35:223, columns 32:220 at 256 px, pooled to 112", "--arcface FILE",
    ),
    "curricularface": Measure(
        "ID (CurricularFace)", "higher", "cosine of CurricularFace on MTCNN crops",
        "CurricularFace and MTCNN, which this program does not have",
    ),
    "fid": Measure(
        "FID", "lower", "Frechet distance to the inputs, features of --fid-network", "--fid-network FILE"
    ),
    "portraits-ID": Measure(
        "portraits-ID", "higher", "cosine of the stand-in for rendered identities, 64 px; not ArcFace"
    ),
    "portraits-features": Measure(
        "portraits-features", "lower",
        "LPIPS-like distance of the stand-in for rendered portraits, 128 px, uncalibrated; not LPIPS",
    ),
    "portraits-FID": Measure(
        "portraits-FID", "lower", "Frechet distance to the inputs, 96 features of the stand-in, 128 px"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """Sizes and metrics of a table. Pictures are rounded to 8 bit, then compared in [-1, 1]."""

    name: str
    summary: str
    size: int  # pixels; 0: the model's own
    resize: Literal["area", "bilinear"]  # from larger pictures: block means; Pillow's, which rounds to 8 bit
    metrics: tuple[str, ...]
    sizes: dict[str, int] = field(default_factory=dict)  # of metrics with another one; 0: the model's own

    def size_of(self, metric: str, model_size: int) -> int:
        """Pixels at which a metric is measured."""
        return self.sizes.get(metric, self.size) or model_size


_PIXELS = ("l2", "l_wave", "psnr", "ssim", "ms_ssim")
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("wagi", "the paper's tables", 256, "area", (*_PIXELS, "lpips", "identity", "fid")),
        Protocol(
            "hyperstyle", "HyperStyle (CVPR 2022)", 256, "bilinear",
            ("l2", "lpips", "ms_ssim", "curricularface"),
        ),
        Protocol(
            "stylefeatureeditor", "StyleFeatureEditor (CVPR 2024); FID at the model's size", 256, "bilinear",
            ("l2", "lpips", "ms_ssim", "curricularface", "fid"), {"ms_ssim": 1024, "fid": 0},
        ),
        Protocol(
            "portraits", "rendered portraits, stand-in networks", 0, "area",
            (*_PIXELS, "portraits-ID", "portraits-features", "portraits-FID"),
        ),
    )
}  # fmt: skip


def find(name: str) -> Protocol:
    """Raises UserError for a name that is not there."""
    if name not in PROTOCOLS:
        raise UserError(f"--protocol {name}: no such protocol; choose from {', '.join(PROTOCOLS)}", 2)
    return PROTOCOLS[name]
