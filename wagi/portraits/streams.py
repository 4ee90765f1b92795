"""Random streams: one for each component of each portrait."""

import zlib

import numpy as np


def stream(seed: int, component: str) -> np.random.Generator:
    """The random stream of one component of one portrait: editing another component cannot disturb it."""
    return np.random.default_rng([seed, zlib.crc32(component.encode())])


def portrait_seed(seed: int, index: int) -> int:
    """The seed of portrait `index` of a data set: depends on both numbers and on nothing else."""
    return int(np.random.SeedSequence([seed, index]).generate_state(2, np.uint32).view(np.uint64)[0])
