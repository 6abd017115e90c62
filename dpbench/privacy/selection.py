"""The privacy of a search: a random number of private runs, of which only the best is published.

Papernot and Steinke 2022, "Hyperparameter Tuning with Renyi Differential Privacy". A run draws a
setting at random, with replacement, trains it and scores it. The number of runs K is drawn from a
known distribution, and neither K nor the other runs are published. A fixed number of runs has no
bound this good. No torch.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpbench.errors import BadInput
from dpbench.privacy import accountants, calibration
from dpbench.privacy.run_count import RunCount

_SHAPES = {"geometric": 1.0, "logarithmic": 0.0}  # eta of the truncated negative binomial


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run's mechanism, as `accounting.spent` takes it."""

    noise_multiplier: float
    sample_rate: float
    steps: int


def worst(runs: Collection[Run]) -> list[Run]:
    """The runs of which no other has at most as much noise in at least as many steps."""
    found: list[Run] = []
    for run in sorted(
        set(runs), key=lambda run: (run.sample_rate, run.noise_multiplier, -run.steps)
    ):
        last = found[-1] if found else None
        if last is None or last.sample_rate != run.sample_rate or run.steps > last.steps:
            found.append(run)
    return found


def epsilon(runs: Collection[Run], count: RunCount, *, delta: float) -> float:
    """Epsilon of publishing only the best of a random number of runs.

    Neighbours and unit are those of the runs: Poisson batches, one example added or removed. It
    covers the examples trained on. Where the score is computed on held-out examples, those are not
    covered.

    Args:
        runs: One for each setting that a run may draw, at least one. The bound is that of the
            largest Renyi divergence at each order.
        count: The distribution of the number of runs.
        delta: In (0, 1).
    """
    return _epsilon(_divergences(runs), count, delta)


def score_noise(runs: Collection[Run]) -> float:
    """The noise for the number of right answers on held-out examples that costs nothing more.

    The standard deviation of a Gaussian, rounded up to two decimals. An example that is held out
    changes that number by at most 1 and no model, and one that is trained on changes the model and
    no other number: so a run with its noisy number has the larger of the two Renyi divergences. At
    this noise that of the number, order / (2 noise^2), is nowhere above that of the training.

    Args:
        runs: As of `epsilon`.
    """
    orders = np.array(accountants.RDP_ORDERS)
    least = float(np.max(np.sqrt(orders / (2 * _divergences(runs)))))
    return math.ceil(least * 100 + 1e-9) / 100


def epsilon_of_best(runs: Collection[Run], *, delta: float) -> float:
    """Epsilon of publishing only the best of as many runs on average as are given.

    The lower of the bounds for a Poisson and for a geometric number of runs. What is chosen by its
    mean over several seeds is one run, of all their steps.

    Args:
        runs: At least one.
        delta: In (0, 1).
    """
    one, mean = _divergences(runs), len(runs)
    return min(
        _epsilon(one, RunCount(distribution=distribution, mean=mean), delta)
        for distribution in ("poisson", "geometric")
    )


def noise_multipliers_for(
    total_epsilon: float, schedules: Collection[tuple[float, int]], count: RunCount, *, delta: float
) -> dict[tuple[float, int], float]:
    """The noise of every run, so that the whole search spends at most `total_epsilon`.

    Each schedule has about the least noise multiplier, of four decimals, whose search alone spends
    at most a common target. The target is `total_epsilon`, or less where the search over all
    schedules together would spend more.

    Args:
        total_epsilon: Above 0.
        schedules: (sample rate, steps) of each setting.
        count: The distribution of the number of runs.
        delta: In (0, 1).

    Raises:
        BadInput: No noise multiplier from 0.01 to 10,000 reaches it.
    """

    def solved(target: float) -> dict[tuple[float, int], float]:
        return {
            schedule: _noise_multiplier_for(target, total_epsilon, schedule, count, delta)
            for schedule in set(schedules)
        }

    target = total_epsilon
    noises = solved(target)
    while (spends := epsilon(_runs(noises), count, delta=delta)) > total_epsilon:
        target *= min(total_epsilon / spends, 0.999)
        noises = solved(target)
    return noises


