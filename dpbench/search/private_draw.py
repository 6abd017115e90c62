"""The draw of a private search, with the randomness of the system.

Papernot and Steinke 2022 ask that each run be the same mechanism: its setting and its seed are
drawn at random, with replacement and independently of the other runs, and so are its noise and its
batches, when it is trained.
"""

import secrets
from dataclasses import dataclass

import numpy as np

from dpbench.privacy import run_count
from dpbench.privacy.run_count import RunCount

_SEEDS = 2**53  # so many that no two runs share one, and that JSON readers keep their digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Some runs.

    Attributes:
        points: Of each run, a point of the unit cube.
        seeds: Of each run, of its initial weights.
        score_draws: Of each run, a standard normal number.
    """

    points: tuple[tuple[float, ...], ...]
    seeds: tuple[int, ...]
    score_draws: tuple[float, ...]


def draw(count: RunCount, dimensions: int) -> Draw:
    """A draw that nobody can predict or repeat.

    Args:
        count: The distribution of the number of runs.
        dimensions: Of the unit cube.
    """
    random = np.random.default_rng(secrets.randbits(256))
    runs = run_count.draw(count, random)
    return Draw(
        points=tuple(tuple(point) for point in random.random((runs, dimensions)).tolist()),
        seeds=tuple(random.integers(_SEEDS, size=runs).tolist()),
        score_draws=tuple(random.standard_normal(runs).tolist()),
    )
