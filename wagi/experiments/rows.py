"""The rows of the paper's tables as settings, at any size.

The paper names layers by the index of their latent: l_f = 7, 9, 11 are features at 64, 128, 256 px and
l_w = 7, 9, 11, 13 wavelet coefficients at 32, 64, 128, 256 px (decision 1). A preset with other
levels keeps the paper's ratios to its own lowest feature level (decision 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wagi import config
from wagi.config import InversionConfig, ModelConfig

# Layer index -> its resolution as a multiple of the one with l_f = 7.
FEATURES = {7: 1.0, 9: 2.0, 11: 4.0}
WAVELETS = {7: 0.5, 9: 1.0, 11: 2.0, 13: 4.0}


@dataclass(frozen=True)
class Row:
    """One model of a table. Two rows with the same settings are the same model, whatever their labels."""

    label: str
    generator: str  # swagan | stylegan2
    features: tuple[int, ...]  # px
    wavelets: tuple[int, ...] = ()  # px
    wave_loss: bool = True

    def overrides(self, preset: str) -> dict[str, str]:
        """The row as `--set` texts of `python -m wagi.train inversion`."""
        model, train = config.settings(preset, "inversion")
        assert isinstance(train, InversionConfig)
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


def configuration(letter: str, preset: str) -> Row:
    """The paper's configuration A to D with the preset's levels."""
    model, train = config.settings(preset, "inversion", configuration=letter)
    assert isinstance(train, InversionConfig)
    return Row(letter, model.generator, model.feature_levels, model.wavelet_levels, train.lambda_wave > 0)


def layers(
    label: str, preset: str, generator: str, features: Sequence[int], wavelets: Sequence[int] = ()
) -> Row:
    """A row by the paper's layer indices; HFGI's rows (StyleGAN2) are trained without the wavelet loss."""
    model, _ = config.settings(preset, "inversion")
    lowest = model.feature_levels[0]
    return Row(
        label,
        generator,
        tuple(int(lowest * FEATURES[index]) for index in features),
        tuple(int(lowest * WAVELETS[index]) for index in wavelets),
        wave_loss=generator == "swagan",
    )


def possible(rows: Sequence[Row], preset: str) -> tuple[list[Row], list[str]]:
    """The rows that exist at the preset's size, and a note on each that does not."""
    model, _ = config.settings(preset, "inversion")
    reasons = {row: row.missing(model) for row in rows}
    notes = [f"Row {row.label} does not exist here: {why}." for row, why in reasons.items() if why]
    return [row for row, why in reasons.items() if not why], notes


def relabelled(row: Row, label: str) -> Row:
    return replace(row, label=label)