def _noise_multiplier_for(
    target: float, asked: float, schedule: tuple[float, int], count: RunCount, delta: float
) -> float:
    sample_rate, steps = schedule

    def spends(noise: float, orders: tuple[float, ...] = accountants.RDP_ORDERS) -> float:
        one = accountants.rdp_of_a_step(noise, sample_rate, orders) * steps
        return accountants.rdp_epsilon(divergences_of_best(one, count, orders), delta, orders)

    low, high = calibration.LEAST_SOLVED_NOISE, calibration.MOST_SOLVED_NOISE
    if (least := spends(high)) > target:
        raise BadInput(
            f"Expected total_epsilon={asked:g} to be one that a search of {count.mean:g} runs on "
            f"average can reach: noise multiplier {high:,.0f} still spends {least:.2g}. Give a "
            "larger epsilon or a smaller mean."
        )
    few = accountants.FEW_RDP_ORDERS  # a bound that is a little above, in a tenth of the time
    above = _root(lambda noise: spends(noise, few), target, low, high)
    noise = _root(spends, target, max(low, 0.7 * above), above)
    scale: int = 10**calibration.NOISE_DIGITS
    ticks = math.ceil(noise * scale)
    while spends(ticks / scale) > target:
        ticks += 1
    return ticks / scale


def _root(spends: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The noise, to a few parts in 100,000, that spends the target; an end where none does."""
    from scipy.optimize import brentq

    def excess(log_noise: float) -> float:
        return math.log(max(spends(math.exp(log_noise)), 1e-300) / target)

    ends = math.log(low), math.log(high)
    if excess(ends[0]) <= 0:
        return low
    if excess(ends[1]) >= 0:
        return high
    return math.exp(float(brentq(excess, *ends, xtol=2e-5)))


def _runs(noises: dict[tuple[float, int], float]) -> list[Run]:
    return [
        Run(noise_multiplier=noise, sample_rate=rate, steps=steps)
        for (rate, steps), noise in noises.items()
    ]


def _divergences(runs: Collection[Run]) -> Any:
    """Of a run that draws one of the runs at random, at most; float64 [orders]."""
    return np.max(
        [
            accountants.rdp_of_a_step(run.noise_multiplier, run.sample_rate) * run.steps
            for run in worst(runs)
        ],
        axis=0,
    )


def divergences_of_best(
    one: Any, count: RunCount, orders: tuple[float, ...] = accountants.RDP_ORDERS
) -> Any:
    """Bounds on the Renyi divergences of the best run; float64 [orders].

    Args:
        one: Of a run; float64 [orders].
        count: The distribution of the number of runs.
        orders: Of the divergences, all above 1.
    """
    order = np.array(orders)
    of_mean = math.log(count.mean) / (order - 1)
    if count.distribution == "poisson":  # theorem 6
        return one + count.mean * _deltas(one, order) + of_mean
    eta = _SHAPES[count.distribution]  # theorem 2
    of_gamma = np.min((1 - 1 / order) * one - math.log(count.gamma) / order)
    return one + (1 + eta) * of_gamma + of_mean


def _epsilon(one: Any, count: RunCount, delta: float) -> float:
    return accountants.rdp_epsilon(divergences_of_best(one, count), delta)


def _deltas(one: Any, orders: Any) -> Any:
    """Of one run at epsilon log(1 + 1 / (order - 1)), for each order.

    Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential Privacy",
    proposition 12.
    """
    at = np.log1p(1 / (orders - 1))[:, None]
    log_deltas = (orders - 1) * (one - at) - np.log(orders) + (orders - 1) * np.log1p(-1 / orders)
    return np.exp(np.minimum(log_deltas.min(axis=1), 0.0))
