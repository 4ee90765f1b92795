"""WaGI: the only place where generator, encoder, alignment and fusion meet.

Training, evaluation and export all use these methods; none has a second version of the path.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.networks.alignment import DistortionAligner
from wagi.networks.e4e import ProgressiveEncoder
from wagi.networks.flow_alignment import Alignment, FlowAligner
from wagi.networks.full_detail import keep_detail, move_detail, shares
from wagi.networks.fusion import ConsultationEncoder
from wagi.networks.hypernetwork import HyperNetwork, Offsets
from wagi.networks.layers import window_mean
from wagi.networks.swagan import Generator, State

# The mean square change at which half of the residual is left, and the window it is taken over (R / 16).
_FADE_CHANGE, _FADE_SHARE = 0.01, 16


class Inversion(NamedTuple):
    """The result of an inversion or an edit; S is the generator's size, R = min(256, S)."""

    ws: Tensor  # [N, n_latent, style_dim] latents; of an edit in style space with its offsets behind them
    naive: Tensor  # [N, 3, S, S] G0(ws), not clamped (WaGI.reconstruct)
    residual: Tensor  # [N, 3, R, R] in [-2, 2]: the input minus its naive inversion; ADA's edits fade it
    aligned: Tensor  # [N, 3, R, R] the residual as it was aligned to `naive`
    image: Tensor  # [N, 3, S, S] the fused result, not clamped
    input: Tensor  # [N, 3, S, S] in [-1, 1] the source's


def area_resize(images: Tensor, size: int) -> Tensor:  # N,3,H,H => N,3,size,size
    """Mean over square blocks. Antialiased, unlike bilinear sampling, which the wavelet loss would punish."""
    factor, rest = divmod(images.shape[-1], size)
    if rest or images.shape[-1] != images.shape[-2]:
        raise ValueError(f"images must be square, a multiple of {size} px, not {tuple(images.shape[2:])}")
    return images if factor == 1 else F.avg_pool2d(images, factor)


def resize(images: Tensor, size: int, way: str) -> Tensor:  # N,3,H,H => N,3,size,size
    """Images made smaller by a whole factor in one of three ways.

    area: `area_resize`. bilinear: samples without antialiasing, the mean of the middle 2x2 pixels of a block
    (HFGI's naive images). pil: as Pillow's bilinear filter, which antialiases (what e4e and HFGI read), but
    for its rounding to 8 bit.
    """
    if way == "area" or images.shape[-1] == size:
        return area_resize(images, size)
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=way == "pil")


