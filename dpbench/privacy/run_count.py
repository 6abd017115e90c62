"""The random number of runs of a search of which only the best is published. No torch, no numpy."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from dpbench.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

Distribution = Literal["poisson", "geometric", "logarithmic"]
DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)
# At a mean of 20 and a total epsilon of 3 on MNIST, a run may spend 0.81 with a Poisson number,
# 1.10 with a geometric and 1.31 with a logarithmic one; a run among the best tenth of settings is
# found with probability 0.86, 0.69 and 0.51. The geometric one is between the two, and never 0.
DEFAULT: Distribution = "geometric"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCount:
    """The distribution of the number of runs.

    Attributes:
        distribution: `poisson`, which can be 0: then nothing is trained or published. Or a
            truncated negative binomial, which is at least 1: `geometric` (eta 1) or `logarithmic`
            (eta 0), which costs least for the same mean and spreads most.
        mean: Of the number of runs, at least 1.
    """

    distribution: Distribution = DEFAULT
    mean: float

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise BadInput(
                f"Expected the distribution {self.distribution!r} of the number of runs to be one "
                f"of {', '.join(DISTRIBUTIONS)}."
            )
        if not 1 <= self.mean < math.inf:
            raise BadInput(f"Expected a mean number of runs of {self.mean:g} >= 1 and finite.")

    def __str__(self) -> str:
        return f"{self.distribution}:{self.mean:g}"

    @property
    def in_words(self) -> str:
        """For a sentence: geometric distribution with mean 20."""
        name = "Poisson" if self.distribution == "poisson" else self.distribution
        return f"{name} distribution with mean {self.mean:g}"

    @property
    def gamma(self) -> float:
        """Of the truncated negative binomial, in (0, 1], at most the one with that mean.

        The mean of the geometric distribution is 1 / gamma, that of the logarithmic one
        (1 / gamma - 1) / log(1 / gamma).
        """
        assert self.distribution != "poisson"
        if self.distribution == "geometric" or self.mean == 1:
            return 1 / self.mean
        from scipy.optimize import brentq

        def excess(log: float) -> float:  # log = log(1 / gamma)
            return math.expm1(log) / log - self.mean

        high = 1.0
        while excess(high) < 0:
            high *= 2
        log = float(brentq(excess, 1e-9, high, xtol=1e-15, rtol=1e-14))
        return math.exp(-log * (1 + 1e-12))  # on the side of more epsilon


def parsed(text: str) -> RunCount:
    """The distribution that a text such as `geometric:10` or `10` names.

    Raises:
        BadInput: It names none.
    """
    distribution, colon, mean = text.rpartition(":")
    try:
        number = float(mean)
    except ValueError:
        raise BadInput(
            f"Expected search={text!r} to be the mean number of runs, or their distribution and "
            f"its mean: 10 or {DEFAULT}:10, of {', '.join(DISTRIBUTIONS)}."
        ) from None
    return RunCount(distribution=distribution if colon else DEFAULT, mean=number)  # type: ignore[arg-type]  # checked there


def quantile(count: RunCount, probability: float) -> int:
    """The smallest number of runs that is not exceeded with that probability, in (0, 1)."""
    from scipy import stats

    if count.distribution == "poisson":
        return int(stats.poisson.ppf(probability, count.mean))
    if count.mean == 1:
        return 1
    if count.distribution == "geometric":
        return int(stats.geom.ppf(probability, 1 / count.mean))
    return int(stats.logser.ppf(probability, 1 - count.gamma))


def draw(count: RunCount, random: "np.random.Generator") -> int:
    """A number of runs.

    Args:
        count: Its distribution.
        random: The source of randomness. The guarantee needs one that nobody can predict.
    """
    if count.distribution == "poisson":
        return int(random.poisson(count.mean))
    if count.mean == 1:
        return 1
    if count.distribution == "geometric":
        return int(random.geometric(1 / count.mean))
    return int(random.logseries(1 - count.gamma))
