"""Settings of StyleCLIP's latent optimisation and mapper, light enough for `--help`."""

from typing import NamedTuple


class Settings(NamedTuple):
    """Steps, their rate, and the weights of the step in the latents and of the identity."""

    steps: int
    learning_rate: float
    lambda_l2: float
    lambda_id: float


# The paper's and its public code's, but for a mapper's steps (50,000 there, of a 1024 px generator).
DEFAULTS = {"latent": Settings(300, 0.1, 0.008, 0.005), "mapper": Settings(1000, 0.5, 0.8, 0.1)}
