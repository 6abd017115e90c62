"""The noise multiplier that a target epsilon needs. No torch."""

import math
from collections.abc import Callable

from dpbench.errors import BadInput
from dpbench.privacy import accounting

NOISE_DIGITS = 4  # a solved noise multiplier is rounded up to so many decimals
LEAST_SOLVED_NOISE, MOST_SOLVED_NOISE = 0.01, 10_000.0


def noise_multiplier_for(
    *,
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    shuffled_epochs: int | None = None,
) -> float:
    """The least noise multiplier, rounded up to four decimals, that spends at most the target.

    Epsilon at the result, by the accountant that writes a trial's rows, is at most target_epsilon.

    Args:
        target_epsilon: Above 0.
        sample_rate: Of Poisson batches.
        steps: Of Poisson batches.
        delta: In (0, 1).
        shuffled_epochs: Instead of Poisson batches, so many epochs of shuffled ones.

    Raises:
        BadInput: No noise multiplier from 0.01 to 10,000 spends about that much.
    """

    def epsilon(noise: float) -> float:
        if shuffled_epochs is not None:
            event = accounting.shuffled_event(noise_multiplier=noise, epochs=shuffled_epochs)
        else:
            event = accounting.poisson_event(
                noise_multiplier=noise, sample_rate=sample_rate, steps=steps
            )
        return accounting.account(event, delta).epsilon

    def estimate(noise: float) -> float:
        if shuffled_epochs is not None:
            return epsilon(noise)
        return accounting.estimate(
            noise_multiplier=noise, sample_rate=sample_rate, steps=steps, delta=delta
        )

    _refuse_out_of_reach(epsilon, target_epsilon)
    scale: int = 10**NOISE_DIGITS
    ticks = math.ceil(_solved(epsilon, estimate, target_epsilon) * scale)
    while epsilon(ticks / scale) > target_epsilon:
        ticks += 1
    return ticks / scale


def _refuse_out_of_reach(epsilon: Callable[[float], float], target: float) -> None:
    if (least := epsilon(MOST_SOLVED_NOISE)) > target:
        raise BadInput(
            f"Expected target_epsilon={target:g} to be one that noise can reach: noise multiplier "
            f"{MOST_SOLVED_NOISE:,.0f} still spends {least:.2g}."
        )
    if (most := epsilon(LEAST_SOLVED_NOISE)) <= target:
        raise BadInput(
            f"Expected target_epsilon={target:g} to be at most {most:.3g}, what noise multiplier "
            f"{LEAST_SOLVED_NOISE:g} spends; for less noise than that give --noise-multiplier."
        )


def _solved(
    epsilon: Callable[[float], float], estimate: Callable[[float], float], target: float
) -> float:
    """The noise at which epsilon is about the target: solved for the estimate, then corrected."""
    from scipy.optimize import brentq

    def log_ratio(log_noise: float) -> float:
        return math.log(max(estimate(math.exp(log_noise)), 1e-300) / target)

    low, high = math.log(LEAST_SOLVED_NOISE), math.log(MOST_SOLVED_NOISE)
    if log_ratio(low) <= 0:
        return LEAST_SOLVED_NOISE
    log_noise = float(brentq(log_ratio, low, high, xtol=1e-3))
    slope = (log_ratio(log_noise) - log_ratio(log_noise - 0.01)) / 0.01
    for _ in range(2):
        ratio = max(epsilon(math.exp(log_noise)) / target, 0.5)
        log_noise -= math.log(ratio) / slope
    return math.exp(log_noise)
