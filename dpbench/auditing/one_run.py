"""A lower bound on epsilon from guesses at which canaries were trained on.

The game of Steinke, Nasr and Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023:
each of m canaries is trained on with probability 1/2, by its own coin. An adversary that has seen
the run guesses a number of coins that is fixed beforehand, and abstains on the others. Privacy
bounds how many guesses can be right, so many right guesses bound privacy from below. The bounds
depend on the guesses alone, not on how a run is made.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

from dpbench.auditing.trade_off import Curve

MOST_EPSILON = 64.0  # no audit has canaries for more
NOISE_STEPS = 10  # bisections of the noise multiplier, each halving its ratio to the answer
NOISE_SPAN = 64.0  # noise multipliers are looked for so many times below and above the claimed one


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """One run's score.

    Attributes:
        canaries: m, each in or out by a fair coin of its own.
        made: Guesses, a number that does not depend on the run; at most `canaries`.
        right: Of those, how many.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries:
            raise ValueError(f"Expected {self} to have 0 <= right <= made <= canaries.")


def guess(scores: NDArray[np.float64], coins: NDArray[np.bool_], fraction: float) -> Guesses:
    """The highest scores guessed in, as many of the lowest out, `fraction` of all in sum.

    Args:
        scores: Of each canary, made without a look at the coins, [m].
        coins: Whether each was in, [m].
        fraction: Of canaries to guess, in (0, 1]; at least one in and one out are.
    """
    each = max(1, int(len(scores) * fraction / 2))
    order = np.argsort(scores, kind="stable")
    right = int((~coins[order[:each]]).sum() + coins[order[-each:]].sum())
    return Guesses(canaries=len(scores), made=2 * each, right=right)


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """The most probable that so many right guesses are under (epsilon, delta)-DP.

    Steinke et al. 2023, theorem 5.2 and the program of appendix D: the count is at most
    Binomial(made, e^epsilon / (1 + e^epsilon)), but for a part that grows with delta.
    """
    made, right = guesses.made, guesses.right
    accuracy = float(expit(epsilon))
    at_least = float(binom.sf(right - 1, made, accuracy))
    fewer = np.arange(1, right + 1)
    between = binom.sf(right - 1 - fewer, made, accuracy) - at_least
    slope = float(np.max(between / fewer, initial=0.0))
    return min(1.0, at_least + 2 * guesses.canaries * delta * slope)


def epsilon_bound(runs: Sequence[Guesses], *, delta: float, confidence: float) -> float:
    """A lower bound on epsilon at delta, of any mechanism; 0 where no epsilon is refuted.

    The runs are one mechanism with the canaries of all, which the theorem covers unchanged.
    """
    pooled = Guesses(
        canaries=sum(run.canaries for run in runs),
        made=sum(run.made for run in runs),
        right=sum(run.right for run in runs),
    )
    refuted, open_ = 0.0, MOST_EPSILON
    if p_value(pooled, refuted, delta) > 1 - confidence:
        return 0.0
    while open_ - refuted > 1e-4:
        middle = (refuted + open_) / 2
        if p_value(pooled, middle, delta) <= 1 - confidence:
            refuted = middle
        else:
            open_ = middle
    return refuted


def refutes(guesses: Guesses, least_other: Callable[[float], float], significance: float) -> bool:
    """Whether so many right guesses have less than this probability under a trade-off function.

    Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One Run", 2024, algorithm
    3: with c the count of right guesses, compare r(j) = E[c; c >= j] / m with
    h(j) = E[made - c; c >= j] / m. A right guess turns wrong when its canary's coin is turned, so
    h(j - 1) >= least_other(r(j)). If P(c >= right) were `significance`, these would add up to more
    guesses than were made.

    Args:
        guesses: Of one run.
        least_other: From an event's probability to the least that it has on any neighbouring
            dataset: f(1 - probability), convex and increasing.
        significance: In (0, 1).
    """
    made, m = guesses.made, guesses.canaries
    right = significance * guesses.right / m
    wrong = significance * (made - guesses.right) / m
    for count in range(guesses.right - 1, -1, -1):
        least = least_other(min(right, 1.0))
        if least > wrong:
            right += count / (made - count) * (least - wrong)
            wrong = least
        if right + wrong > made / m:
            return True
    return False


def noise_bound(
    runs: Sequence[Guesses],
    curve: Callable[[float], Curve],
    *,
    claimed: float,
    confidence: float,
) -> float | None:
    """The least noise multiplier that the runs refute, and with it every larger one; or None.

    The runs are independent. If the claim holds, each refutes it with probability at most
    (1 - confidence)^(1 / runs), and so all of them with at most 1 - confidence. That is tighter
    than one run of as many canaries: the algorithm above pays for a small significance by taking
    the trade-off function at a small probability, where it allows most.

    Args:
        runs: At least one.
        curve: Of the mechanism with a noise multiplier.
        claimed: The noise multiplier to look around.
        confidence: In (0, 1).
    """
    significance = (1 - confidence) ** (1 / len(runs))

    def all_refute(noise_multiplier: float) -> bool:
        at = curve(noise_multiplier)
        return all(refutes(run, at.least_other, significance) for run in runs)

    refuted, open_ = claimed * NOISE_SPAN, claimed / NOISE_SPAN
    if not all_refute(refuted):
        return None
    if not all_refute(claimed):
        open_ = claimed
    else:
        refuted = claimed
    for _ in range(NOISE_STEPS):
        middle = math.sqrt(refuted * open_)
        if all_refute(middle):
            refuted = middle
        else:
            open_ = middle
    return refuted
