"""The noise multiplier that a target epsilon needs. No torch."""

import math
from collections.abc import Callable
from functools import cache

from dpbench.errors import BadInput
from dpbench.privacy import accounting, user_cache

NOISE_DIGITS = 4  # a solved noise multiplier is rounded up to so many decimals
_NAME = "solved_noise_multiplier"
_RECIPE = 1  # of this module and of the accountants: raise it where they give another noise
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
    return _least_noise(target_epsilon, sample_rate, steps, delta, shuffled_epochs)


@cache
def _least_noise(
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    shuffled_epochs: int | None,
) -> float:
    """As `noise_multiplier_for`; what was solved before is checked and not solved again.

    A search asks for few noise multipliers, and for each many times: each takes half a second.
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

    asked = {
        "target_epsilon": target_epsilon,
        "sample_rate": sample_rate,
        "steps": steps,
        "delta": delta,
        "shuffled_epochs": shuffled_epochs,
    }
    kept = user_cache.read(_NAME, asked, _versions())
    in_reach = kept is not None and LEAST_SOLVED_NOISE <= kept <= MOST_SOLVED_NOISE
    if kept is not None and in_reach and epsilon(kept) <= target_epsilon:
        return kept
    _refuse_out_of_reach(epsilon, target_epsilon)
    scale: int = 10**NOISE_DIGITS
    ticks = math.ceil(_solved(epsilon, estimate, target_epsilon) * scale)
    while epsilon(ticks / scale) > target_epsilon:
        ticks += 1
    user_cache.keep(_NAME, asked, _versions(), ticks / scale)
    return ticks / scale


@cache
def _versions() -> tuple[str, ...]:
    """Of all that computes it."""
    return (f"{_RECIPE} {NOISE_DIGITS}", *user_cache.versions("dp-accounting", "numpy", "scipy"))


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
