"""The systems of Table 1 as settings of our own code, each one run or optimisation on the same G0 and E0."""

from dataclasses import dataclass, fields, replace

from wagi.config import STAGE_CONFIGS, InversionConfig, ModelConfig
from wagi.experiments import rows

RESTYLE_STEPS = 5
INTEREST = "2,3,4,5"  # skin, eyes, mouth, hair
LATENTS, PTI = "latent optimisation", "PTI"
BASELINES = ("pSp", "e4e", "ReStyle (e4e)", "HyperStyle", "HFGI", "WaGI")  # the paper's own, in its order


@dataclass(frozen=True)
class System:
    """One row: a stage of wagi.train with its `--set` texts, or an optimisation (`stage` is empty)."""

    label: str
    generator: str
    stage: str
    overrides: tuple[tuple[str, str], ...] = ()


def systems(model: ModelConfig, inversion: InversionConfig) -> list[System]:
    """Every system that can be trained or run with these settings, in the paper's order, ours at the end."""
    found = [*_encoders(model), _system("HyperStyle", "hypernetwork", {})]
    for label, letter in (("HFGI", "A"), ("WaGI", "D")):
        row = rows.configuration(letter, model)
        found.append(
            System(label, row.generator, "inversion", tuple(row.overrides(model, inversion).items()))
        )
    return [*found, System(LATENTS, "stylegan2", ""), System(PTI, "stylegan2", "")]


def _system(label: str, stage: str, overrides: dict[str, str]) -> System:
    """A baseline on StyleGAN2, without what is WaGI's or this project's."""
    common = {"generator": "stylegan2", "wavelet_levels": "", "region_weights": "", "lambda_wave": "0.0"}
    return System(label, "stylegan2", stage, tuple({**common, **overrides}.items()))


def _encoders(model: ModelConfig) -> list[System]:
    small = model.encoder.startswith("small")
    psp = {"encoder": "small-psp" if small else "psp", "lambda_adv": "0.0", "lambda_delta": "0.0",
           "progressive_start": "0"}  # fmt: skip
    # As e4e's recipe has it, which presets for portraits leave out.
    e4e = {"encoder": "small" if small else "e4e", "lambda_adv": "0.1", "lambda_delta": "0.0002"}
    steps = {"restyle_steps": str(RESTYLE_STEPS)}
    return [
        _system("pSp", "encoder", psp),
        _system("e4e", "encoder", e4e),
        _system("ReStyle (pSp)", "encoder", psp | steps),
        _system("ReStyle (e4e)", "encoder", e4e | steps),
        _system("IntereStyle's loss", "encoder", psp | steps | {"interest": INTEREST}),
    ]


def budgeted(system: System, kimg: float, seed: int, more: dict[str, str]) -> System:
    """The system with its length and seed; `more` are settings of stages that have them."""
    has = {f.name for part in (ModelConfig, STAGE_CONFIGS[system.stage]) for f in fields(part)}
    own = {name: text for name, text in more.items() if name in has} | dict(system.overrides)
    own |= {"kimg": repr(kimg), "seed": str(seed)}
    return replace(system, overrides=tuple(own.items()))


def asked(text: str) -> list[str]:
    """The labels that --systems names, by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
