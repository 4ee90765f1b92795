"""Figure 9: the share of each sub-band, by leaving it out.

The paper inverts the transform without the three high bands of one octave (appendix A.2.2, decision 32). Here
single bands of the finest level are left out, in two places: `gate`, the band's three coefficients keep what
SWAGAN made of the latents (g = h = 0 for that band in wavelet fusion), and `image`, the band is zero at the
finest level of the final image.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from wagi import checkpoint
from wagi.errors import UserError, option
from wagi.experiments import tables
from wagi.experiments.heldout import BANDS, BATCH, PIXEL_METRICS, Means, compare, eight_bit, load_images
from wagi.experiments.tables import new_figure
from wagi.haar import haar, inverse_haar
from wagi.metrics import METRICS
from wagi.model import WaGI, area_resize
from wagi.networks.fusion import Gates

SHOWN = 4
WHOLE = "all bands"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate subbands",
        description="Figure 9: inversions without one Haar sub-band, of the wavelet fusion or of the image.",
    )
    p.add_argument("--model", required=True, type=Path, metavar="CKPT", help="with wavelet fusion, like D")
    p.add_argument("--test", default="portraits:9001:128", metavar="DATA",
        help="held-out pictures (default portraits:9001:128)")  # fmt: skip
    p.add_argument("--out", required=True, type=Path, metavar="DIR", help="writes subbands.md, .json, .png")
    p.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    return p


def run(args: argparse.Namespace) -> None:
    if args.threads <= 0:
        raise UserError(f"--threads {args.threads}: must be greater than 0", 2)

    torch.set_num_threads(args.threads)
    model = checkpoint.load_model(args.model)
    if not model.fusion.wavelet_levels:
        raise UserError(f"--model {args.model}: fuses no wavelets; give a model of configuration D", 2)
    with option("--test"):
        images = load_images(args.test, model.generator.size)
    lines, shown = measure(model, images)
    meta = {
        "title": "Figure 9: sub-bands left out",
        "model": args.model.parent.name,
        "held-out data": str(args.test),
        "numbers": "means over images, 8-bit in [-1, 1]; LL to HH: mean squared errors at the finest level",
        "notes": [
            "gate: the wavelet fusion leaves that band to the latents. image: that band is zero in the final "
            "image. The paper's figure has no numbers, and leaves out the three high bands of one octave "
            "at once."
        ],
    }
    columns = ["left out of", "band", "L2", "L_wave", "SSIM", *BANDS]
    print(tables.write_report(args.out, "subbands", lines, columns, meta))
    tables.write_figure(args.out, "subbands", figure(shown))


def without_band(gates: Gates, band: int) -> Gates:
    """The gates with g = h = 0 for one band (0: LL ... 3: HH) of every fused level's coefficients."""

    def keep(coefficients: Tensor) -> Tensor:  # N,12,r,r, band-major
        kept = coefficients.clone()
        kept[:, 3 * band : 3 * band + 3] = 0
        return kept

    wavelets = {level: (keep(g), keep(h)) for level, (g, h) in gates.wavelets.items()}
    return Gates(gates.features, wavelets)


def without_image_band(image: Tensor, band: int) -> Tensor:  # N,3,S,S => N,3,S,S
    """The image with one band of its finest Haar level at zero."""
    coefficients = haar(image)
    coefficients[:, 3 * band : 3 * band + 3] = 0
    return inverse_haar(coefficients)


def variants(model: WaGI, images: Tensor) -> dict[tuple[str, str], Tensor]:
    """(where, band) -> result [N, 3, S, S] for the input, the whole inversion and each band left out."""
    ws = model.encode(images)
    state, naive = model.reconstruct(ws)
    aligned, whole = model.fuse(ws, state, naive, model.residual(images, naive))
    gates = model.fusion(aligned)
    found = {("", "input"): images, ("", "naive"): naive, ("", WHOLE): whole}
    for k, band in enumerate(BANDS):
        found["gate", band] = model.generator.suffix(
            ws, state, model.fusion_start, gates=without_band(gates, k)
        )
    for k, band in enumerate(BANDS):
        found["image", band] = without_image_band(whole, k)
    return found


def measure(model: WaGI, images: Tensor) -> tuple[list[dict], dict[tuple[str, str], Tensor]]:
    """(a line of the table per variant, the first pictures of each variant)."""
    metrics = {metric: METRICS[metric] for metric in PIXEL_METRICS}
    means: dict[tuple[str, str], Means] = {}
    shown: dict[tuple[str, str], Tensor] = {}
    with torch.inference_mode():
        for batch in images.split(BATCH):
            target = area_resize(batch, model.resolution)
            for key, result in variants(model, batch).items():
                shown.setdefault(key, result[:SHOWN])
                at_r = area_resize(eight_bit(result), model.resolution)
                means.setdefault(key, Means()).add(compare(at_r, target, metrics))
    lines = []
    for (where, band), mean in means.items():
        if band != "input":
            values = mean()
            finest = dict(zip(BANDS, values["bands_l2"][0], strict=True))
            numbers = {"L2": values["l2"], "L_wave": values["l_wave"], "SSIM": values["ssim"]}
            lines.append({"left out of": where or None, "band": band, **numbers, **finest})
    return lines, shown


def figure(shown: dict[tuple[str, str], Tensor]) -> Figure:
    """A column per variant, a row per picture."""
    count = len(next(iter(shown.values())))
    result = new_figure(1.1 * len(shown), 1.1 * count + 0.4)
    panels = result.subplots(count, len(shown), squeeze=False)
    for column, ((where, band), images) in enumerate(shown.items()):
        for row in range(count):
            axes = panels[row][column]
            pixels = images[row].clamp(-1, 1).add(1).div(2).permute(1, 2, 0)
            axes.imshow(pixels.numpy(), interpolation="nearest")
            axes.set_axis_off()
        panels[0][column].set_title(f"{where}: no {band}" if where else band, fontsize=7)
    return result