# Not in the papers, which carry the whole residual to the edited image: what ADA cannot move far enough stays
# behind as a ghost of the old pose. The weight is Wiener's, signal over signal plus error, with the change of
# the naive image in place of the error; constants were chosen on portraits (docs/results.md).
def fade(residual: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Trust a residual the less, the more an edit changes the naive image around it.

    All [N, 3, R, R]; before, after: the naive images in [-1, 1]. An edit that changes nothing fades nothing.
    """
    change = (after - before).square().mean(1, keepdim=True)
    side = residual.shape[-1] // _FADE_SHARE | 1
    return residual / (1 + window_mean(change, side) / _FADE_CHANGE)


class NaiveInverter(nn.Module):
    """E0 and G0, without what gives the lost detail back; images are [N, 3, S, S] in [-1, 1].

    pil: they come to R as Pillow's bilinear filter reduces them, not by means over blocks.
    resolution: R, 0 for min(256, S).
    """

    def __init__(
        self, generator: Generator, encoder: ProgressiveEncoder, pil: bool = False, resolution: int = 0
    ) -> None:
        super().__init__()
        self.generator, self.encoder, self.pil = generator, encoder, pil
        self.resolution = resolution or min(256, generator.size)

    def reduced(self, images: Tensor) -> Tensor:  # N,3,S,S => N,3,R,R
        """Images as E0 and the residual read them."""
        return resize(images, self.resolution, "pil" if self.pil else "area")

    def offsets(self, images: Tensor) -> Tensor:  # N,3,S,S => N,n_latent,style_dim
        """E0's output: latents as differences from the mean latent."""
        *_, last = self.attempts(images)
        return last

    # ReStyle, section 3: w_{t+1} = w_t + E(x, G(w_t)), from the mean latent and its image.
    def attempts(self, images: Tensor) -> Iterator[Tensor]:
        """E0's output after each of its steps. Gradients stay inside a step, as ReStyle is trained."""
        images = self.reduced(images)
        if not self.encoder.steps:
            yield self.encoder(images)
            return
        offsets = images.new_zeros(len(images), self.generator.n_latent, self.generator.style_dim)
        for _ in range(self.encoder.steps):
            with torch.no_grad():
                shown = area_resize(self.generator(self.latents(offsets)), self.resolution)
            offsets = offsets.detach() + self.encoder(torch.cat([images, shown], dim=1))
            yield offsets

    def encode(self, images: Tensor) -> Tensor:  # N,3,S,S => N,n_latent,style_dim
        """Latents of the naive inversion."""
        return self.latents(self.offsets(images))

    def image(self, images: Tensor) -> Tensor:  # N,3,S,S => N,3,S,S, not clamped
        """The naive inversion."""
        return self.generator(self.encode(images))

    def latents(self, offsets: Tensor) -> Tensor:
        """Latents from what E0 gives."""
        return offsets + self.generator.latent_avg

    def results(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(naive, final) inversion of images [N, 3, S, S], not clamped; here there is only the naive one."""
        naive = self.image(images)
        return naive, naive

    def edited(self, images: Tensor, ws_edit: Tensor) -> Tensor:  # => N,3,S,S, not clamped
        """Images edited to latents [N, n_latent, style_dim], as the system's own paper edits."""
        return self.generator(ws_edit)


class Refinement(NamedTuple):
    """One step of HyperStyle: the latents that E0 gave, the weights' offsets so far, what they show."""

    ws: Tensor  # [N, n_latent, style_dim]
    offsets: Offsets  # empty before the first step
    image: Tensor  # [N, 3, S, S], not clamped


class HyperInverter(NaiveInverter):
    """HyperStyle: E0's latents, and a generator whose weights are refined for each image in `hyper_steps`."""

    def __init__(
        self,
        generator: Generator,
        encoder: ProgressiveEncoder,
        hypernetwork: HyperNetwork,
        hyper_steps: int,
        pil: bool = False,
        resolution: int = 0,
    ) -> None:
        super().__init__(generator, encoder, pil, resolution)
        self.hypernetwork, self.hyper_steps = hypernetwork, hyper_steps

    def render(self, ws: Tensor, offsets: Offsets) -> Tensor:
        """Images [N, 3, S, S] of latents by generators with weights W (1 + offset), each image's its own."""
        weights = dict(self.generator.named_parameters())

        def one(w: Tensor, own: Offsets) -> Tensor:
            changed = {name: weights[name] * (1 + offset) for name, offset in own.items()}
            return torch.func.functional_call(self.generator, changed, (w[None],))[0]

        return torch.vmap(one)(ws, offsets)

    def refinements(self, images: Tensor) -> Iterator[Refinement]:
        """The naive inversion, then what each step makes of it. Gradients stay inside a step."""
        offsets: Offsets = {}
        with torch.no_grad():
            ws = self.encode(images)
            shown = self.generator(ws)
        yield Refinement(ws, offsets, shown)
        images = self.reduced(images)
        for _ in range(self.hyper_steps):
            pair = torch.cat([images, area_resize(shown.detach(), self.resolution)], dim=1)
            added = self.hypernetwork(pair)
            offsets = {name: offsets[name].detach() + x if offsets else x for name, x in added.items()}
            shown = self.render(ws, offsets)
            yield Refinement(ws, offsets, shown)

    def results(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The naive and the refined inversion."""
        naive, *_, final = self.refinements(images)
        return naive.image, final.image

    def edited(self, images: Tensor, ws_edit: Tensor) -> Tensor:
        """The edited latents' image by the generator that was refined for the images themselves."""
        *_, final = self.refinements(images)
        return self.render(ws_edit, final.offsets)


class WaGI(NaiveInverter):
    """Wavelet-based GAN inversion of images [N, 3, S, S] in [-1, 1].

    Fusion starts at the lowest gated block; the generator's layers below it do not depend on the gates, so
    the naive and the final image share one pass through them.

    full_detail: above R, results have the input's own detail. It needs a flow aligner.
    early: the naive image is what the generator has drawn at R; its blocks above are not run for it.
    bilinear: the residual sees samples of the naive image, as in HFGI, not means over blocks.
    pil: see NaiveInverter.
    None of them changes anything where R is the image's size.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: ProgressiveEncoder,
        aligner: DistortionAligner | FlowAligner,
        fusion: ConsultationEncoder,
        full_detail: bool = False,
        early: bool = False,
        bilinear: bool = False,
        pil: bool = False,
    ) -> None:
        super().__init__(generator, encoder, resolution=fusion.resolution)
        self.aligner, self.fusion = aligner, fusion
        if full_detail and not isinstance(aligner, FlowAligner):
            raise ValueError("full_detail needs a flow aligner")
        larger = self.resolution < generator.size
        self.full_detail, self.early = full_detail and larger, early and larger
        self.bilinear, self.pil = bilinear and larger, pil and larger
        self.fusion_start = fusion.levels[0]

    def reconstruct(self, ws: Tensor) -> tuple[State, Tensor]:
        """The generator's state below the first gate, and the naive image G0(ws) [N, 3, S, S].

        An early one comes in blocks of equal pixels, which `low_fidelity` takes back.
        """
        state = self.generator.prefix(ws, self.fusion_start)
        size = self.resolution if self.early else self.generator.size
        naive = self.generator.suffix(ws, state, self.fusion_start, size=size)
        return state, F.interpolate(naive, scale_factor=self.generator.size // size) if self.early else naive

    def low_fidelity(self, naive: Tensor) -> Tensor:  # N,3,S,S => N,3,R,R
        """The naive image as the aligner sees it: a valid image at the residual's resolution."""
        return resize(naive.clamp(-1, 1), self.resolution, "bilinear" if self.bilinear else "area")

    def residual(self, images: Tensor, naive: Tensor) -> Tensor:  # => N,3,R,R
        """The detail that the naive inversion lost: Delta = X - X0 (paper, section 3.2)."""
        return self.reduced(images) - self.low_fidelity(naive)

    def fuse(self, ws: Tensor, state: State, naive: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Align an inversion's residual to its naive image and decode with its gates => (aligned, image).

        ADA also aligns the residual of an edit so; the flow aligner leaves an inversion's as it is.
        """
        if not isinstance(self.aligner, FlowAligner):
            residual = self.aligner(residual, self.low_fidelity(naive))
        return residual, self.decode(ws, state, residual)

    def decode(self, ws: Tensor, state: State, aligned: Tensor) -> Tensor:  # => N,3,S,S
        """The gated part of the generator, from an aligned residual."""
        return self.generator.suffix(ws, state, self.fusion_start, gates=self.fusion(aligned))

    def invert(self, images: Tensor) -> Inversion:
        """Invert images [N, 3, S, S] in [-1, 1]; ValueError when they are not square or of another size."""
        self._check(images)
        ws = self.encode(images)
        state, naive = self.reconstruct(ws)
        residual = self.residual(images, naive)
        aligned, image = self.fuse(ws, state, naive, residual)
        if self.full_detail:
            image = keep_detail(image, images, self.resolution)
        return Inversion(ws, naive, residual, aligned, image, images)

    def results(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The naive and the fused inversion."""
        found = self.invert(images)
        return found.naive, found.image

    def edited(self, images: Tensor, ws_edit: Tensor) -> Tensor:
        """The papers' edit, which trusts the whole residual."""
        return self.edit(images, ws_edit, faded=False).image

    def edit(
        self,
        source: Tensor | Inversion,
        ws_edit: Tensor,
        faded: bool = True,
        styles: Tensor | None = None,
    ) -> Inversion:
        """Render edited latents with the detail of the source.

        The residual belongs to the source's own naive inversion and is aligned to the edited one.

        Args:
            source: images [N, 3, S, S], or what `invert` returned for them.
            ws_edit: [N, n_latent, style_dim] edited latents.
            faded: with ADA: trust the residual less where the edit changes the image; False is the papers'
                edit. The flow aligner decides itself what it carries.
            styles: [N or 1, generator.space.channels] what is added to the generator's styles.
        """
        inversion = self.invert(source) if isinstance(source, Tensor) else source
        ws_edit = ws_edit if styles is None else self.generator.space.with_offsets(ws_edit, styles)
        state, naive = self.reconstruct(ws_edit)
        residual = inversion.residual
        if isinstance(self.aligner, FlowAligner):
            found = self.move(inversion, state, naive)
            image = self.decode(ws_edit, state, found.aligned)
            if self.full_detail:
                image = move_detail(image, inversion.input, found.flows[-1], shares(found))
            return Inversion(ws_edit, naive, residual, found.aligned, image, inversion.input)
        if faded:
            residual = self.carry(residual, inversion.naive, naive)
        aligned, image = self.fuse(ws_edit, state, naive, residual)
        return Inversion(ws_edit, naive, residual, aligned, image, inversion.input)

    def move(self, inversion: Inversion, state: State, naive: Tensor) -> Alignment:
        """The flow from an inversion to edited latents' state and naive image, and what it carries."""
        assert isinstance(self.aligner, FlowAligner)
        before = self.generator.prefix(inversion.ws, self.fusion_start)
        images = self.low_fidelity(inversion.naive), self.low_fidelity(naive)
        return self.aligner(inversion.residual, *images, before.x, state.x)

    def carry(self, residual: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """The rest of a residual [N, 3, R, R] when an edit turns the naive `before` into `after`."""
        return fade(residual, self.low_fidelity(before), self.low_fidelity(after))

    def _check(self, images: Tensor) -> None:
        expected = (3, self.generator.size, self.generator.size)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images must be [N, {', '.join(map(str, expected))}], not {list(images.shape)}")
