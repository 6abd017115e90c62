"""Confidence intervals of means and medians, and paired differences."""

import math
from dataclasses import dataclass
from functools import cache

import pandas as pd
from scipy import special  # scipy.stats takes a third of a second to import

CONFIDENCE = 0.95
MOST_WIDTH = 0.5  # of an interval of accuracy: one that holds half of the scale says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Test accuracy of one arm over that of another, paired by seed.

    Attributes:
        mean: Of the seeds' differences; a fraction.
        low: Lower end of its 95 % Student t interval; NaN for one seed, and where that is wider
            than MOST_WIDTH.
        high: Upper end.
        seeds: That both arms have.
    """

    mean: float
    low: float
    high: float
    seeds: int


def paired_difference(one: pd.DataFrame, other: pd.DataFrame) -> Difference:
    """How much more accurate `one` is than `other`, seed against the same seed.

    Equal seeds share initial weights and batches, so that what they share cancels.

    Args:
        one: One epoch of one arm's trials, a row a seed.
        other: As `one`, with at least one of its seeds.
    """
    accuracies = one.set_index("seed")["test_accuracy"], other.set_index("seed")["test_accuracy"]
    differences = (accuracies[0] - accuracies[1]).dropna()
    return difference(differences.mean(), differences.std(), len(differences))


def difference(mean: float, deviation: float, seeds: int) -> Difference:
    """The mean with its interval, of differences of so many seeds that deviate so much."""
    half = half_width(deviation, seeds)
    return Difference(mean=mean, low=mean - half, high=mean + half, seeds=seeds)


def half_width(deviation: float, seeds: int) -> float:
    """Of the Student t interval of a mean accuracy; NaN for one seed.

    NaN, too, where the interval is wider than MOST_WIDTH: two seeds that differ by 4 points or more
    say nothing beyond their range.
    """
    if seeds < 2:
        return math.nan
    half = _t_quantile(int(seeds) - 1) * float(deviation) / math.sqrt(seeds)
    return half if 2 * half <= MOST_WIDTH else math.nan


@cache
def _t_quantile(degrees: int) -> float:
    return float(special.stdtrit(degrees, (1 + CONFIDENCE) / 2))


def median_interval(ordered: list[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that covers the median with CONFIDENCE.

    The k-th smallest and k-th largest of n draws miss the median with probability
    2 P(Binomial(n, 1/2) < k), whatever the distribution (David and Nagaraja 2003, section 7.1).
    """
    n = len(ordered)
    at_most = special.bdtr(range(n), n, 0.5)  # P(Binomial(n, 1/2) <= 0, 1, ...)
    k = max(1, int((at_most < (1 - CONFIDENCE) / 2).sum()))
    return ordered[k - 1], ordered[n - k]
