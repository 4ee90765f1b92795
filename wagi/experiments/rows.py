"""The rows of the paper's tables as settings, at any size.

The paper names layers by the index of their latent: l_f = 7, 9, 11 are features at 64, 128, 256 px and
l_w = 7, 9, 11, 13 wavelet coefficients at 32, 64, 128, 256 px (decision 1), of a residual at R = 256 px. At
other sizes a layer is that of the same share of R (decision 5): tables say so, with the pixels beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wagi.config import InversionConfig, ModelConfig
from wagi.presets import CONFIGURATIONS

# Layer index -> the divisor of R that gives its resolution.
FEATURES = {7: 4, 9: 2, 11: 1}
WAVELETS = {7: 8, 9: 4, 11: 2, 13: 1}


@dataclass(frozen=True)
class Row:
    """One model of a table. Two rows with the same settings are the same model, whatever their labels."""

    label: str
    generator: str  # swagan | stylegan2
    features: tuple[int, ...]  # px
    wavelets: tuple[int, ...] = ()  # px
    wave_loss: bool = True

    def overrides(self, model: ModelConfig, train: InversionConfig) -> dict[str, str]:
        """The row as `--set` texts of `python -m wagi.train inversion`, against the study's settings."""
        on = self.wave_loss
        return {
            "generator": self.generator,
            "feature_levels": ",".join(map(str, self.features)),
            "wavelet_levels": ",".join(map(str, self.wavelets)),
            "fusion_widths": ",".join(map(str, self._widths(model))),
            "lambda_wave": repr(train.lambda_wave if on else 0.0),
            "lambda_wave_ada": repr(train.lambda_wave_ada if on else 0.0),
        }

    def _widths(self, model: ModelConfig) -> tuple[int, ...]:
        """The preset's trunk, as wide below as at its end where a row fuses lower than the preset does."""
        layers = (model.resolution // min(self.features + self.wavelets)).bit_length()
        missing = layers - len(model.fusion_widths)
        return model.fusion_widths + model.fusion_widths[-1:] * max(0, missing)

    def missing(self, model: ModelConfig) -> str:
        """The reason that this size cannot have the row; empty when it can."""
        top = model.size if self.generator == "stylegan2" else model.size // 2
        for kind, levels in (("features", self.features), ("wavelets", self.wavelets)):
            for level in levels:
                if level > min(top, model.resolution):
                    return f"a {model.size} px {self.generator} generator has no {kind} at {level} px"
                if level < 8:
                    return f"{kind} at {level} px: the lowest fused level is 8 px"
        return ""


def shares(levels: Sequence[int], resolution: int) -> str:
    """Levels by their role, with the pixels: `R/4, R/2 (16, 32 px)`; `-` for none."""
    if not levels:
        return "-"
    named = (f"R/{resolution // level}" if level < resolution else "R" for level in levels)
    return f"{', '.join(named)} ({', '.join(map(str, levels))} px)"


def configuration(letter: str, model: ModelConfig) -> Row:
    """A configuration of table 2 with the paper's levels, whatever levels the preset fuses otherwise."""
    chosen = CONFIGURATIONS[letter]
    row = layers(
        letter, model, chosen["generator"], (7, 9)[: chosen["features"]], (11,) if chosen["wavelets"] else ()
    )
    return replace(row, wave_loss=chosen["wave_loss"])


def layers(
    label: str, model: ModelConfig, generator: str, features: Sequence[int], wavelets: Sequence[int] = ()
) -> Row:
    """A row by the paper's layer indices; HFGI's rows (StyleGAN2) are trained without the wavelet loss."""
    r = model.resolution
    lf, lw = tuple(r // FEATURES[i] for i in features), tuple(r // WAVELETS[i] for i in wavelets)
    return Row(label, generator, lf, lw, wave_loss=generator == "swagan")


def possible(rows: Sequence[Row], model: ModelConfig) -> tuple[list[Row], list[str]]:
    """The rows that exist at the model's size, and a note on each that does not."""
    reasons = {row: row.missing(model) for row in rows}
    notes = [f"Row {row.label} does not exist here: {why}." for row, why in reasons.items() if why]
    return [row for row, why in reasons.items() if not why], notes


def relabelled(row: Row, label: str) -> Row:
    return replace(row, label=label)
